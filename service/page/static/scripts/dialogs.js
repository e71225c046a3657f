// The dialogs that ask the user: for the API key, and for a confirmation.

import { byId } from "./dom.js";

/** Asks for the API key. Resolves to the key, or to null if the user gives none. `wrong` says that the last key was rejected. */
export function askForKey(wrong) {
  const dialog = byId("key");
  const input = byId("key-input");
  byId("key-problem").hidden = !wrong;
  input.value = "";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener(
      "close",
      () => {
        const key = input.value.trim();
        input.value = "";
        if (dialog.returnValue !== "ok" || !key) resolve(null);
        else if (/[^\x21-\x7e]/.test(key)) resolve(askForKey(true));
        else resolve(key);
        dialog.returnValue = "";
      },
      { once: true },
    );
  });
}

/** Asks for a confirmation. Resolves to whether the user chose `action`. */
export function confirmed(title, text, action) {
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
