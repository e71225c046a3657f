// Helpers of the other modules: elements, text that is safe to show, sizes and times.

const SVG = "http://www.w3.org/2000/svg";

/** Creates an element. Properties that are functions become listeners; `true` and text become attributes. */
export function el(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (typeof value === "function") element.addEventListener(name, value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

/** Creates an icon from a symbol in index.html. */
export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  const use = document.createElementNS(SVG, "use");
  use.setAttribute("href", `#i-${name}`);
  svg.append(use);
  return svg;
}

export function button(name, label, click, properties = {}) {
  return el("button", { type: "button", class: "quiet", title: label, "aria-label": label, click, ...properties }, icon(name));
}

export const byId = (id) => document.getElementById(id);

// Control characters, characters that change the direction of text, and invisible characters.
const UNSEEN = /[\u0000-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]|\p{Surrogate}/gu;

/** Creates an element that shows an untrusted name on one line, with invisible characters as `U+…`. */
export function printable(name) {
  const whole = el("bdi", { class: "name" });
  let end = 0;
  for (const found of name.matchAll(UNSEEN)) {
    const code = found[0].codePointAt(0).toString(16).toUpperCase().padStart(4, "0");
    whole.append(name.slice(end, found.index), el("span", { class: "unseen" }, `U+${code}`));
    end = found.index + found[0].length;
  }
  whole.append(name.slice(end));
  return whole;
}

/** Returns the text of `printable(name)`, for labels and titles. */
export const plain = (name) => printable(name).textContent;

/** Returns a message with invisible characters replaced, except line feeds. */
export const message = (text) => String(text).replace(UNSEEN, (character) => (character === "\n" ? "\n" : "\ufffd"));

/** Returns a safe file name for a download. */
export const fileName = (path) => path.split("/").pop().replace(UNSEEN, "_") || "file";

export function size(bytes) {
  if (bytes < 1000) return `${bytes} B`;
  const units = ["kB", "MB", "GB", "TB"];
  let value = bytes / 1000;
  let unit = 0;
  while (value >= 999.5 && unit < units.length - 1) {
    value /= 1000;
    unit += 1;
  }
  return `${value < 10 ? value.toFixed(1) : Math.round(value)} ${units[unit]}`;
}

/** Formats a duration in milliseconds, such as `1.5 s` or `2 h 5 min`. */
export function lasting(ms) {
  if (ms < 1000) return `${Math.round(ms)} ms`;
  const seconds = ms / 1000;
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  if (seconds < 90) return `${Math.round(seconds)} s`;
  const minutes = Math.round(seconds / 60);
  if (minutes < 90) return `${minutes} min`;
  return `${Math.floor(minutes / 60)} h ${minutes % 60 ? `${minutes % 60} min` : ""}`.trim();
}

/** Lets the browser save a blob as a file. */
export function save(blob, name) {
  const url = URL.createObjectURL(blob);
  const link = el("a", { href: url, download: fileName(name), hidden: true });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}

export const wait = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
