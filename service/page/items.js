// The list of recommendations, what is similar to each, and how long it all took.

import { Problem, call, path } from "./api.js";
import { by, h, milliseconds, number, signed, withShare } from "./dom.js";
import { fail } from "./notices.js";

const MOST_SIMILAR = 6;
const STAGES = { store: "Read history", queue: "Wait", encode: "Encode", score: "Score all items", respond: "Write answer" };

let ranks = null; // of the list before, by id
let comparable = true; // until the service says that items cannot be compared

export function drawItems(answer, catalogue, pick) {
  const list = by("items"), focused = placeOfFocus(list);
  const scores = answer.items.map((item) => item.score);
  const popular = answer.strategy === "popular";
  const [least, most] = [popular ? 0 : Math.min(...scores), Math.max(...scores)];
  const share = (score) => (popular ? 0 : 12) + (popular ? 100 : 88) * (most > least ? (score - least) / (most - least) : 1);
  list.replaceChildren(...answer.items.map((item) => row(item, share(item.score), popular, catalogue, pick)));
  ranks = new Map(answer.items.map((item) => [item.item_id, item.rank]));
  list.setAttribute("aria-busy", "false");
  if (focused >= 0) (list.querySelectorAll(":scope > li > .item .add")[focused] ?? by("recommendations")).focus();
}

function row(item, share, popular, catalogue, pick) {
  const id = item.item_id, title = catalogue.title(id), moved = movement(item);
  const score = popular ? number(item.score) : number(item.score, 2);
  const [button, place] = comparable ? likeThis(id, title, catalogue, pick) : [];
  return h("li", { className: moved === "new" ? "arrived" : "" },
    h("div", { className: "item" },
      h("span", { className: "rank" }, number(item.rank), moved && h("span", { className: "moved", "aria-hidden": "true" }, moved)),
      h("div", {},
        h("button", { className: "add", "aria-label": `Add ${title} to the history`, click: () => pick(id) }, title),
        h("p", { className: "details" }, catalogue.details(id))),
      h("div", { className: "score", title: popular ? "Interactions in the training data" : "The model's score" },
        h("span", { className: "unseen" }, popular ? "Interactions " : "Score "), score,
        h("div", { className: "meter", "aria-hidden": "true" }, withShare(h("span"), share)), button),
      because(item.explanation ?? [], catalogue), place));
}

function movement({ item_id: id, rank }) {
  if (!ranks) return null;
  if (!ranks.has(id)) return "new";
  const up = ranks.get(id) - rank;
  return up ? (up > 0 ? `↑${up}` : `↓${-up}`) : null;
}

function because(reasons, catalogue) {
  if (!reasons.length) return null;
  return h("div", { className: "because" }, "because of",
    h("ul", { "aria-label": "Because of" }, reasons.map(({ item_id: id, contribution }) => h("li", {}, `${catalogue.title(id)} `, h("b", {}, signed(contribution))))));
}

function likeThis(id, title, catalogue, pick) {
  const place = h("div", { className: "likes" });
  const button = h("button", { className: "plain like", "aria-expanded": "false", "aria-label": `Similar to ${title}`, click: async () => {
    const open = button.getAttribute("aria-expanded") === "true";
    button.setAttribute("aria-expanded", String(!open));
    if (open) return place.replaceChildren();
    try {
      const { data } = await call("GET", path("items/", id, `/similar?k=${MOST_SIMILAR}`));
      catalogue.learn(data.items);
      place.replaceChildren(similar(data.items, title, catalogue, pick));
    } catch (error) {
      if (!(error instanceof Problem && error.status === 404)) return fail(error);
      place.replaceChildren(h("p", { className: "quiet" }, cannotCompare(error)));
    }
  } }, "Similar");
  return [button, place];
}

function similar(items, title, catalogue, pick) {
  return h("ul", { className: "similar", "aria-label": `Similar to ${title}` }, items.map((item) => {
    const other = catalogue.title(item.item_id);
    return h("li", {},
      h("span", {}, h("button", { className: "add", "aria-label": `Add ${other} to the history`, click: () => pick(item.item_id) }, other)),
      h("b", { title: "Similarity, at most 1" }, number(item.score, 2)));
  }));
}

/** Take the buttons away where there is nothing behind them; an item may also just have gone. */
function cannotCompare(error) {
  if (error.type === "item-not-found") return error.message;
  comparable = false;
  for (const other of document.querySelectorAll(".like")) other.hidden = true;
  return error.type === "no-similar-items" ? error.message : "This service does not compare items.";
}

export function drawTimings(stages, elapsed) {
  const known = Object.entries(stages).filter(([stage]) => stage in STAGES);
  const total = known.reduce((sum, [, ms]) => sum + ms, 0);
  by("timings").hidden = !known.length;
  by("timings-label").textContent = `${milliseconds(total)} in the service, ${milliseconds(elapsed)} round trip`;
  by("timings-bar").replaceChildren(...known.map(([stage, ms]) =>
    withShare(h("span", { className: `stage-${stage}` }), total ? (100 * ms) / total : 0)));
  by("timings-list").replaceChildren(...known.map(([stage, ms]) =>
    h("div", { className: `stage-${stage}` }, h("dt", {}, STAGES[stage]), h("dd", {}, milliseconds(ms)))));
}

function placeOfFocus(list) {
  const row = document.activeElement?.closest("#items > li");
  return row ? [...list.children].indexOf(row) : -1;
}
