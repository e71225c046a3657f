// The session the notebook works in: opened when it is needed, kept while the page is used, watched for its end.

import { ApiError } from "./api.js";

const TTL_SEC = 900;
const POLL_MS = 4000;
const USED_MS = 5 * 60_000;

/**
 * Tells of `change` (what is known of it), `end` (it is no more), `runs` (cells, also somebody else's) and `renewal` (its
 * kernel is a new one, which was not asked for here).
 */
export class Session extends EventTarget {
  id = null;
  info = null;
  #count = null;
  /** Whether others may have run what has not been shown. */
  #unread = false;
  #starting = null;
  #used = Date.now();
  #completes = true;

  /** `trying(call)` repeats a call that was refused for now. */
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

  /** Seconds until it ends. */
  get left() {
    if (!this.info) return null;
    const { expires_at: end, idle_expires_at: idle } = this.info;
    return Math.max(0, Math.min(end, idle ?? Infinity) - this.api.now());
  }

  /** Makes sure there is one; returns its path. */
  async ensure() {
    if (this.id) return this.path;
    this.#starting ??= this.trying(() => this.api.json("POST", "v1/sessions", { json: { ttl_seconds: TTL_SEC } }))
      .then((info) => this.#take(info))
      .finally(() => (this.#starting = null));
    await this.#starting;
    return this.path;
  }

  /** Goes to one that is there: its cells. Raises `ApiError` when there is none. */
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
    const { cells } = await this.api.json("GET", `${path}/cells`);
    this.#completes = true;
    this.#unread = false;
    this.id = id;
    if (ended) this.#end(ended);
    else this.#take(info);
    return cells;
  }

  leave() {
    this.id = this.info = this.#count = null;
    this.#unread = false;
    this.#completes = true;
    this.#tell("change");
  }

  /** Looks at it: what it says of itself, and what others have run in it. */
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
      if (info.execution_count < known) this.#tell("renewal");
      this.#unread ||= info.state === "busy" || this.info?.state === "busy" || info.execution_count !== this.#count;
      this.#take(info);
      if (runs && this.#unread) await this.#readRuns(id);
    } catch (error) {
      this.check(error);
      throw error;
    }
  }

  async #readRuns(id) {
    const { cells } = await this.api.json("GET", `${this.path}/cells`);
    if (this.id === id) this.#unread = !this.#tell("runs", cells);
  }

  /** Takes note when an error says that the session is there no more. */
  check(error) {
    if (error instanceof ApiError && error.ended && this.id) this.#end(error);
  }

  /** A run of ours has ended, with its kernel if it has no `count`: no need to ask for it, unless others came between. */
  ran(count) {
    if (typeof count !== "number") this.#count = 0;
    else if (count === this.#count + 1) this.#count = count;
  }

  interrupt() {
    return this.api.request("POST", `${this.path}/interrupt`, { twice: true });
  }

  async restart() {
    this.#take(await this.api.json("POST", `${this.path}/restart`, { twice: true }));
  }

  async delete(id) {
    await this.api.request("DELETE", `v1/sessions/${encodeURIComponent(id)}`);
    if (this.id === id) this.leave();
  }

  async all() {
    return (await this.api.json("GET", "v1/sessions")).sessions;
  }

  // --- what the kernel knows of code that is being written ------------------------------------

  complete(code, position) {
    return this.#asked("complete", { code, cursor_pos: position });
  }

  inspect(code, position) {
    return this.#asked("inspect", { code, cursor_pos: position });
  }

  async #asked(what, json) {
    if (!this.id || !this.#completes) return null;
    try {
      return await this.api.json("POST", `${this.path}/${what}`, { json, twice: true });
    } catch (error) {
      // A service without these calls, or a kernel that is busy: the editor knows something by itself.
      if (error instanceof ApiError && error.code === "not_found") this.#completes = false;
      this.check(error);
      return null;
    }
  }

  #take(info) {
    this.id = info.session_id;
    this.#count = info.execution_count;
    this.info = info;
    this.#tell("change");
  }

  #end(error) {
    this.info = null;
    const { id } = this;
    this.id = null;
    this.#tell("end", { id, reason: error.body.reason ?? "unknown" });
  }

  /** Whether whom it is told has taken it. */
  #tell(type, detail) {
    return this.dispatchEvent(new CustomEvent(type, { detail, cancelable: true }));
  }
}
