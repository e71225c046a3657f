// The theme: the user's choice, which boot.js applies before the first paint, or the system's.

import { byId } from "./dom.js";

const NAMES = { auto: "Theme: the system's", light: "Theme: light", dark: "Theme: dark" };
const { dataset } = document.documentElement;
const systemIsDark = matchMedia("(prefers-color-scheme: dark)");

/** Returns the colour scheme that is shown: `light` or `dark`. */
export function colourScheme() {
  const { theme } = dataset;
  if (theme === "light" || theme === "dark") return theme;
  return systemIsDark.matches ? "dark" : "light";
}

/** Changes to the next theme, and keeps it for later visits. */
export function turnTheme() {
  const themes = Object.keys(NAMES);
  dataset.theme = themes[(themes.indexOf(dataset.theme) + 1) % themes.length];
  localStorage.setItem("theme", dataset.theme);
  nameTheme();
}

/** Names the theme on its button. */
export function nameTheme() {
  const name = NAMES[dataset.theme];
  byId("theme").setAttribute("aria-label", name);
  byId("theme").title = name;
}

/** Calls `changed` when the system changes its theme. */
export const onSystemTheme = (changed) => systemIsDark.addEventListener("change", changed);
