// Keys outside the editors, the same as in Jupyter, and the list of all keys.

import { byId, el } from "../scripts/dom.js";

const TWICE_MS = 800;

const HELP = {
  "In a cell": {
    "Shift Enter": "run, and select the next cell",
    "Ctrl Enter": "run, and stay in the cell",
    "Alt Enter": "run, and insert a cell below",
    Tab: "complete a name; indent at the start of a line",
    "Shift Tab": "describe the name at the cursor; unindent at the start of a line",
    "Ctrl /": "comment or uncomment lines",
    Esc: "leave the cell; Tab then moves through the page",
  },
  "With a cell selected": {
    Enter: "edit the cell",
    "↑ ↓": "previous and next cell; also k and j",
    "a b": "insert a cell above or below",
    "d d": "delete the cell; z restores it",
    "x c v": "cut, copy, paste below",
    "Ctrl Shift ↑ ↓": "move the cell",
    "i i": "interrupt the kernel",
    "0 0": "restart the kernel",
    "Ctrl s": "save as .ipynb",
    f: "files and sessions",
    "?": "show this list",
  },
};

export function listKeys() {
  const keys = (text) => text.split(" ").flatMap((key) => [el("kbd", {}, key), " "]);
  byId("keys").replaceChildren(
    ...Object.entries(HELP).map(([title, rows]) =>
      el(
        "section",
        {},
        el("h3", {}, title),
        el("dl", {}, ...Object.entries(rows).map(([key, does]) => el("div", {}, el("dt", {}, ...keys(key)), el("dd", {}, does)))),
      ),
    ),
  );
}

/** Handles keys outside the editors. `actions` are the page's functions that do not belong to the notebook. */
export function listen(notebook, actions) {
  const single = {
    Enter: () => notebook.select(notebook.selected, "edit"),
    ArrowUp: () => notebook.step(-1),
    ArrowDown: () => notebook.step(1),
    k: () => notebook.step(-1),
    j: () => notebook.step(1),
    a: () => notebook.select(notebook.insert({ before: notebook.selected }), "command"),
    b: () => notebook.select(notebook.insert({ after: notebook.selected }), "command"),
    z: () => notebook.restoreDeleted(),
    x: () => notebook.cut(notebook.selected),
    c: () => notebook.copy(notebook.selected),
    v: () => notebook.paste(notebook.selected),
    f: actions.panel,
    "?": actions.help,
    h: actions.help,
  };
  const double = { d: () => notebook.remove(notebook.selected), i: actions.interrupt, 0: actions.restart };
  const running = {
    "Shift+Enter": () => notebook.runAndStep(),
    "Control+Enter": () => notebook.runAndStay(),
    "Meta+Enter": () => notebook.runAndStay(),
    "Alt+Enter": () => notebook.runAndInsert(),
    "Control+Shift+ArrowUp": () => notebook.move(notebook.selected, -1),
    "Control+Shift+ArrowDown": () => notebook.move(notebook.selected, 1),
  };
  let last = { key: "", at: 0 };

  addEventListener("keydown", (event) => {
    const { key, target } = event;
    if ((event.ctrlKey || event.metaKey) && !event.altKey && key.toLowerCase() === "s") {
      event.preventDefault();
      actions.save();
      return;
    }
    const held = ["Control", "Shift", "Alt", "Meta"].filter((name) => event.getModifierState(name) && (name !== "Shift" || key.length > 1));
    const nowhere = target === document.body || target === notebook.element;
    if (!nowhere && !target.classList.contains("cell")) return;
    if (!notebook.selected || document.querySelector("dialog[open]")) return;
    const combined = [...held, key].join("+");
    let action = held.length ? running[combined] : single[key];
    if (!held.length && double[key]) {
      const again = last.key === key && event.timeStamp - last.at < TWICE_MS && !event.repeat;
      last = again ? { key: "", at: 0 } : { key, at: event.timeStamp };
      action = again ? double[key] : () => {};
    } else last = { key: "", at: 0 };
    if (!action) return;
    event.preventDefault();
    action();
  });
}
