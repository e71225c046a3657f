// The list of open sessions in the panel.

import { button, byId, el, lasting } from "./dom.js";

const REFRESH_MS = 8000;

export class SessionList {
  #shown = null;

  /** `open(id)` shows the cells of another session. `end(id)` ends a session. */
  constructor({ api, session, open, end }) {
    Object.assign(this, { api, session, open, end });
    this.element = byId("sessions");
    setInterval(() => {
      // An update would take the focus away from a user who is in the list.
      const used = this.element.contains(document.activeElement);
      if (!document.hidden && !used && document.body.classList.contains("panel-open")) this.refresh();
    }, REFRESH_MS);
  }

  /** Updates the list. Errors are ignored, since the list is updated again later. */
  refresh() {
    return this.show().catch(() => {});
  }

  /** Updates the list if the page shows another session than before. */
  follow() {
    if (this.#shown === this.session.id) return;
    this.#shown = this.session.id;
    this.refresh();
  }

  async show() {
    const rows = (await this.session.all()).map((info) => this.#row(info));
    this.element.replaceChildren(...rows);
    byId("no-sessions").hidden = rows.length > 0;
    byId("forget").hidden = !this.api.hasKey;
  }

  #row({ session_id: id, expires_at: end, execution_count: count, state }) {
    const here = id === this.session.id;
    const left = lasting(Math.max(0, end - this.api.now()) * 1000);
    const text = el("span", { class: "said" }, `${count} ${count === 1 ? "run" : "runs"} · ${left}`);
    const open = () => here || this.open(id);
    const row = el("button", { type: "button", class: "file", "aria-current": here ? "true" : null, click: open });
    row.append(el("span", { class: `dot ${state}` }), el("span", { class: "name id" }, id.slice(0, 8)), text);
    return el("li", { class: here ? "here" : "" }, row, button("delete", `End session ${id.slice(0, 8)}`, () => this.end(id)));
  }
}
