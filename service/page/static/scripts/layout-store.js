// The layout of the notebook, which is kept in sessionStorage until the tab is closed.

const NAME = "notebook";
const DELAY_MS = 200;
let saving = null;

/** Returns the layout that was kept last, or an empty object. */
export function readLayout() {
  try {
    return JSON.parse(sessionStorage.getItem(NAME) ?? "{}");
  } catch {
    return {};
  }
}

/** Keeps what `layout()` returns. Changes that follow quickly are written once. */
export function keepLayout(layout) {
  clearTimeout(saving);
  saving = setTimeout(() => {
    try {
      sessionStorage.setItem(NAME, JSON.stringify(layout()));
    } catch {
      sessionStorage.removeItem(NAME);
    }
  }, DELAY_MS);
}
