// The outputs of a cell: text, images, frames, errors, and fields for `input()`.

import { button, el, message, plain, save } from "../scripts/dom.js";
import { frame } from "./frames.js";
import { Terminal } from "./terminal.js";

const IMAGES = ["image/png", "image/jpeg", "image/gif", "image/webp"];
/** Media types in order of preference. Other types are not shown. */
const KINDS = ["text/html", "text/markdown", "image/svg+xml", ...IMAGES, "application/json", "text/plain", "text/latex"];
const NOTHING = /^<IPython\.core\.display\./;
const MAX_MARKUP = 3_000_000;
const MAX_TEXT = 200_000;

export class Outputs {
  #displays = new Map();
  #urls = [];
  #terminal = null;
  #value = null;
  #clearsNext = false;

  constructor(api) {
    this.api = api;
    this.element = el("div", { class: "outputs", role: "group", "aria-label": "Outputs" });
  }

  get empty() {
    return !this.element.hasChildNodes();
  }

  clear() {
    for (const url of this.#urls.splice(0)) URL.revokeObjectURL(url);
    this.#displays.clear();
    this.#terminal = this.#value = null;
    this.#clearsNext = false;
    this.element.replaceChildren();
  }

  /** Removes what the code has shown; with `wait`, when the next text or display comes. */
  clearOutput(wait) {
    if (wait) this.#clearsNext = true;
    else this.clear();
  }

  print(stream, text) {
    if (!text) return;
    if (this.#clearsNext) this.clear();
    if (this.#terminal?.name !== stream) {
      this.#terminal = new Terminal(stream);
      const place = this.#add(this.#terminal.element);
      place.terminal = this.#terminal;
    }
    this.#terminal.write(text);
  }

  /** Shows a rich output in nbformat, or updates an earlier one. */
  display(output) {
    const id = output.transient?.display_id;
    const content = this.#rendered(output.data ?? {}, output.metadata ?? {});
    if (output.output_type === "update_display_data") {
      for (const place of this.#displays.get(id) ?? []) place.replaceChildren(...content());
      return;
    }
    if (this.#clearsNext) this.clear();
    const place = this.#add(...content());
    if (output.output_type === "execute_result") this.#value = { text: output.data?.["text/plain"] };
    if (id) this.#displays.set(id, [...(this.#displays.get(id) ?? []), place]);
    this.#terminal = null;
  }

  /** Called at the end of a run: removes duplicate text, and shows the error and what is missing. */
  finish({ error, truncated = [], skipped_files: skipped = [], state, state_reason: why, notice }) {
    if (typeof this.#value?.text === "string") this.#withoutEnd("stdout", `${this.#value.text}\n`);
    if (error) this.#fail(error);
    if (truncated.length) this.note(`Cut at the limit of output: ${truncated.join(", ")}.`);
    for (const { path, reason } of skipped) this.note(`${plain(path)} was not stored: ${message(reason)}.`);
    if (notice) this.note(`${message(notice)}.`, "warning");
    if (state === "restarted") this.note(`The variables are gone: ${message(why)}.`, "warning");
    for (const { terminal } of this.element.children) terminal?.draw();
  }

  #fail({ name, value, traceback }) {
    const text = traceback.length ? traceback.join("\n").replace(/\n+$/, "") : `${name}: ${value}`;
    // At a limit, the last line of stderr is the message in brackets.
    this.#withoutEnd("stderr", traceback.length ? `${text}\n` : `[${text}]\n`);
    const terminal = new Terminal("error");
    terminal.write(text);
    terminal.draw();
    this.#add(terminal.element);
  }

  /** Removes text from the end of a stream. The kernel also prints values and tracebacks, which have outputs of their own. */
  #withoutEnd(stream, end) {
    const places = [...this.element.children].filter((place) => place.terminal?.name === stream).reverse();
    if (!end || !places.map(({ terminal }) => terminal.text).reverse().join("").endsWith(end)) return;
    let left = end.length;
    for (const place of places) {
      const { text } = place.terminal;
      if (left < text.length) {
        place.terminal.rewrite(text.slice(0, text.length - left));
        return;
      }
      left -= text.length;
      place.remove();
      if (!left) return;
    }
  }

  note(text, kind = "") {
    this.#add(el("p", { class: `note ${kind}` }, text));
  }

  /** Shows a field for a line of input. `answer(text)` sends the line, and resolves to whether the service accepted it. */
  ask({ prompt, password }, answer) {
    this.#terminal = null;
    const input = el("input", {
      type: password ? "password" : "text",
      autocomplete: "off",
      autocapitalize: "off",
      spellcheck: "false",
      "aria-label": plain(prompt) || "Input",
    });
    const form = el(
      "form",
      {
        class: "ask",
        submit: async (event) => {
          event.preventDefault();
          input.disabled = true;
          const given = input.value;
          if (!(await answer(given))) {
            input.disabled = false;
            return;
          }
          place.remove();
          this.print("stdout", `${prompt}${password ? "••••" : given}\n`);
        },
      },
      el("label", {}, el("span", {}, message(prompt)), input),
      el("button", { type: "submit" }, "Send"),
    );
    const place = this.#add(form);
    place.classList.add("asks");
    input.focus({ preventScroll: true });
    place.scrollIntoView({ block: "nearest" });
  }

  stopAsking() {
    for (const place of this.element.querySelectorAll(".asks")) place.remove();
  }

  #add(...content) {
    const place = el("div", { class: "output" }, ...content);
    this.element.append(place);
    return place;
  }

  /** Returns a function that creates the elements for a MIME bundle. */
  #rendered(data, metadata) {
    const has = (mime) => data[mime] !== undefined && data[mime] !== null;
    const found = KINDS.find(has);
    // The plain text of an IPython LaTeX object is only its repr.
    const kind = found === "text/plain" && has("text/latex") && NOTHING.test(data[found]) ? "text/latex" : found;
    return () => {
      if (kind === undefined) return [this.#unshown(data)];
      const value = data[kind];
      if (kind === "application/json") return [this.#text(JSON.stringify(value, null, 2))];
      if (typeof value !== "string") return [this.#unshown(data)];
      if (IMAGES.includes(kind)) return [this.#image(kind, value, metadata[kind] ?? {}, data["text/plain"])];
      if (kind === "text/plain" || kind === "text/latex") return [this.#text(value)];
      if (value.length > MAX_MARKUP) return [this.#tooLarge(kind, value)];
      if (kind === "text/markdown") return [this.#markdown(value)];
      const svg = kind === "image/svg+xml";
      return [frame(value, svg ? "svg" : "html", svg ? "SVG output" : "HTML output")];
    };
  }

  #text(text) {
    const terminal = new Terminal("value");
    terminal.write(text.slice(0, MAX_TEXT));
    terminal.draw();
    const rest = text.length - MAX_TEXT;
    if (rest > 0) terminal.element.append(el("div", { class: "cut" }, `${rest.toLocaleString()} more characters.`));
    return terminal.element;
  }

  #image(kind, base64, { width, height }, alt) {
    let blob;
    try {
      const bytes = Uint8Array.from(atob(base64.replace(/\s/g, "")), (character) => character.charCodeAt(0));
      blob = new Blob([bytes], { type: kind });
    } catch {
      return el("p", { class: "note" }, "The image can't be displayed.");
    }
    const url = URL.createObjectURL(blob);
    this.#urls.push(url);
    const image = el("img", { src: url, alt: plain(String(alt ?? "Image output").slice(0, 300)) });
    if (Number.isInteger(width)) image.width = Math.min(width, 4000);
    if (Number.isInteger(height)) image.height = Math.min(height, 4000);
    const broken = () => image.replaceWith(el("p", { class: "note" }, "The image can't be displayed."));
    image.addEventListener("error", broken, { once: true });
    const download = () => save(blob, `image.${kind.split("/")[1]}`);
    return el("figure", {}, image, button("download", "Save the image", download, { class: "quiet over" }));
  }

  #markdown(text) {
    const place = el("div");
    import("../vendor/markdown.bundle.js").then(
      ({ marked }) => place.replaceWith(frame(marked.parse(text, { async: false }), "markdown", "Markdown output")),
      () => place.replaceWith(this.#text(text)),
    );
    return place;
  }

  #tooLarge(kind, text) {
    const keep = () => save(new Blob([text], { type: "text/plain" }), "output.txt");
    return el(
      "p",
      { class: "note" },
      `${kind} of ${Math.round(text.length / 1e6)} million characters is not shown. `,
      el("button", { type: "button", class: "link", click: keep }, "Save it as text"),
    );
  }

  #unshown(data) {
    const kinds = Object.keys(data).map(plain).join(", ");
    return el("p", { class: "note" }, kinds ? `${kinds} is not shown here.` : "Nothing to show.");
  }
}
