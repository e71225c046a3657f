// What code shows as HTML or SVG: each in a frame without an origin, of whose scripts none run. See frame.html.

import { el } from "./dom.js";

const MIN_HEIGHT = 16;
const MAX_HEIGHT = 1600;
const contents = new WeakMap();

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
  if (data?.ready) source.postMessage({ theme: theme(), content: contents.get(element) }, "*");
  if (typeof data?.height === "number") {
    element.style.height = `${Math.min(MAX_HEIGHT, Math.max(MIN_HEIGHT, Math.ceil(data.height)))}px`;
  }
});
