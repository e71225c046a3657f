// Before anything is drawn: the theme that was chosen here last, if it was not the system's.
document.documentElement.dataset.theme = localStorage.getItem("theme") ?? "auto";

// A module that did not arrive leaves the page dead: a browser drops what is on its way when a network interface comes
// or goes, as they do beside containers. So it is loaded anew, but not for ever.
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
