// The notebook: the cells in order, the selected cell, and the queue of cells to run.

import { byId, el, plain } from "../scripts/dom.js";
import { Cell } from "./cell.js";
import { stopCompleting } from "./editor.js";

export class Notebook {
  cells = [];
  selected = null;
  /** `command` or `edit`, as in Jupyter. */
  mode = "command";
  #queue = [];
  #running = null;
  #deleted = [];
  #clipboard = "";

  /** `execute(cell)` runs a cell to its end. `kernel` completes and describes names. `changed()` is called after changes. */
  constructor({ api, execute, kernel, changed }) {
    this.api = api;
    this.execute = execute;
    this.kernel = kernel;
    this.changed = changed;
    this.element = byId("cells");
    this.element.addEventListener("focusin", ({ target }) => {
      const cell = target.closest(".cell")?.cell;
      if (cell && !target.closest(".cm-editor")) this.select(cell, "command", { focus: false });
    });
    this.element.addEventListener("pointerdown", ({ target }) => {
      const element = target.closest(".cell");
      if (element && !target.closest("button, input, a, .cm-editor, .output")) this.select(element.cell, "command");
    });
  }

  get busy() {
    return this.#running !== null || this.#queue.length > 0;
  }

  // --- cells ------------------------------------------------------------------------------------

  insert({ after = this.cells.at(-1), before = null, code = "" } = {}) {
    const cell = new Cell({ code, notebook: this, api: this.api });
    return this.#place(cell, before ? this.cells.indexOf(before) : this.cells.indexOf(after) + 1);
  }

  #place(cell, index) {
    this.cells.splice(index, 0, cell);
    this.element.insertBefore(cell.element, this.element.children[index] ?? null);
    this.changed();
    return cell;
  }

  remove(cell) {
    if (cell.busy) return;
    const index = this.cells.indexOf(cell);
    this.cells.splice(index, 1);
    cell.element.remove();
    this.#deleted.push({ cell, index });
    if (!this.cells.length) this.insert();
    this.select(this.cells[Math.min(index, this.cells.length - 1)], "command");
    this.changed();
  }

  restoreDeleted() {
    const last = this.#deleted.pop();
    if (last) this.select(this.#place(last.cell, Math.min(last.index, this.cells.length)), "command");
  }

  cut(cell) {
    this.#clipboard = cell.code;
    this.remove(cell);
  }

  copy(cell) {
    this.#clipboard = cell.code;
  }

  paste(cell) {
    this.select(this.insert({ after: cell, code: this.#clipboard }), "command");
  }

  move(cell, by) {
    const from = this.cells.indexOf(cell);
    const to = from + by;
    if (to < 0 || to >= this.cells.length) return;
    this.cells.splice(from, 1);
    cell.element.remove();
    this.select(this.#place(cell, to), "command");
  }

  clear() {
    this.#queue = [];
    this.#deleted = [];
    this.cells = [];
    this.element.replaceChildren();
    this.selected = null;
  }

  // --- selection --------------------------------------------------------------------------------

  select(cell, mode, { focus = true } = {}) {
    if (this.selected !== cell) {
      this.selected?.element.classList.remove("selected");
      if (this.selected) this.selected.element.tabIndex = -1;
      this.selected = cell;
      cell.element.classList.add("selected");
      cell.element.tabIndex = 0;
    }
    this.mode = mode;
    this.element.dataset.mode = mode;
    if (!focus) return;
    if (mode === "edit") {
      if (!cell.editor.hasFocus) cell.editor.focus();
    } else cell.element.focus({ preventScroll: true });
    cell.element.scrollIntoView({ block: "nearest" });
  }

  leave(cell) {
    stopCompleting(cell.editor);
    this.select(cell, "command");
  }

  step(by, mode = "command") {
    const index = this.cells.indexOf(this.selected) + by;
    const cell = this.cells[index];
    if (!cell) return false;
    this.select(cell, mode);
    if (mode === "edit") {
      const end = by > 0 ? 0 : cell.editor.state.doc.length;
      cell.editor.dispatch({ selection: { anchor: end } });
    }
    return true;
  }

  /** Returns the notebook's key bindings for the editor of a cell. */
  editorKeys(cell) {
    const does = (action) => () => {
      action();
      return true;
    };
    const leave = (by) => (view) => {
      const { main } = view.state.selection;
      const line = view.state.doc.lineAt(main.head).number;
      const edge = by < 0 ? 1 : view.state.doc.lines;
      return main.empty && line === edge && this.step(by, "edit");
    };
    return [
      { key: "Shift-Enter", run: does(() => this.runAndStep(cell)) },
      { key: "Mod-Enter", run: does(() => this.runAndStay(cell)) },
      { key: "Alt-Enter", run: does(() => this.runAndInsert(cell)) },
      { key: "Escape", run: does(() => this.leave(cell)) },
      { key: "ArrowUp", run: leave(-1) },
      { key: "ArrowDown", run: leave(1) },
    ];
  }

  // --- running ----------------------------------------------------------------------------------

  runAndStep(cell = this.selected) {
    this.run(cell);
    if (cell === this.cells.at(-1)) this.select(this.insert({ after: cell }), "edit");
    else this.step(1);
  }

  runAndStay(cell = this.selected) {
    this.run(cell);
    this.select(cell, "command");
  }

  runAndInsert(cell = this.selected) {
    this.run(cell);
    this.select(this.insert({ after: cell }), "edit");
  }

  runAll() {
    for (const cell of this.cells) this.run(cell);
  }

  run(cell) {
    if (cell.busy || !cell.code.trim()) return;
    cell.reset("queued");
    this.#queue.push(cell);
    this.#work();
  }

  /** Empties the queue. The running cell is not affected. */
  drop() {
    for (const cell of this.#queue.splice(0)) cell.reset();
  }

  async #work() {
    if (this.#running) return;
    while ((this.#running = this.#queue.shift() ?? null)) {
      const cell = this.#running;
      const well = await this.execute(cell);
      this.changed();
      if (!well) this.drop();
    }
    this.changed();
  }

  // --- layout and stored runs -------------------------------------------------------------------

  /** Code and id of each cell. With the runs that the service stores, this restores the notebook. */
  get layout() {
    return this.cells.map(({ code, cellId }) => ({ code, cellId }));
  }

  /** Shows runs that the service stores. Ids in `seen` are shown already, or their cells were run again. */
  merge(runs, seen) {
    for (const run of runs) {
      // A cell that was running when the page was closed has no id yet. It is found by its code.
      const left = ({ cellId, state, code }) => cellId === null && state === "idle" && code === run.code;
      const known = this.cells.find(({ cellId }) => cellId === run.cell_id);
      const cell = known ?? (seen.has(run.cell_id) ? undefined : this.cells.find(left));
      if (cell) {
        if (cell.state !== "done" && cell.state !== "failed" && cell !== this.#running) cell.restore(run);
      } else if (!seen.has(run.cell_id)) {
        const last = this.cells.at(-1);
        const place = last && !last.code.trim() && !last.busy ? { before: last } : {};
        this.insert({ ...place, code: run.code }).restore(run);
      }
      seen.add(run.cell_id);
    }
  }
}

/** Creates the text and the example buttons that an empty notebook shows. */
export function examples(choose) {
  const chips = Object.entries(EXAMPLES).map(([name, code]) =>
    el("button", { type: "button", class: "chip", click: () => choose(code) }, plain(name)),
  );
  const how = matchMedia("(pointer: coarse)").matches
    ? ["Write code and tap the Run button."]
    : ["Write code and press ", el("kbd", {}, "Shift"), " ", el("kbd", {}, "Enter"), ". Drop files anywhere on the page."];
  return [
    el("h1", {}, "Python, kept in."),
    el("p", {}, "Each session has its own kernel in a locked-down container. ", ...how),
    el("p", { class: "chips" }, ...chips),
  ];
}

const EXAMPLES = {
  "A chart": `import numpy as np
import matplotlib.pyplot as plt

x = np.linspace(0, 4 * np.pi, 400)
fig, ax = plt.subplots(figsize=(7, 3))
for phase in range(5):
    ax.plot(x, np.sin(x + phase / 3) * np.exp(-x / 12), alpha=1 - phase / 6)
ax.set_title("Damped waves")
plt.show()`,
  "A table": `import numpy as np
import pandas as pd

rng = np.random.default_rng(7)
days = pd.date_range("2026-01-05", periods=6, freq="D")
pd.DataFrame(rng.integers(20, 90, (6, 4)), index=days, columns=["north", "east", "south", "west"])`,
  "A progress bar": `from time import sleep
from tqdm import tqdm

for step in tqdm(range(40), desc="working"):
    sleep(0.05)
"done"`,
};
