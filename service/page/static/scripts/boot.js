// Runs before the first paint: sets the theme that the user chose last, or the system's.
document.documentElement.dataset.theme = localStorage.getItem("theme") ?? "auto";

// Without one of its modules the page does not work. Chromium aborts requests when a network interface appears or
// disappears, which happens when containers start and stop. So reload the page, at most five times.
addEventListener(
  "error",
  ({ target }) => {
    const loads = Number(sessionStorage.getItem("loads") ?? 0);
    if (target?.localName !== "script" || loads >= 5) return;
    sessionStorage.setItem("loads", String(loads + 1));
    location.reload();
  },
  true,
);
