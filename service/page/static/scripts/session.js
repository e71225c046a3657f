// The notebook's session: created when needed, extended while the page is used, and polled for changes.

import { ApiError } from "./api.js";

const TTL_SEC = 900;
const POLL_MS = 4000;
const USED_MS = 5 * 60_000;

/**
 * The session that the page uses. Dispatches `change` (its state changed), `end` (it ended), `runs` (the stored cells, also
 * of other clients) and `renewal` (another client restarted its kernel).
 */
export class Session extends EventTarget {
  id = null;
  info = null;
  #count = null;
  /** Whether other clients may have run cells that are not shown yet. */
  #unread = false;
  #starting = null;
  #used = Date.now();
  #completes = true;
  /** `after` of the last page of cells that was read; null for the first page. */
  #lastPage = null;

  /** `trying(call)` repeats a call that the service refused temporarily. */
  constructor(api, trying) {
    super();
    this.api = api;
    this.trying = trying;
    for (const event of ["keydown", "pointerdown"]) addEventListener(event, () => (this.#used = Date.now()), { passive: true });
    const poll = async () => {
      if (!document.hidden && this.id) await this.look().catch(() => {});
      setTimeout(poll, POLL_MS);
    };
    setTimeout(poll, POLL_MS);
  }

  get path() {
    return `v1/sessions/${encodeURIComponent(this.id)}`;
  }

  /** Seconds until the session ends; null without a session. */
  get left() {
    if (!this.info) return null;
    const { expires_at: end, idle_expires_at: idle } = this.info;
    return Math.max(0, Math.min(end, idle ?? Infinity) - this.api.now());
  }

  /** Creates a session if there is none. Resolves to the session's path. */
  async ensure() {
    if (this.id) return this.path;
    this.#starting ??= this.trying(() => this.api.json("POST", "v1/sessions", { json: { ttl_seconds: TTL_SEC } }))
      .then((info) => this.#take(info))
      .finally(() => (this.#starting = null));
    await this.#starting;
    return this.path;
  }

  /** Opens an existing or ended session and resolves to its cells. Throws `ApiError` if it does not exist. */
  async open(id) {
    const path = `v1/sessions/${encodeURIComponent(id)}`;
    let info = null;
    let ended = null;
    try {
      info = await this.api.json("GET", path);
    } catch (error) {
      if (!(error instanceof ApiError && error.status === 410)) throw error;
      ended = error;
    }
    const { cells, last } = await this.#cells(path, null);
    this.#completes = true;
    this.#unread = false;
    this.id = id;
    this.#lastPage = last;
    if (ended) this.#end(ended);
    else this.#take(info);
    return cells;
  }

  leave() {
    this.id = this.info = this.#count = this.#lastPage = null;
    this.#unread = false;
    this.#completes = true;
    this.#emit("change");
  }

  /** Polls the session's state, extends its time if the page was used, and reads what other clients have run. */
  async look({ runs = true } = {}) {
    const { id } = this;
    const known = this.#count;
    if (!id) return;
    try {
      let info = await this.api.json("GET", this.path);
      if (this.id !== id) return;
      if (info.expires_at - this.api.now() < TTL_SEC / 2 && Date.now() - this.#used < USED_MS) {
        info = await this.api.json("PATCH", this.path, { json: { ttl_seconds: TTL_SEC } });
      }
      if (info.execution_count < known) this.#emit("renewal");
      this.#unread ||= info.state === "busy" || this.info?.state === "busy" || info.execution_count !== this.#count;
      this.#take(info);
      if (runs && this.#unread) await this.#readRuns(id);
    } catch (error) {
      this.check(error);
      throw error;
    }
  }

  async #readRuns(id) {
    const { cells, last } = await this.#cells(this.path, this.#lastPage);
    if (this.id !== id) return;
    this.#unread = !this.#emit("runs", cells);
    if (!this.#unread) this.#lastPage = last;
  }

  /** Resolves to the cells from the page `last` on, and to the last page. Cells of earlier pages do not change. */
  async #cells(path, last) {
    const found = [];
    for (;;) {
      const { cells, next } = await this.api.json("GET", `${path}/cells?outputs=ordered${last === null ? "" : `&after=${last}`}`);
      found.push(...cells);
      if (!next) return { cells: found, last };
      last = next;
    }
  }

  /** Resolves to the newest cell at `path` with this code that began at `began` or later; undefined without one. */
  async newest(path, code, began) {
    const { cells } = await this.#cells(path, path === this.path ? this.#lastPage : null);
    return cells.findLast((cell) => cell.code === code && cell.started_at >= began);
  }

  /** Dispatches `end` if an error says that the session has ended. */
  check(error) {
    if (error instanceof ApiError && error.ended && this.id) this.#end(error);
  }

  /** Called when a cell of the page ends, with its count; without a count the kernel was lost. Avoids reading that run again. */
  ran(count) {
    if (typeof count !== "number") this.#count = 0;
    else if (count === this.#count + 1) this.#count = count;
  }

  interrupt() {
    return this.api.request("POST", `${this.path}/interrupt`, { repeatable: true });
  }

  async restart() {
    this.#take(await this.api.json("POST", `${this.path}/restart`, { repeatable: true }));
  }

  async delete(id) {
    await this.api.request("DELETE", `v1/sessions/${encodeURIComponent(id)}`);
    if (this.id === id) this.leave();
  }

  async all() {
    return (await this.api.json("GET", "v1/sessions")).sessions;
  }

  // --- completions and descriptions ------------------------------------------------------------

  complete(code, position) {
    return this.#ask("complete", { code, cursor_pos: position });
  }

  inspect(code, position) {
    return this.#ask("inspect", { code, cursor_pos: position });
  }

  async #ask(route, json) {
    if (!this.id || !this.#completes) return null;
    try {
      return await this.api.json("POST", `${this.path}/${route}`, { json, repeatable: true });
    } catch (error) {
      // The kernel is busy, or the service lacks these routes. The editor then completes names by itself.
      if (error instanceof ApiError && error.code === "not_found") this.#completes = false;
      this.check(error);
      return null;
    }
  }

  #take(info) {
    this.id = info.session_id;
    this.#count = info.execution_count;
    this.info = info;
    this.#emit("change");
  }

  #end(error) {
    this.info = this.#lastPage = null;
    const { id } = this;
    this.id = null;
    this.#emit("end", { id, reason: error.body.reason ?? "unknown" });
  }

  /** Dispatches an event. Returns false if a listener called `preventDefault`. */
  #emit(type, detail) {
    return this.dispatchEvent(new CustomEvent(type, { detail, cancelable: true }));
  }
}
