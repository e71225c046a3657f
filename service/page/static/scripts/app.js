// The page's main module: connects the notebook, the session and the files, and handles buttons and keys.

import { Api, ApiError } from "./api.js";
import { askForKey, confirmed } from "./dialogs.js";
import { byId, lasting, save } from "./dom.js";
import { Files } from "./files.js";
import { dressFrames } from "../notebook/frames.js";
import { listen, listKeys } from "../notebook/keyboard.js";
import { examples, Notebook } from "../notebook/notebook.js";
import { keepLayout, readLayout } from "./layout-store.js";
import { Notices } from "./notices.js";
import { Runner } from "./runner.js";
import { Session } from "./session.js";
import { SessionList } from "./session-list.js";
import { nameTheme, onSystemTheme, turnTheme } from "./theme.js";

const ENDED = {
  expired: "This session has expired",
  idle: "This session ended because it was not used",
  deleted: "This session was ended",
  lost: "This session was lost because its container is gone",
  unknown: "This session no longer exists",
};

const notices = new Notices();
const api = new Api(requireKey);
const limits = await api.json("GET", "page/settings.json");
const session = new Session(api, trying);
const runner = new Runner({ api, session, limits, trying, attempt, changed: showRunning, finished: cellFinished });
const notebook = new Notebook({ api, execute: (cell) => runner.execute(cell), kernel: session, changed: () => laidOut() });
const files = new Files({ api, session, trying, limits, notices, changed: () => showPanel(true) });
const sessions = new SessionList({ api, session, open: choose, end: endSession });
/** Ids of runs that are shown, and of older runs that a later run of the same cell replaced. */
let seen = new Set();

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

async function requireKey(wrong) {
  const key = await askForKey(wrong);
  if (key !== null) return key;
  notices.say("key", "This service needs an API key.", { kind: "warning", actions: { "Enter a key": start } });
  throw new ApiError(401, "key_missing", "An API key is needed.");
}

// --- running ------------------------------------------------------------------------------------

function cellFinished(cell) {
  if (cell.cellId) seen.add(cell.cellId);
  byId("announce").textContent = `${cell.name} ${cell.state}. ${cell.status.textContent}`;
  files.refresh();
  sessions.refresh();
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

/** Shows another session in place of the current one. */
function change(id) {
  seen = new Set();
  open(id);
}

/** Called when the user chooses a session in the list. */
function choose(id) {
  change(id);
  if (phone()) showPanel(false);
}

/** Opens a session and shows its cells in place of the current ones. */
async function open(id, layout = []) {
  runner.abandon();
  await attempt("session", async () => {
    notices.clear("ended");
    const runs = await session.open(id);
    fill(layout);
    notebook.merge(runs, seen);
    finishFilling();
    await Promise.all([files.refresh(), sessions.refresh()]);
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
  runner.abandon();
  session.leave();
  seen = new Set();
  notices.clear("ended");
  fill([]);
  finishFilling();
  files.refresh();
  sessions.refresh();
}

async function endSession(id) {
  if (!(await confirmed("End this session?", "Its variables and files are deleted.", "End it"))) return;
  const here = id === session.id;
  await attempt("session", () => session.delete(id));
  if (here) {
    notices.say("ended", "The session has ended. The next cell you run starts a new one.");
    files.refresh();
  }
  sessions.refresh();
}

function ended(reason) {
  const text = `${ENDED[reason] ?? ENDED.unknown}. Its variables and files are gone; the code is still here. The next cell you run starts a new session.`;
  const again = () => {
    notices.clear("ended");
    notebook.runAll();
  };
  notices.say("ended", text, { kind: "warning", actions: { "Start a new session and run all": again } });
  files.refresh();
  sessions.refresh();
}

session.addEventListener("end", ({ detail }) => ended(detail.reason));
session.addEventListener("renewal", () => {
  // The result of a running cell says that the kernel was restarted.
  if (runner.busy) return;
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
  sessions.follow();
  const hash = session.id ? `#${session.id}` : "";
  if (location.hash !== hash) history.replaceState(null, "", location.pathname + location.search + hash);
});

// --- what is shown ------------------------------------------------------------------------------

function showSession() {
  const { id, left, info } = session;
  byId("session-name").textContent = id ? `Session ${id.slice(0, 8)}` : "No session yet";
  byId("session-left").textContent = left === null ? "" : `${lasting(Math.max(1, left) * 1000)} left`;
  const busy = runner.busy || info?.state === "busy";
  byId("session-dot").className = `dot ${id ? (busy ? "busy" : "ready") : ""}`;
  byId("session").setAttribute("aria-label", `${byId("session-name").textContent}: files and sessions`);
}

function showRunning() {
  document.body.classList.toggle("running", runner.busy);
  document.title = runner.busy ? "● Code Interpreter" : "Code Interpreter";
  showSession();
}

/** Called when the notebook changes: shows the welcome text in an empty notebook, and keeps the layout. */
function laidOut() {
  const blank = notebook.cells.every(({ code }) => !code.trim()) && !session.id;
  byId("welcome").hidden = !blank;
  keepLayout(() => ({ session: session.id, cells: notebook.layout, seen: [...seen] }));
}

const phone = () => matchMedia("(max-width: 900px)").matches;

function showPanel(open = !document.body.classList.contains("panel-open")) {
  document.body.classList.toggle("panel-open", open);
  byId("panel-toggle").setAttribute("aria-expanded", String(open));
  byId("session").setAttribute("aria-expanded", String(open));
  if (open) sessions.refresh();
}

const does = {
  run: () => notebook.runAndStep(),
  "run-all": () => notebook.runAll(),
  interrupt,
  restart,
  insert: () => notebook.select(notebook.insert({ after: notebook.selected }), "edit"),
  save: saveNotebook,
  theme: () => {
    turnTheme();
    dressFrames();
  },
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
onSystemTheme(dressFrames);
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
addEventListener("hashchange", () => {
  const id = namedSession();
  if (id && id !== session.id) change(id);
});

/** Returns the session id in the address, or null: other fragments are anchors of the page. */
function namedSession() {
  return /^#([0-9a-f-]{36})$/.exec(location.hash)?.[1] ?? null;
}

// --- the start ----------------------------------------------------------------------------------

async function start() {
  notices.clear("key");
  const kept = readLayout();
  const named = namedSession();
  const mine = !named || named === kept.session;
  seen = new Set(mine ? (kept.seen ?? []) : []);
  const id = named || kept.session;
  if (id) await open(id, mine ? (kept.cells ?? []) : []);
  else {
    fill(kept.cells ?? []);
    finishFilling();
    await attempt("key", () => sessions.show());
  }
  if (!notebook.cells.length) finishFilling();
}

if (!phone()) showPanel(true);
await start();
document.documentElement.dataset.ready = "";
sessionStorage.removeItem("loads");
