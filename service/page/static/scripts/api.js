// A client of the service's API. It holds the key, repeats failed calls, and turns error responses into `ApiError`.

import { wait } from "./dom.js";

const STORED = "api-key";
const TRIES = 3;
const PAUSE_MS = 400;

/** A failed call: the service refused it (`status` is the HTTP status), or was not reached (`status` is 0). */
export class ApiError extends Error {
  constructor(status, code, detail, { retryAfter = null, body = {} } = {}) {
    super(detail);
    this.status = status;
    this.code = code;
    this.retryAfter = retryAfter;
    this.body = body;
  }

  /** Whether the same call may succeed later. */
  get retryable() {
    return (this.status === 429 || this.status === 503) && this.retryAfter !== null;
  }

  /** Whether the session has ended or does not exist. */
  get ended() {
    return this.status === 410 || this.code === "session_not_found";
  }
}

export class Api {
  /** Seconds by which the service's clock is ahead of the browser's. */
  clockSkew = 0;
  #key = sessionStorage.getItem(STORED);
  #asking = null;

  /** `askForKey(wrong)` asks the user for a key and resolves to it. `wrong` says that the service rejected the last key. */
  constructor(askForKey) {
    this.askForKey = askForKey;
  }

  get hasKey() {
    return this.#key !== null;
  }

  setKey(key) {
    this.#key = key;
    if (key === null) sessionStorage.removeItem(STORED);
    else sessionStorage.setItem(STORED, key);
  }

  url(path) {
    return new URL(path, document.baseURI).href;
  }

  get headers() {
    return this.#key === null ? {} : { "X-API-Key": this.#key };
  }

  /** Returns the service's time, in seconds since the epoch. */
  now() {
    return Date.now() / 1000 + this.clockSkew;
  }

  /**
   * Sends a request and resolves to the response if it is successful. Asks the user for a key if one is needed. Throws
   * `ApiError` otherwise. If the service cannot be reached, a `repeatable` request is sent again.
   */
  async request(method, path, { json, body, signal, repeatable = method !== "POST" } = {}) {
    let tries = repeatable ? TRIES : 1;
    for (;;) {
      const key = this.#key;
      const headers = { ...this.headers };
      if (json !== undefined) headers["Content-Type"] = "application/json";
      let response;
      try {
        const options = { method, headers, signal, body: json === undefined ? body : JSON.stringify(json) };
        response = await fetch(this.url(path), { ...options, cache: "no-store", credentials: "omit", redirect: "error" });
      } catch (error) {
        if (error.name === "AbortError") throw error;
        tries -= 1;
        if (tries > 0) {
          await wait(PAUSE_MS);
          continue;
        }
        throw new ApiError(0, "unreachable", "The service does not answer. Check that it is running and that you are online.");
      }
      this.#setClock(response.headers.get("Date"));
      if (response.ok) return response;
      const refusal = await this.#refusal(response);
      if (refusal.status !== 401) throw refusal;
      if (key === this.#key) await this.#ask(refusal.code === "key_invalid");
    }
  }

  async json(method, path, options) {
    return (await this.request(method, path, options)).json();
  }

  /** Uploads a file and resolves to the JSON response. Calls `onProgress(sent, total)`, in bytes. */
  async upload(path, file, onProgress, signal) {
    for (let tries = TRIES; ; ) {
      try {
        return await this.#send(path, file, onProgress, signal);
      } catch (error) {
        tries -= 1;
        if (error.code !== "unreachable" || tries <= 0) throw error;
        await wait(PAUSE_MS);
      }
    }
  }

  #send(path, file, onProgress, signal) {
    return new Promise((resolve, reject) => {
      const request = new XMLHttpRequest();
      request.open("PUT", this.url(path));
      for (const [name, value] of Object.entries(this.headers)) request.setRequestHeader(name, value);
      request.setRequestHeader("Content-Type", "application/octet-stream");
      request.upload.onprogress = (event) => onProgress(event.loaded, event.total);
      request.onerror = () => reject(new ApiError(0, "unreachable", "The connection was lost during the upload."));
      request.onabort = () => reject(new DOMException("cancelled", "AbortError"));
      request.onload = async () => {
        const response = new Response(request.responseText, {
          status: request.status,
          headers: { "Retry-After": request.getResponseHeader("Retry-After") ?? "" },
        });
        if (response.ok) resolve(await response.json());
        else reject(await this.#refusal(response));
      };
      signal?.addEventListener("abort", () => request.abort());
      request.send(file);
    });
  }

  async #refusal(response) {
    let body = {};
    try {
      body = await response.json();
    } catch {
      // The body is not JSON, for example a proxy's error page. The message then has only the status.
    }
    const seconds = Number.parseInt(response.headers.get("Retry-After") ?? "", 10);
    const retryAfter = Number.isFinite(seconds) ? Math.max(1, seconds) : null;
    const code = typeof body.code === "string" ? body.code : "";
    return new ApiError(response.status, code, errorText(response.status, body.detail), { retryAfter, body });
  }

  #setClock(date) {
    const time = Date.parse(date ?? "");
    if (Number.isFinite(time)) this.clockSkew = Math.round((time - Date.now()) / 1000);
  }

  /** Asks for a key once, even if several calls fail for lack of one at the same time. */
  async #ask(wrong) {
    this.#asking ??= this.askForKey(wrong)
      .then((key) => this.setKey(key))
      .finally(() => (this.#asking = null));
    await this.#asking;
  }
}

function errorText(status, detail) {
  if (typeof detail === "string" && detail) return detail;
  if (Array.isArray(detail)) {
    const problems = detail.map(({ loc, msg }) => `${(loc ?? []).slice(1).join(".")}: ${msg}`);
    if (problems.length) return problems.join("\n");
  }
  return `The service answered with status ${status}.`;
}

/** Yields the server-sent events of a response as `[type, data]`, with the data parsed from JSON. */
export async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let unfinished = [];
  let type = "message";
  let data = null;
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      const pieces = value.split("\n");
      for (const [index, piece] of pieces.entries()) {
        unfinished.push(piece);
        if (index === pieces.length - 1) break;
        const line = unfinished.join("");
        unfinished = [];
        if (line.startsWith("event: ")) type = line.slice(7);
        else if (line.startsWith("data: ")) data = line.slice(6);
        else if (line === "" && data !== null) {
          yield [type, JSON.parse(data)];
          [type, data] = ["message", null];
        }
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}
