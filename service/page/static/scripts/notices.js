// Notices below the page's header: one per subject, with buttons, and countdowns until the next try.

import { byId, el, icon, lasting, message } from "./dom.js";

export class Notices {
  #shown = new Map();
  #waits = new Set();

  constructor() {
    this.element = byId("notices");
    // The panel beside the cells starts below the notices.
    const measure = () => document.documentElement.style.setProperty("--notices", `${this.element.offsetHeight}px`);
    new ResizeObserver(measure).observe(this.element);
  }

  /** Shows a notice in place of the earlier one on the same subject (`matter`). */
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

  /** Ends all countdowns. Their calls fail with the errors that started them. */
  stopWaiting() {
    for (const giveUp of [...this.#waits]) giveUp();
  }

  /** Shows a countdown of the seconds in `error.retryAfter`. Rejects with the error if the user gives up. */
  countDown(matter, error) {
    return new Promise((resolve, reject) => {
      let left = error.retryAfter;
      const over = (settle) => () => {
        clearInterval(timer);
        this.#waits.delete(giveUp);
        this.clear(matter);
        settle();
      };
      const text = () => message(`${error.message}. Trying again in ${lasting(left * 1000)}.`);
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
