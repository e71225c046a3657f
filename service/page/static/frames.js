// What code shows as HTML or SVG: each in a frame without an origin, of whose scripts none run. See frame.html.

import { el } from "./dom.js";

const MIN_HEIGHT = 16;
const MAX_HEIGHT = 1600;
const AGAIN_MS = 4000;
const contents = new WeakMap();
const loaded = new WeakSet();

/** A frame with `html` in it, as `kind`: `html`, `svg` or `markdown`. */
export function frame(html, kind, title) {
  const element = el("iframe", {
    class: "frame",
    sandbox: "allow-scripts",
    referrerpolicy: "no-referrer",
    title,
    src: "page/frame.html",
  });
  contents.set(element, { html, kind });
  // Its document can get lost on the way.
  setTimeout(() => loaded.has(element) || (element.src = "page/frame.html"), AGAIN_MS);
  return element;
}

/** Frames take the theme's colours when it changes. */
export function dressFrames() {
  for (const element of frames()) element.contentWindow?.postMessage({ theme: theme() }, "*");
}

const frames = () => document.querySelectorAll("iframe.frame");

function theme() {
  const style = getComputedStyle(document.documentElement);
  const value = (name) => style.getPropertyValue(name).trim();
  return { scheme: value("--scheme"), ink: value("--ink"), line: value("--line"), shade: value("--shade") };
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
