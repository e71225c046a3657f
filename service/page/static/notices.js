// What has to be said: one line for each matter, with what can be done about it, and waits counted down.

import { byId, el, icon, lasting, message } from "./dom.js";

export class Notices {
  #shown = new Map();
  #waits = new Set();

  constructor() {
    this.element = byId("notices");
    // The panel beside the cells begins beneath them.
    const measure = () => document.documentElement.style.setProperty("--notices", `${this.element.offsetHeight}px`);
    new ResizeObserver(measure).observe(this.element);
  }

  /** Says something about a matter, in place of what was said of it before. */
  say(matter, text, { kind = "", actions = {} } = {}) {
    this.clear(matter);
    const words = el("p", {}, message(text));
    const buttons = Object.entries(actions).map(([label, click]) => el("button", { type: "button", click }, label));
    const close = el("button", { type: "button", class: "quiet", "aria-label": "Dismiss", title: "Dismiss" }, icon("close"));
    close.addEventListener("click", () => this.clear(matter));
    const notice = el("div", { class: `notice ${kind}` }, words, ...buttons, close);
    this.#shown.set(matter, notice);
    this.element.append(notice);
    return words;
  }

  fail(matter, error) {
    if (error.name !== "AbortError") this.say(matter, error.message, { kind: "bad" });
  }

  clear(matter) {
    this.#shown.get(matter)?.remove();
    this.#shown.delete(matter);
  }

  /** Gives up all waits. */
  stopWaiting() {
    for (const giveUp of [...this.#waits]) giveUp();
  }

  /** Waits as long as a refusal says, counting down; raises it when the wait is given up. */
  countDown(matter, error) {
    return new Promise((resolve, reject) => {
      let left = error.retryAfter;
      const over = (settle) => () => {
        clearInterval(timer);
        this.#waits.delete(giveUp);
        this.clear(matter);
        settle();
      };
      const text = () => message(`${error.message}. Tries again in ${lasting(left * 1000)}.`);
      const giveUp = over(() => reject(error));
      this.#waits.add(giveUp);
      const actions = { "Try now": over(resolve), "Give up": giveUp };
      const words = this.say(matter, text(), { kind: "warning", actions });
      const timer = setInterval(() => {
        left -= 1;
        if (left <= 0) over(resolve)();
        else words.textContent = text();
      }, 1000);
    });
  }
}
