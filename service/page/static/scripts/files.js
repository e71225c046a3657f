// The files of the session: upload, list, preview, download and delete.

import { ApiError } from "./api.js";
import { button, byId, el, icon, message, plain, printable, save, size } from "./dom.js";

const IMAGE = /\.(png|jpe?g|gif|webp|svg|bmp|ico|avif)$/i;
const TEXT = /\.(txt|csv|tsv|json|jsonl|md|py|log|ya?ml|toml|ini|xml|html?|css|js|sql|ipynb|tex)$/i;
const TYPES = { jpg: "jpeg", svg: "svg+xml", ico: "x-icon" };
const PREVIEW_TEXT = 64_000;
const PREVIEW_BYTES = 20_000_000;

export class Files {
  #shown = "";

  constructor({ api, session, trying, limits, notices, changed }) {
    Object.assign(this, { api, session, trying, limits, notices, changed });
    this.list = byId("files");
    this.uploads = byId("uploads");
    this.preview = byId("preview");
    const chooser = byId("chooser");
    byId("choose").addEventListener("click", () => chooser.click());
    chooser.addEventListener("change", () => {
      this.take([...chooser.files]);
      chooser.value = "";
    });
    this.preview.addEventListener("close", () => {
      URL.revokeObjectURL(this.#shown);
      byId("preview-content").replaceChildren();
    });
    this.#acceptDrops();
  }

  #acceptDrops() {
    const veil = byId("drop");
    let depth = 0;
    const carries = (event) => event.dataTransfer?.types.includes("Files");
    addEventListener("dragenter", (event) => {
      if (!carries(event)) return;
      event.preventDefault();
      depth += 1;
      veil.hidden = false;
    });
    addEventListener("dragover", (event) => carries(event) && event.preventDefault());
    addEventListener("dragleave", (event) => {
      if (carries(event) && (depth -= 1) <= 0) veil.hidden = true;
    });
    addEventListener("drop", (event) => {
      depth = 0;
      veil.hidden = true;
      if (!carries(event)) return;
      event.preventDefault();
      const entries = [...event.dataTransfer.items].map((item) => item.webkitGetAsEntry?.());
      const files = [...event.dataTransfer.files].filter((_, index) => !entries[index]?.isDirectory);
      if (files.length < event.dataTransfer.files.length) this.notices.say("files", "Folders can't be uploaded. Drop the files in them instead.");
      this.take(files);
    });
    addEventListener("paste", (event) => {
      const files = [...(event.clipboardData?.files ?? [])];
      if (files.length) {
        event.preventDefault();
        this.take(files);
      }
    });
  }

  path(name) {
    return `${this.session.path}/files/${name.split("/").map(encodeURIComponent).join("/")}`;
  }

  async take(files) {
    if (!files.length) return;
    this.changed();
    try {
      await this.session.ensure();
    } catch (error) {
      this.#fail("files", error);
      return;
    }
    for (const file of files) await this.#upload(file);
    await this.refresh();
  }

  async #upload(file) {
    const bar = el("progress", { max: "1", value: "0", "aria-label": `Upload of ${plain(file.name)}` });
    const aborted = new AbortController();
    const said = el("span", { class: "said" }, size(file.size));
    const cancel = button("close", "Cancel", () => aborted.abort());
    const row = el("li", { class: "upload" }, printable(file.name), said, cancel, bar);
    this.uploads.append(row);
    try {
      if (file.size > this.limits.max_file_bytes) {
        throw new ApiError(413, "file_too_large", `The file is larger than the limit of ${size(this.limits.max_file_bytes)}`);
      }
      const onProgress = (sent, total) => (bar.value = total ? sent / total : 1);
      await this.trying(() => this.api.upload(this.path(file.name), file, onProgress, aborted.signal));
      row.remove();
    } catch (error) {
      if (error.name === "AbortError") {
        row.remove();
        return;
      }
      this.session.check(error);
      row.classList.add("bad");
      said.textContent = message(error.message);
      bar.remove();
      cancel.replaceWith(button("close", "Dismiss", () => row.remove()));
    }
  }

  async refresh() {
    if (!this.session.id) {
      this.#show([]);
      return;
    }
    const { id } = this.session;
    try {
      const { files } = await this.api.json("GET", `${this.session.path}/files`);
      if (this.session.id === id) this.#show(files);
    } catch (error) {
      this.session.check(error);
    }
  }

  #show(files) {
    byId("no-files").hidden = files.length > 0;
    byId("files-count").textContent = files.length ? String(files.length) : "";
    this.list.replaceChildren(...files.slice(0, 500).map((file) => this.#row(file)));
    if (files.length > 500) this.list.append(el("li", { class: "faint" }, `and ${files.length - 500} more`));
  }

  #row({ path, size_bytes: bytes }) {
    const name = plain(path);
    const previews = bytes <= PREVIEW_BYTES && (IMAGE.test(path) || TEXT.test(path));
    const open = () => (previews ? this.#preview(path) : this.#download(path));
    const kind = IMAGE.test(path) ? "image" : "file";
    return el(
      "li",
      {},
      el(
        "button",
        { type: "button", class: "file", title: previews ? `Preview ${name}` : `Download ${name}`, click: open },
        icon(kind),
        printable(path),
        el("span", { class: "said" }, size(bytes)),
      ),
      button("download", `Download ${name}`, () => this.#download(path)),
      button("delete", `Delete ${name}`, () => this.#delete(path)),
    );
  }

  async #fetch(path) {
    return (await this.api.request("GET", this.path(path))).blob();
  }

  async #download(path) {
    try {
      save(await this.#fetch(path), path);
    } catch (error) {
      this.#fail("files", error);
    }
  }

  async #delete(path) {
    try {
      await this.api.request("DELETE", this.path(path));
    } catch (error) {
      this.#fail("files", error);
    }
    await this.refresh();
    byId("choose").focus();
  }

  async #preview(path) {
    try {
      const blob = await this.#fetch(path);
      const content = IMAGE.test(path) ? this.#picture(path, blob) : await excerpt(blob);
      byId("preview-name").replaceChildren(printable(path));
      byId("preview-content").replaceChildren(content);
      byId("preview-save").onclick = () => save(blob, path);
      this.preview.showModal();
    } catch (error) {
      this.#fail("files", error);
    }
  }

  /** Creates an image from a blob. In an `img` element, even an SVG runs no scripts and loads nothing. */
  #picture(path, blob) {
    const ending = path.split(".").pop().toLowerCase();
    this.#shown = URL.createObjectURL(new Blob([blob], { type: `image/${TYPES[ending] ?? ending}` }));
    const image = el("img", { src: this.#shown, alt: plain(path) });
    image.addEventListener("error", () => image.replaceWith(el("p", { class: "note" }, "The image can't be displayed.")));
    return image;
  }

  #fail(about, error) {
    this.session.check(error);
    this.notices.fail(about, error);
  }
}

async function excerpt(blob) {
  const text = await blob.slice(0, PREVIEW_TEXT).text();
  const more = blob.size > PREVIEW_TEXT ? `\n… ${size(blob.size - PREVIEW_TEXT)} more` : "";
  return el("pre", { class: "text", tabindex: "0" }, message(text) + more);
}
