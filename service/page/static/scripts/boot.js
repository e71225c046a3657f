// Runs first, before the first paint: sets the theme that the user chose last, or the system's.
document.documentElement.dataset.theme = localStorage.getItem("theme") ?? "auto";

// The page needs all its modules and style sheets. Chromium aborts requests when a network interface appears or
// disappears, which happens when containers start and stop. So reload the page, at most five times.
addEventListener(
  "error",
  ({ target }) => {
    const loads = Number(sessionStorage.getItem("loads") ?? 0);
    const isNeeded = target?.localName === "script" || target?.rel === "stylesheet";
    if (!isNeeded || loads >= 5) return;
    sessionStorage.setItem("loads", String(loads + 1));
    location.reload();
  },
  true,
);
