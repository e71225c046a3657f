// The page's main module: connects the notebook, the session and the files, and handles buttons and keys.

import { Api, ApiError, events } from "./api.js";
import { button, byId, el, lasting, plain, save, wait } from "./dom.js";
import { Files } from "./files.js";
import { dressFrames } from "./frames.js";
import { listen, listKeys } from "./keyboard.js";
import { examples, Notebook } from "./notebook.js";
import { Notices } from "./notices.js";
import { Session } from "./session.js";

const STORED = "notebook";
const LIST_MS = 8000;
const PATIENCE = 60;
const ENDED = {
  expired: "This session has expired",
  idle: "This session ended because it was not used",
  deleted: "This session was ended",
  lost: "This session was lost because its container is gone",
  unknown: "This session no longer exists",
};

const notices = new Notices();
const api = new Api(askForKey);
const limits = await api.json("GET", "page/settings.json");
const session = new Session(api, trying);
const notebook = new Notebook({ api, execute, kernel: session, changed: () => laidOut() });
const files = new Files({ api, session, trying, limits, notices, changed: () => showPanel(true) });
/** Ids of runs that are shown, and of older runs that a later run of the same cell replaced. */
let seen = new Set();
let running = null;

// --- calls --------------------------------------------------------------------------------------

/** Repeats a call that the service refused temporarily, after the time in its Retry-After header. */
async function trying(call) {
  for (;;) {
    try {
      return await call();
    } catch (error) {
      if (!(error instanceof ApiError && error.retryable)) throw error;
      await notices.countDown("wait", error);
    }
  }
}

/** Performs an action. Shows an error as a notice. */
async function attempt(matter, action) {
  try {
    notices.clear(matter);
    return await action();
  } catch (error) {
    session.check(error);
    notices.fail(matter, error);
  }
}

function askForKey(wrong) {
  const dialog = byId("key");
  const input = byId("key-input");
  byId("key-problem").hidden = !wrong;
  input.value = "";
  dialog.showModal();
  return new Promise((resolve, reject) => {
    dialog.addEventListener(
      "close",
      () => {
        const key = input.value.trim();
        input.value = "";
        if (dialog.returnValue !== "ok" || !key) {
          notices.say("key", "This service needs an API key.", { kind: "warning", actions: { "Enter a key": start } });
          reject(new ApiError(401, "key_missing", "An API key is needed."));
        } else if (/[^\x21-\x7e]/.test(key)) resolve(askForKey(true));
        else resolve(key);
        dialog.returnValue = "";
      },
      { once: true },
    );
  });
}

// --- running ------------------------------------------------------------------------------------

/** Runs a cell to its end. Resolves to whether the queued cells may run. */
async function execute(cell) {
  cell.become("running");
  begins();
  running = new AbortController();
  const { signal } = running;
  try {
    const path = await session.ensure();
    const began = api.now() - 2;
    // A detached cell keeps running when the page is closed. Its output is shown when the page is opened again.
    const json = { code: cell.code, timeout_ms: limits.max_exec_timeout_ms, allow_stdin: true, detach: true };
    let patience = 0;
    try {
      const response = await trying(() => api.request("POST", `${path}/execute/stream`, { json, signal }));
      patience = PATIENCE;
      await follow(cell, path, response);
    } catch (error) {
      if (error.code !== "unreachable") throw error;
    }
    if (cell.busy) await recover(cell, path, began, patience);
  } catch (error) {
    if (signal.aborted) return false;
    session.check(error);
    cell.fail(error.ended ? "The session has ended." : plain(error.message));
  } finally {
    running = null;
    if (cell.cellId) seen.add(cell.cellId);
    session.ran(cell.count);
    session.look({ runs: false }).catch(() => {});
    byId("announce").textContent = `${cell.name} ${cell.state}. ${cell.status.textContent}`;
    files.refresh();
    listSessions();
    begins();
  }
  return cell.state === "done";
}

async function follow(cell, path, response) {
  const answer = async (value) => {
    const given = await attempt("input", () => api.request("POST", `${path}/input`, { json: { value } }));
    return given !== undefined;
  };
  try {
    for await (const [type, data] of events(response)) {
      if (type === "output") cell.outputs.print(data.stream, data.data);
      else if (type === "display") cell.outputs.display(data);
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
 * `began` is the service's time at the start. `patience` is how many polls may fail because the service is unreachable.
 */
async function recover(cell, path, began, patience) {
  for (;;) {
    let cells;
    try {
      ({ cells } = await api.json("GET", `${path}/cells`));
    } catch (error) {
      if (error.code !== "unreachable" || patience <= 0) throw error;
      patience -= 1;
      continue;
    }
    const run = cells.findLast(({ code, started_at: at }) => code === cell.code && at >= began);
    if (!run) throw new ApiError(0, "lost", "The connection broke before the cell was run.");
    if (run.state !== "running") {
      cell.restore(run);
      return;
    }
    await wait(1000);
  }
}

function interrupt() {
  notebook.drop();
  notices.stopWaiting();
  if (session.id) attempt("interrupt", () => session.interrupt());
}

async function restart() {
  if (!session.id) return;
  const sure = await confirmed("Restart the kernel?", "All variables are lost. Files are kept.", "Restart");
  if (!sure) return;
  notebook.drop();
  await attempt("restart", async () => {
    await session.restart();
    notices.say("restart", "The kernel was restarted. Its variables are gone; its files are still there.");
  });
}

function confirmed(title, text, action) {
  const dialog = byId("confirm");
  byId("confirm-title").textContent = title;
  byId("confirm-text").textContent = text;
  byId("confirm-do").textContent = action;
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "ok"), { once: true });
  });
}

async function saveNotebook() {
  if (!session.id) {
    notices.say("save", "Nothing has been run yet, so there is nothing to save.");
    return;
  }
  await attempt("save", async () => {
    const response = await api.request("GET", `${session.path}/notebook`);
    save(await response.blob(), `session-${session.id.slice(0, 8)}.ipynb`);
  });
}

// --- sessions -----------------------------------------------------------------------------------

/** Opens a session and shows its cells in place of the current ones. */
async function open(id, layout = []) {
  running?.abort();
  await attempt("session", async () => {
    notices.clear("ended");
    const runs = await session.open(id);
    fill(layout);
    notebook.merge(runs, seen);
    finishFilling();
    await Promise.all([files.refresh(), listSessions()]);
  });
}

function fill(layout) {
  notebook.clear();
  for (const { code, cellId } of layout) notebook.insert({ code }).cellId = cellId;
}

function finishFilling() {
  if (!notebook.cells.length || notebook.cells.at(-1).code.trim()) notebook.insert();
  notebook.select(notebook.cells.at(-1), "command", { focus: document.activeElement === document.body });
  laidOut();
}

/** Shows an empty notebook. Its session is created when the first cell runs. */
function fresh() {
  running?.abort();
  session.leave();
  seen = new Set();
  notices.clear("ended");
  fill([]);
  finishFilling();
  files.refresh();
  listSessions();
}

/** Updates the list of sessions. Errors are ignored, since the list is updated again later. */
const listSessions = () => showSessions().catch(() => {});

async function showSessions() {
  const list = byId("sessions");
  const sessions = await session.all();
  const rows = sessions.map((info) => {
    const { session_id: id, expires_at: end, execution_count: count, state } = info;
    const here = id === session.id;
    const left = lasting(Math.max(0, end - api.now()) * 1000);
    const text = el("span", { class: "said" }, `${count} ${count === 1 ? "run" : "runs"} · ${left}`);
    const go = () => here || (seen = new Set(), open(id), phone() && showPanel(false));
    const row = el("button", { type: "button", class: "file", "aria-current": here ? "true" : null, click: go });
    row.append(el("span", { class: `dot ${state}` }), el("span", { class: "name id" }, id.slice(0, 8)), text);
    return el("li", { class: here ? "here" : "" }, row, button("delete", `End session ${id.slice(0, 8)}`, () => endSession(id)));
  });
  list.replaceChildren(...rows);
  byId("no-sessions").hidden = rows.length > 0;
  byId("forget").hidden = !api.hasKey;
}

async function endSession(id) {
  if (!(await confirmed("End this session?", "Its variables and files are deleted.", "End it"))) return;
  const here = id === session.id;
  await attempt("session", () => session.delete(id));
  if (here) {
    notices.say("ended", "The session has ended. The next cell you run starts a new one.");
    files.refresh();
  }
  listSessions();
}

function ended(reason) {
  const text = `${ENDED[reason] ?? ENDED.unknown}. Its variables and files are gone; the code is still here. The next cell you run starts a new session.`;
  const again = () => {
    notices.clear("ended");
    notebook.runAll();
  };
  notices.say("ended", text, { kind: "warning", actions: { "Start a new session and run all": again } });
  files.refresh();
  listSessions();
}

session.addEventListener("end", ({ detail }) => ended(detail.reason));
session.addEventListener("renewal", () => {
  // The result of a running cell says that the kernel was restarted.
  if (running) return;
  notices.say("restart", "Another client restarted the kernel. Its variables are gone; its files are still there.", {
    kind: "warning",
  });
});
session.addEventListener("runs", (event) => {
  // The page's own cells get their ids when they end. Merging earlier would show them twice.
  if (notebook.busy) return event.preventDefault();
  notebook.merge(event.detail, seen);
  files.refresh();
  laidOut();
});
session.addEventListener("change", () => {
  showSession();
  listAgain();
  const hash = session.id ? `#${session.id}` : "";
  if (location.hash !== hash) history.replaceState(null, "", location.pathname + location.search + hash);
});

// --- what is shown ------------------------------------------------------------------------------

function showSession() {
  const { id, left, info } = session;
  byId("session-name").textContent = id ? `Session ${id.slice(0, 8)}` : "No session yet";
  byId("session-left").textContent = left === null ? "" : `${lasting(Math.max(1, left) * 1000)} left`;
  const busy = running !== null || info?.state === "busy";
  byId("session-dot").className = `dot ${id ? (busy ? "busy" : "ready") : ""}`;
  byId("session").setAttribute("aria-label", `${byId("session-name").textContent}: files and sessions`);
}

function begins() {
  document.body.classList.toggle("running", running !== null);
  document.title = running ? "● Code Interpreter" : "Code Interpreter";
  showSession();
}

let saving = null;

/** Called when the notebook changes: stores the layout in sessionStorage, which lasts until the tab is closed. */
function laidOut() {
  const blank = notebook.cells.every(({ code }) => !code.trim()) && !session.id;
  byId("welcome").hidden = !blank;
  clearTimeout(saving);
  saving = setTimeout(() => {
    const kept = { session: session.id, cells: notebook.layout, seen: [...seen] };
    try {
      sessionStorage.setItem(STORED, JSON.stringify(kept));
    } catch {
      sessionStorage.removeItem(STORED);
    }
  }, 200);
}

const phone = () => matchMedia("(max-width: 900px)").matches;

function showPanel(open = !document.body.classList.contains("panel-open")) {
  document.body.classList.toggle("panel-open", open);
  byId("panel-toggle").setAttribute("aria-expanded", String(open));
  byId("session").setAttribute("aria-expanded", String(open));
  if (open) listSessions();
}

function turnTheme() {
  const themes = ["auto", "light", "dark"];
  const { dataset } = document.documentElement;
  dataset.theme = themes[(themes.indexOf(dataset.theme) + 1) % themes.length];
  localStorage.setItem("theme", dataset.theme);
  nameTheme();
  dressFrames();
}

function nameTheme() {
  const names = { auto: "Theme: the system's", light: "Theme: light", dark: "Theme: dark" };
  const name = names[document.documentElement.dataset.theme];
  byId("theme").setAttribute("aria-label", name);
  byId("theme").title = name;
}

let listed = null;

/** Updates the list of sessions if the page shows another session than before. */
function listAgain() {
  if (listed === session.id) return;
  listed = session.id;
  listSessions();
}

const does = {
  run: () => notebook.runAndStep(),
  "run-all": () => notebook.runAll(),
  interrupt,
  restart,
  insert: () => notebook.select(notebook.insert({ after: notebook.selected }), "edit"),
  save: saveNotebook,
  theme: turnTheme,
  help: () => byId("help").showModal(),
  session: () => showPanel(),
  "panel-toggle": () => showPanel(),
  "panel-close": () => showPanel(false),
  "new-session": fresh,
  forget: () => {
    api.setKey(null);
    fresh();
  },
};

for (const [id, action] of Object.entries(does)) {
  for (const element of document.querySelectorAll(`[data-does="${id}"]`)) element.addEventListener("click", action);
}
for (const dialog of document.querySelectorAll("dialog")) {
  dialog.addEventListener("click", ({ target }) => target === dialog && dialog.close());
}
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", dressFrames);
listen(notebook, { interrupt, restart, save: saveNotebook, help: does.help, panel: () => showPanel() });
listKeys();
nameTheme();
byId("version").textContent = `Code Interpreter ${limits.version}`;
byId("welcome").append(
  ...examples((code) => {
    const cell = notebook.cells.at(-1);
    cell.code = code;
    notebook.select(cell, "edit");
  }),
);
setInterval(showSession, 1000);
setInterval(() => {
  // An update would take the focus away from a user who is in the list.
  const used = byId("sessions").contains(document.activeElement);
  if (!document.hidden && !used && document.body.classList.contains("panel-open")) listSessions();
}, LIST_MS);
addEventListener("hashchange", () => {
  const id = namedSession();
  if (id && id !== session.id) {
    seen = new Set();
    open(id);
  }
});

/** Returns the session id in the address, or null: other fragments are anchors of the page. */
function namedSession() {
  return /^#([0-9a-f-]{36})$/.exec(location.hash)?.[1] ?? null;
}

// --- the start ----------------------------------------------------------------------------------

async function start() {
  notices.clear("key");
  let kept = {};
  try {
    kept = JSON.parse(sessionStorage.getItem(STORED) ?? "{}");
  } catch {
    // The stored layout cannot be parsed. Start with an empty notebook.
  }
  const named = namedSession();
  const mine = !named || named === kept.session;
  seen = new Set(mine ? (kept.seen ?? []) : []);
  const id = named || kept.session;
  if (id) await open(id, mine ? (kept.cells ?? []) : []);
  else {
    fill(kept.cells ?? []);
    finishFilling();
    await attempt("key", showSessions);
  }
  if (!notebook.cells.length) finishFilling();
}

if (!phone()) showPanel(true);
await start();
document.documentElement.dataset.ready = "";
sessionStorage.removeItem("loads");
