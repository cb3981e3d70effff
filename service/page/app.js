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
let asked = null;

const history = new History({ catalogue: () => catalogue, limits: () => limits, changed: recommend });
const pick = (id) => history.pick(id);

addNotices(() => (started ? recommend() : start()));
addSearch({ catalogue: () => catalogue, limit: () => limits.max_found_items, pick, fail });
by("k").addEventListener("change", recommend);
by("reasons").addEventListener("change", recommend);
start();

/** Learn what is served, once, and show what there is to begin with. */
async function start() {
  history.draw();
  try {
    const [model, attributes] = await Promise.all([call("GET", "model"), call("GET", "attributes")]);
    if (started) return;
    started = true;
    limits = { ...limits, ...model.data.limits, max_length: model.data.sizes.max_length };
    catalogue = new Catalogue(attributes.data.attributes);
    by("model").textContent =
      `${model.data.name} · version ${model.data.version} · ${plural(model.data.sizes.num_items, "item")}`;
    for (const option of [...by("k").options].slice(1)) if (Number(option.value) > limits.max_k) option.remove();
    filters = addFilters(catalogue.filters, recommend);
    if (history.user !== null) await history.readStored();
    await history.learnTitles();
  } catch (error) {
    return fail(error);
  }
  recommend();
}

async function recommend() {
  if (!started) return;
  asked?.abort();
  asked = new AbortController();
  const { signal } = asked;
  const include = ["metadata", "scores", ...(by("reasons").checked ? ["explanation"] : [])];
  const k = Math.min(Number(by("k").value), limits.max_k);
  by("items").setAttribute("aria-busy", "true");
  try {
    const body = { ...history.question(), k, include, filters: filters() };
    const { data, stages, elapsed } = await call("POST", "recommend", { body, signal });
    tell("error", null);
    tell("service", null);
    catalogue.learn(data.items);
    describe(data);
    drawItems(data, catalogue, pick);
    drawTimings(stages, elapsed);
    await history.heard(!data.degraded.includes("store_unavailable"));
  } catch (error) {
    if (!signal.aborted) by("items").setAttribute("aria-busy", "false");
    fail(error);
  }
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
