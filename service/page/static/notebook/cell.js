// One cell: its editor, its outputs, its state, and its buttons.

import { button, el, lasting } from "../scripts/dom.js";
import { createEditor } from "./editor.js";
import { Outputs } from "./outputs.js";

let made = 0;

export class Cell {
  /** `idle`, `queued`, `running`, `done`, `failed` or `lost`. */
  state = "idle";
  /** The execution count, shown in brackets. */
  count = null;
  /** The service's id of the latest run; null until it is known. */
  cellId = null;

  constructor({ code = "", notebook, api }) {
    made += 1;
    this.name = `Cell ${made}`;
    this.notebook = notebook;
    this.outputs = new Outputs(api);
    this.prompt = el("div", { class: "prompt", "aria-hidden": "true" });
    this.status = el("div", { class: "took" });
    this.element = el("section", { class: "cell", "aria-label": this.name, tabindex: "-1" });
    const edit = el("div", { class: "editor" });
    this.editor = createEditor({
      code,
      label: `Code of ${this.name}`,
      hint: matchMedia("(pointer: coarse)").matches ? "Python" : "Python: press Shift-Enter to run",
      keys: notebook.editorKeys(this),
      kernel: notebook.kernel,
      changed: () => notebook.changed(),
      focused: (is) => is && notebook.select(this, "edit"),
    });
    edit.append(this.editor.dom);
    this.element.append(this.prompt, edit, this.#tools(), this.outputs.element, this.status);
    this.element.cell = this;
    this.show();
  }

  #tools() {
    const { notebook } = this;
    return el(
      "div",
      { class: "tools", role: "toolbar", "aria-label": `${this.name}: actions` },
      button("run", "Run this cell", () => notebook.run(this), { class: "quiet run" }),
      button("up", "Move up", () => notebook.move(this, -1)),
      button("down", "Move down", () => notebook.move(this, 1)),
      button("add", "Insert a cell below", () => notebook.select(notebook.insert({ after: this }), "edit")),
      button("delete", "Delete this cell", () => notebook.remove(this)),
    );
  }

  get code() {
    return this.editor.state.doc.toString();
  }

  set code(code) {
    this.editor.dispatch({ changes: { from: 0, to: this.editor.state.doc.length, insert: code } });
  }

  get busy() {
    return this.state === "running" || this.state === "queued";
  }

  /** Removes the outputs and the count of the last run. */
  reset(state = "idle") {
    this.outputs.clear();
    this.count = this.cellId = null;
    this.status.textContent = "";
    this.become(state);
  }

  become(state) {
    this.state = state;
    this.show();
  }

  show() {
    const inside = this.busy ? "*" : (this.count ?? " ");
    this.prompt.textContent = `[${inside}]`;
    this.element.dataset.state = this.state;
    this.element.setAttribute("aria-busy", String(this.busy));
    const spoken = { queued: "queued", running: "running", failed: "failed", lost: "lost" }[this.state];
    this.element.setAttribute("aria-label", [this.name, spoken].filter(Boolean).join(", "));
  }

  /** Shows the result of a run. */
  end(result) {
    this.outputs.stopAsking();
    this.count = result.execution_count;
    this.cellId = result.cell_id ?? this.cellId;
    this.outputs.finish(result);
    this.status.textContent = lasting(result.duration_ms);
    this.become(result.error || result.exit_code ? "failed" : "done");
  }

  /** Shows an error of a run that has no result. */
  fail(text) {
    this.outputs.stopAsking();
    this.outputs.note(text, "bad");
    this.become("failed");
  }

  /** Shows a run with the outputs that the service stored. */
  restore({ cell_id: id, state, result, removed }) {
    this.reset(state === "running" ? "running" : state);
    this.cellId = id;
    if (result) {
      for (const output of result.outputs) {
        if (output.output_type === "stream") this.outputs.print(output.name, output.text);
        else this.outputs.display(output);
      }
      this.end(result);
    } else if (removed) this.outputs.note("The result of this run was removed, because the history was too large.", "warning");
    else if (state === "lost") this.outputs.note("The result of this run was lost.", "warning");
  }
}
