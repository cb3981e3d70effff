// What is not as it should be, told at the top of the page, and the field for the key.

import { Problem, Unreachable, call, key } from "./api.js";
import { by, h } from "./dom.js";

const AGAIN_MS = 2000;
const told = new Map();
let asking = null;
let resume = () => {};

/** Let `again` be called when the service answers once more, or when a key was given. */
export function addNotices(again) {
  resume = again;
  by("key-form").addEventListener("submit", (event) => {
    event.preventDefault();
    key.set(by("key").value.trim());
    by("key").value = "";
    by("key-form").hidden = true;
    by("search").focus();
    resume();
  });
}

/** Tell something, or with null no longer; `about` says what it replaces. */
export function tell(about, text) {
  if (text === (told.get(about) ?? null)) return;
  if (text === null) told.delete(about);
  else told.set(about, text);
  by("notice").hidden = !told.size;
  by("notice").replaceChildren(...[...told.values()].map((each) => h("p", {}, each)));
}

/** Tell what went wrong, and do what can be done. */
export function fail(error) {
  if (error.name === "AbortError") return;
  if (error instanceof Unreachable) {
    waitFor("The service does not answer. This page asks again every two seconds.");
  } else if (!(error instanceof Problem)) {
    throw error;
  } else if (error.status === 401) {
    if (key.get()) tell("error", "The service does not accept this key.");
    key.set(null);
    by("key-form").hidden = false;
    by("key").focus();
  } else if (error.type === "store-unavailable") {
    tellStoreDown();
  } else if (error.status === 503) {
    waitFor("The service is not ready, or too busy. This page asks again every two seconds.");
  } else {
    tell("error", error.message);
  }
}

export function tellStoreDown() {
  tell("store", "The store of histories does not answer. Recommendations go on from what is picked here; " +
    "what is not stored yet stays in this tab.");
}

function waitFor(text) {
  tell("service", text);
  asking ??= setTimeout(async () => {
    asking = null;
    try {
      await call("GET", "readyz");
      tell("service", null);
      resume();
    } catch (error) {
      fail(error);
    }
  }, AGAIN_MS);
}
