// Shows text as a terminal does: colours, carriage returns, overwritten lines. Keeps a limited number of lines.

import { el, save } from "../scripts/dom.js";

const MAX_LINES = 3000;
const MAX_LINE = 20_000;
const TOKEN = /\x1b\[([0-9;:?]*)[ -/]*([@-~])|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b[ -/]*[0-~]|[\r\n\b]|[^\x1b\r\n\b]+|\x1b/g;
const UNFINISHED = /\x1b(?:\[[0-9;:?]*[ -/]*|\][^\x07\x1b]*\x1b?)?$/;
const MAX_ESCAPE = 4096;
// Control characters without a meaning here. A tab is kept.
const CONTROL = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f]/g;
const PLAIN = Object.freeze({});

export class Terminal {
  /** The pieces of text that were written, unchanged. */
  #written = [];
  #lines = [{ runs: [], length: 0, element: null }];
  #row = 0;
  #column = 0;
  #style = PLAIN;
  #tail = "";
  #dirty = new Set();
  #dropped = 0;
  #drawing = null;

  constructor(name) {
    this.name = name;
    this.element = el("pre", { class: `text ${name}` });
  }

  get text() {
    return this.#written.join("");
  }

  write(text) {
    this.#written.push(text);
    text = this.#tail + text;
    this.#tail = "";
    const unfinished = UNFINISHED.exec(text);
    if (unfinished && text.length - unfinished.index < MAX_ESCAPE) {
      this.#tail = unfinished[0];
      text = text.slice(0, unfinished.index);
    }
    for (const [token, parameters, command] of text.matchAll(TOKEN)) this.#take(token, parameters, command);
    // A timer, because animation frames stop while the tab is hidden.
    this.#drawing ??= setTimeout(() => this.draw(), 30);
  }

  /** Replaces everything that was written with `text`. */
  rewrite(text) {
    this.#written = [];
    this.#lines = [{ runs: [], length: 0, element: null }];
    this.#row = this.#column = this.#dropped = 0;
    this.#style = PLAIN;
    this.#tail = "";
    this.#dirty.clear();
    this.element.replaceChildren();
    this.write(text);
    this.draw();
  }

  #take(token, parameters, command) {
    if (command === "m") this.#style = styled(this.#style, parameters);
    else if (command !== undefined) this.#move(command, Number.parseInt(parameters, 10));
    else if (token === "\n") this.#newLine();
    else if (token === "\r") this.#column = 0;
    else if (token === "\b") this.#column = Math.max(0, this.#column - 1);
    else if (!token.startsWith("\x1b")) this.#put(token.replace(CONTROL, ""));
  }

  #move(command, parameter) {
    const count = Number.isFinite(parameter) ? Math.max(1, parameter) : 1;
    if (command === "A") this.#row = Math.max(0, this.#row - count);
    else if (command === "B") this.#row = Math.min(this.#lines.length - 1, this.#row + count);
    else if (command === "C") this.#column = Math.min(MAX_LINE, this.#column + count);
    else if (command === "D") this.#column = Math.max(0, this.#column - count);
    else if (command === "G") this.#column = Math.min(MAX_LINE, count - 1);
    else if (command === "K") this.#erase(Number.isFinite(parameter) ? parameter : 0);
  }

  #erase(what) {
    const line = this.#lines[this.#row];
    if (what === 0) line.runs = cut(line.runs, 0, this.#column);
    else if (what === 2) line.runs = [];
    else return;
    line.length = what === 0 ? Math.min(line.length, this.#column) : 0;
    this.#dirty.add(line);
  }

  #newLine() {
    this.#column = 0;
    this.#row += 1;
    if (this.#row < this.#lines.length) return;
    const line = { runs: [], length: 0, element: null };
    this.#lines.push(line);
    this.#dirty.add(line);
    // Drop a hundred lines at once, which is faster than one by one.
    if (this.#lines.length <= MAX_LINES + 100) return;
    for (const old of this.#lines.splice(0, 100)) {
      this.#dirty.delete(old);
      old.element?.remove();
    }
    this.#row -= 100;
    this.#dropped += 100;
  }

  #put(text) {
    const line = this.#lines[this.#row];
    text = text.slice(0, Math.max(0, MAX_LINE - this.#column));
    if (!text) return;
    if (this.#column > line.length) {
      line.runs.push([" ".repeat(this.#column - line.length), PLAIN]);
      line.length = this.#column;
    }
    const end = this.#column + text.length;
    const last = line.runs.at(-1);
    if (this.#column < line.length) {
      line.runs = [...cut(line.runs, 0, this.#column), [text, this.#style], ...cut(line.runs, end, line.length)];
    } else if (last && last[1] === this.#style) last[0] += text;
    else line.runs.push([text, this.#style]);
    line.length = Math.max(line.length, end);
    this.#column = end;
    this.#dirty.add(line);
  }

  /** Updates the elements of the lines that have changed. */
  draw() {
    clearTimeout(this.#drawing);
    this.#drawing = null;
    if (this.#dropped && this.element.firstChild?.className !== "cut") {
      const keep = () => save(new Blob([this.text], { type: "text/plain" }), `${this.name}.txt`);
      const all = el("button", { type: "button", class: "link", click: keep }, "Save the whole text");
      this.element.prepend(el("div", { class: "cut" }, "The beginning is not shown. ", all));
    }
    for (const line of this.#lines) {
      if (line.element && !this.#dirty.has(line)) continue;
      const runs = line.runs.map(([text, style]) => (style === PLAIN ? text : dressed(text, style)));
      if (!line.element) {
        line.element = el("div");
        this.element.append(line.element);
      }
      line.element.replaceChildren(...(line.length ? runs : ["\n"]));
      line.element.hidden = false;
    }
    // Hide the empty line after the last line feed.
    const last = this.#lines.at(-1);
    last.element.hidden = !last.length && this.#lines.length > 1;
    this.#dirty.clear();
  }
}

/** Returns the part of the runs from character `start` to `end`. */
function cut(runs, start, end) {
  const kept = [];
  let at = 0;
  for (const [text, style] of runs) {
    const part = text.slice(Math.max(0, start - at), Math.max(0, end - at));
    if (part) kept.push([part, style]);
    at += text.length;
  }
  return kept;
}

const SWITCHES = {
  1: { bold: true },
  2: { dim: true },
  3: { italic: true },
  4: { underline: true },
  7: { inverse: true },
  9: { struck: true },
  22: { bold: false, dim: false },
  23: { italic: false },
  24: { underline: false },
  27: { inverse: false },
  29: { struck: false },
  39: { front: null },
  49: { back: null },
};

function styled(style, parameters) {
  const codes = parameters.split(/[;:]/).map(Number);
  let next = style;
  for (let index = 0; index < codes.length; index += 1) {
    const code = codes[index];
    if (!code) next = PLAIN;
    else if (SWITCHES[code]) next = { ...next, ...SWITCHES[code] };
    else if (code === 38 || code === 48) {
      const [colour, used] = extended(codes.slice(index + 1));
      next = { ...next, [code === 38 ? "front" : "back"]: colour };
      index += used;
    } else {
      const bright = code >= 90;
      const base = bright ? code - 60 : code;
      if (base >= 30 && base <= 37) next = { ...next, front: base - 30 + (bright ? 8 : 0) };
      else if (base >= 40 && base <= 47) next = { ...next, back: base - 40 + (bright ? 8 : 0) };
    }
  }
  return next;
}

/** Returns an extended colour (one of 256, or RGB), and the number of codes that it used. */
function extended([kind, ...rest]) {
  const byte = (value) => Math.min(255, Math.max(0, value || 0));
  if (kind === 2) return [`rgb(${rest.slice(0, 3).map(byte).join(" ")})`, 4];
  const index = byte(rest[0]);
  if (kind !== 5 || index < 16) return [kind === 5 ? index : null, 2];
  if (index > 231) return [`rgb(${Array(3).fill(8 + 10 * (index - 232)).join(" ")})`, 2];
  const level = (value) => (value ? 55 + 40 * value : 0);
  const cube = index - 16;
  return [`rgb(${level(Math.floor(cube / 36))} ${level(Math.floor(cube / 6) % 6)} ${level(cube % 6)})`, 2];
}

function dressed(text, style) {
  const classes = ["bold", "dim", "italic", "underline", "struck"].filter((name) => style[name]);
  const span = el("span", { class: classes.join(" ") }, text);
  const [front, back] = style.inverse ? [style.back ?? "back", style.front ?? "front"] : [style.front, style.back];
  colour(span, "color", front);
  colour(span, "backgroundColor", back);
  return span;
}

function colour(span, property, value) {
  if (value === null || value === undefined) return;
  if (typeof value === "number") span.style[property] = `var(--ansi-${value})`;
  else if (value.startsWith("rgb")) span.style[property] = value;
  else span.style[property] = value === "back" ? "var(--surface)" : "var(--ink)";
}
