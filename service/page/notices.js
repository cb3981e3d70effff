// What is not as it should be, told at the top of the page, and the field for the key.

import { Again } from "./again.js";
import { Problem, Unreachable, call, key } from "./api.js";
import { by, h } from "./dom.js";

const told = new Map();
const again = new Again(ask);
let resume = () => {};

/** Let `goOn` be called to try once more what failed: when the service may answer, or when a key was given. */
export function addNotices(goOn) {
  resume = goOn;
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
  if (!told.has("service") && !told.has("store")) again.stop();
  by("notice").hidden = !told.size;
  by("notice").replaceChildren(...[...told.values()].map((each) => h("p", {}, each)));
}

/** Tell what went wrong, and do what can be done; returns whether it will be tried again. */
export function fail(error) {
  if (error.name === "AbortError") return false;
  if (error instanceof Unreachable) {
    waitFor("The service does not answer.");
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
    waitFor("The service is not ready, or too busy.", error.retryAfterMs);
  } else if (error.status === 429) {
    waitFor(error.message, error.retryAfterMs);
  } else {
    tell("error", error.message);
    tell("service", null); // it answered
    return false;
  }
  return true;
}

export function tellStoreDown() {
  tell("store", "The store of histories does not answer. Recommendations go on from what is picked here; " +
    "what is not stored yet stays in this tab until it does.");
  tell("service", null); // it answered
  again.plan();
}

function waitFor(text, least) {
  tell("service", `${text} This page asks again by itself.`);
  again.plan(least);
}

async function ask() {
  try {
    await call("GET", "readyz");
    await resume();
  } catch (error) {
    fail(error);
  }
}
