// Keys outside the editors, as Jupyter has them, and the list of them.

import { byId, el } from "./dom.js";

const TWICE_MS = 800;

const HELP = {
  "In a cell": {
    "Shift Enter": "run, and go on to the next",
    "Ctrl Enter": "run, and stay",
    "Alt Enter": "run, and insert a cell below",
    Tab: "complete a name; indent at the start of a line",
    "Shift Tab": "describe what stands at the cursor; unindent",
    "Ctrl /": "comment lines out and in",
    Esc: "out of the cell: Tab then moves through the page",
  },
  "Outside, with a cell selected": {
    Enter: "edit",
    "↑ ↓": "previous and next cell; k and j as well",
    "a b": "insert a cell above, below",
    "d d": "delete the cell; z brings it back",
    "x c v": "cut, copy, paste below",
    "Ctrl Shift ↑ ↓": "move the cell",
    "i i": "interrupt",
    "0 0": "restart the kernel",
    "Ctrl s": "save as .ipynb",
    f: "files and sessions",
    "?": "this list",
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

/** Listens; `actions` are those of the page as a whole. */
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
