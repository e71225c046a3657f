// Runs cells: sends their code, shows the events as they arrive, and recovers when the connection breaks.

import { ApiError, events } from "./api.js";
import { plain, wait } from "./dom.js";

/** Number of polls that may fail because the service is unreachable. */
const PATIENCE = 60;

export class Runner {
  #following = null;

  /**
   * `trying(call)` repeats a call that the service refused temporarily. `attempt(matter, action)` shows an error as a notice.
   * `changed()` is called when a run begins and when it ends, and `finished(cell)` when it ends.
   */
  constructor({ api, session, limits, trying, attempt, changed, finished }) {
    Object.assign(this, { api, session, limits, trying, attempt, changed, finished });
  }

  get busy() {
    return this.#following !== null;
  }

  /** Stops following the current run. Its code keeps running. */
  abandon() {
    this.#following?.abort();
  }

  /** Runs a cell to its end. Resolves to whether the queued cells may run. */
  async execute(cell) {
    const { api, session, trying } = this;
    this.#following = new AbortController();
    const { signal } = this.#following;
    cell.become("running");
    this.changed();
    try {
      const path = await session.ensure();
      const began = api.now() - 2;
      // A detached cell keeps running when the page is closed. Its output is shown when the page is opened again.
      const json = { code: cell.code, timeout_ms: this.limits.max_exec_timeout_ms, allow_stdin: true, detach: true };
      let patience = 0;
      try {
        const response = await trying(() => api.request("POST", `${path}/execute/stream`, { json, signal }));
        patience = PATIENCE;
        await this.#follow(cell, path, response);
      } catch (error) {
        if (error.code !== "unreachable") throw error;
      }
      if (cell.busy) await this.#recover(cell, path, began, patience);
    } catch (error) {
      if (signal.aborted) return false;
      session.check(error);
      cell.fail(error.ended ? "The session has ended." : plain(error.message));
    } finally {
      this.#following = null;
      session.ran(cell.count);
      session.look({ runs: false }).catch(() => {});
      this.finished(cell);
      this.changed();
    }
    return cell.state === "done";
  }

  async #follow(cell, path, response) {
    const answer = async (value) => {
      const json = { value };
      const given = await this.attempt("input", () => this.api.request("POST", `${path}/input`, { json }));
      return given !== undefined;
    };
    try {
      for await (const [type, data] of events(response)) {
        if (type === "output") cell.outputs.print(data.stream, data.data);
        else if (type === "display") cell.outputs.display(data);
        else if (type === "clear_output") cell.outputs.clearOutput(data.wait);
        else if (type === "input_request") cell.outputs.ask(data, answer);
        else if (type === "result") cell.end(data);
        else if (type === "error") cell.fail(data.message);
      }
    } catch (error) {
      if (error.name === "AbortError") throw error;
    }
  }

  /**
   * Polls the result of a cell after the connection broke: the code keeps running, and the service keeps its output.
   * `began` is the service's time at the start. `patience` is the number of polls that may fail.
   */
  async #recover(cell, path, began, patience) {
    for (;;) {
      let run;
      try {
        run = await this.session.newest(path, cell.code, began);
      } catch (error) {
        if (error.code !== "unreachable" || patience <= 0) throw error;
        patience -= 1;
        continue;
      }
      if (!run) throw new ApiError(0, "lost", "The connection broke before the cell was run.");
      if (run.state !== "running") {
        cell.restore(run);
        return;
      }
      await wait(1000);
    }
  }
}
