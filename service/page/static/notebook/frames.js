// Frames for HTML and SVG outputs. A frame has no origin and runs no scripts of the output. See frame.html.

import { el } from "../scripts/dom.js";
import { colourScheme } from "../scripts/theme.js";

const MIN_HEIGHT = 16;
const MAX_HEIGHT = 1600;
const AGAIN_MS = 4000;
const contents = new WeakMap();
const loaded = new WeakSet();

/** Creates a frame that shows `html`. `kind` is `html`, `svg` or `markdown`. */
export function frame(html, kind, title) {
  const element = el("iframe", {
    class: "frame",
    sandbox: "allow-scripts",
    referrerpolicy: "no-referrer",
    title,
    src: "page/frame.html",
  });
  contents.set(element, { html, kind });
  // Load the document again if the frame has not reported that it is ready.
  setTimeout(() => loaded.has(element) || (element.src = "page/frame.html"), AGAIN_MS);
  return element;
}

/** Sends the colours of the current theme to all frames. */
export function dressFrames() {
  for (const element of frames()) element.contentWindow?.postMessage({ theme: theme() }, "*");
}

const frames = () => document.querySelectorAll("iframe.frame");

function theme() {
  const style = getComputedStyle(document.documentElement);
  const value = (name) => style.getPropertyValue(name).trim();
  // The values have a light and a dark colour. The frame chooses one by the scheme.
  return { scheme: colourScheme(), ink: value("--ink"), line: value("--line"), shade: value("--shade") };
}

addEventListener("message", ({ source, data }) => {
  const element = [...frames()].find(({ contentWindow }) => contentWindow === source);
  if (!element) return;
  if (data?.ready) {
    loaded.add(element);
    source.postMessage({ theme: theme(), content: contents.get(element) }, "*");
  }
  if (typeof data?.height === "number") {
    element.style.height = `${Math.min(MAX_HEIGHT, Math.max(MIN_HEIGHT, Math.ceil(data.height)))}px`;
  }
});
