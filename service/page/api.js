// The service's API: JSON in and out, problem documents as errors, Server-Timing as numbers.

const KEY = "recjpq.key";

/** An answer that is not what was asked for; `type` is the last part of the problem's type. */
export class Problem extends Error {
  constructor(status, document, retryAfterS = 0) {
    const wrong = (document.errors ?? []).map((error) => error.detail).join("; ");
    super(wrong || document.detail || `The service answered ${status}.`);
    this.status = status;
    this.type = (document.type ?? "about:blank").split(":").pop();
    this.retryAfterMs = 1000 * (retryAfterS || 0); // not a number where a proxy says a date
  }
}

/** No answer at all. */
export class Unreachable extends Error {}

export const key = {
  get: () => read(KEY),
  set: (value) => write(KEY, value),
};

/** Ask; returns `data` (null for 204), `stages` in milliseconds by name, and `elapsed` milliseconds. */
export async function call(method, path, { body, signal } = {}) {
  const headers = { Accept: "application/json" };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  if (key.get()) headers.Authorization = `Bearer ${key.get()}`;
  const started = performance.now();
  let response, text;
  try {
    response = await fetch(path, { method, headers, signal, body: body && JSON.stringify(body) });
    text = await response.text();
  } catch (error) {
    throw error.name === "AbortError" ? error : new Unreachable("The service does not answer.");
  }
  const elapsed = performance.now() - started;
  if (!response.ok) {
    throw new Problem(response.status, parsed(text) ?? {}, Number(response.headers.get("Retry-After")));
  }
  return { data: parsed(text), stages: stagesOf(response.headers.get("Server-Timing") ?? ""), elapsed };
}

/** Return a path in which an id stands for one segment. */
export function path(before, id, after = "") {
  // Browsers take these for the directory and its parent, also when they are percent-encoded.
  if (id === "." || id === "..") throw new Problem(422, { detail: `A browser cannot ask for the id ${id}` });
  return before + encodeURIComponent(id) + after;
}

/** What the browser keeps for this tab, if it keeps anything. */
export function read(name) {
  try {
    return sessionStorage.getItem(name);
  } catch {
    return null;
  }
}

export function write(name, value) {
  try {
    if (value === null) sessionStorage.removeItem(name);
    else sessionStorage.setItem(name, value);
  } catch {
    // Storage is off or full: the page works without, for as long as it is open.
  }
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

function stagesOf(header) {
  const stages = {};
  for (const [, name, ms] of header.matchAll(/([\w-]+);dur=([\d.]+)/g)) stages[name] = Number(ms);
  return stages;
}
