// The page: a history on one side, what the model would show next on the other.

import { call } from "./api.js";
import { Catalogue } from "./catalogue.js";
import { by, number, plural } from "./dom.js";
import { addFilters } from "./filters.js";
import { History } from "./history.js";
import { drawItems, drawTimings } from "./items.js";
import { addNotices, fail, tell } from "./notices.js";
import { addSearch } from "./search.js";

let catalogue = new Catalogue();
let limits = { max_events: 500, max_found_items: 100, max_k: 1000, max_length: Infinity };
let filters = () => ({});
let started = false;
let shown = false; // whether the list answers what was asked last
let asked = null;
const learned = {}; // what the service says once, by path
const models = new Map(); // by version

const history = new History({ catalogue: () => catalogue, limits: () => limits, changed: recommend });
const pick = (id) => history.pick(id);

addNotices(goOn);
const searchAgain = addSearch({ catalogue: () => catalogue, limit: () => limits.max_found_items, pick, fail });
by("k").addEventListener("change", recommend);
by("reasons").addEventListener("change", recommend);
start();

/** Learn what is served, once, and show what there is to begin with. */
async function start() {
  history.draw();
  try {
    const [model, { attributes }] = await Promise.all([learn("model"), learn("attributes")]);
    if (started) return;
    started = true;
    meet(model);
    drawModel(model);
    catalogue = new Catalogue(attributes);
    for (const option of [...by("k").options].slice(1)) if (Number(option.value) > limits.max_k) option.remove();
    filters = addFilters(catalogue.filters, recommend);
  } catch (error) {
    return fail(error);
  }
  history.unread = history.user !== null;
  await goOn();
}

/** Try once more what failed; recommendations that are shown stay until there is something new to say. */
async function goOn() {
  if (!started) return start();
  await searchAgain();
  if ((await history.catchUp()) || !shown) await recommend();
}

/** Ask for what stays as it is; what was answered is kept, for a limit on the rate may refuse the rest. */
async function learn(path) {
  return (learned[path] ??= (await call("GET", path)).data);
}

async function recommend() {
  if (!started) return;
  asked?.abort();
  asked = new AbortController();
  const { signal } = asked;
  const include = ["metadata", "scores", ...(by("reasons").checked ? ["explanation"] : [])];
  const k = Math.min(Number(by("k").value), limits.max_k);
  shown = false;
  by("items").setAttribute("aria-busy", "true");
  try {
    const body = { ...history.question(), k, include, filters: filters() };
    const { data, stages, elapsed } = await call("POST", "recommend", { body, signal });
    tell("error", null);
    if (!history.owes) tell("service", null);
    catalogue.learn(data.items);
    describe(data);
    drawItems(data, catalogue, pick);
    drawTimings(stages, elapsed);
    shown = true;
    drawModel(data.model);
    await history.heard(!data.degraded.includes("store_unavailable"));
    if (!models.has(data.model.version)) await meetAgain(data.model);
  } catch (error) {
    if (!signal.aborted) by("items").setAttribute("aria-busy", "false");
    fail(error);
  }
}

function meet(model) {
  for (const each of [model, model.challenger]) if (each) models.set(each.version, each);
  limits = { ...limits, ...model.limits };
}

/** Another model has been activated since: learn what it is. */
async function meetAgain(answered) {
  meet((await call("GET", "model")).data);
  drawModel(answered);
}

function drawModel({ name, version }) {
  const sizes = models.get(version)?.sizes;
  if (sizes) limits.max_length = sizes.max_length;
  const parts = [name, `version ${version}`, ...(sizes ? [plural(sizes.num_items, "item")] : [])];
  by("model").textContent = parts.join(" · ");
}

function describe(data) {
  const byModel = data.strategy === "model";
  by("next-label").textContent = byModel ? "What next" : "Popular now";
  const parts = byModel
    ? [`By the model, from ${data.history.used} of ${plural(data.history.received, "pick")}`]
    : ["By number of interactions"];
  const unknown = data.history.unknown_items.length;
  if (unknown) parts.push(`${number(unknown)} unknown to this model`);
  if (data.exhausted) parts.push(`only ${plural(data.items.length, "item")} can be shown`);
  by("how").textContent = parts.join(" · ");
  const first = data.items.length ? `, first ${catalogue.title(data.items[0].item_id)}` : "";
  by("announce").textContent = `${plural(data.items.length, byModel ? "recommendation" : "popular item")}${first}`;
}
