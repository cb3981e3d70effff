// The search field: a combobox (WAI-ARIA 1.2) over GET /items.

import { call } from "./api.js";
import { by, h, plural } from "./dom.js";

const PAUSE_MS = 120;
const MOST_FOUND = 12;

/** Let the field search; `pick` gets the item that is chosen, `fail` what went wrong.
 *
 * Returns what searches once more if the last search failed. */
export function addSearch({ catalogue, limit, pick, fail }) {
  const field = by("search"), list = by("found"), note = by("search-note");
  let items = [], active = -1, asked, timer;
  let pending = false, failed = false; // the search for what the field holds
  let entered = false; // Enter came before what it is to choose

  field.addEventListener("input", () => {
    clearTimeout(timer);
    asked?.abort();
    show([], ""); // of other words
    pending = true;
    failed = entered = false;
    timer = setTimeout(search, PAUSE_MS);
  });
  field.addEventListener("keydown", (event) => {
    const move = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (move && items.length && !list.hidden) {
      activate((active + move + items.length + (active < 0 && move < 0 ? 1 : 0)) % items.length);
      event.preventDefault();
    } else if (event.key === "Enter" && pending) {
      entered = true;
      event.preventDefault();
    } else if (event.key === "Enter" && active >= 0) {
      choose(items[active]);
      event.preventDefault();
    } else if (event.key === "Escape" && !list.hidden) {
      close();
      event.preventDefault();
    }
  });
  field.addEventListener("focus", () => items.length && field.value.trim() && open());
  field.addEventListener("blur", close);
  list.addEventListener("pointerdown", (event) => event.preventDefault()); // the field keeps the focus
  return () => failed && search();

  async function search() {
    asked?.abort();
    const query = field.value.trim();
    failed = false;
    pending = query !== "";
    if (!pending) return show([], "");
    asked = new AbortController();
    const most = Math.min(MOST_FOUND, limit());
    try {
      const asking = `items?query=${encodeURIComponent(query)}&limit=${most}`;
      const { data } = await call("GET", asking, { signal: asked.signal });
      pending = false;
      catalogue().learn(data.items);
      show(data.items, data.items.length ? "" : `Nothing found among ${plural(data.searched, "item")}.`);
      if (entered && items.length) choose(items[0]);
    } catch (error) {
      if (error.name === "AbortError") return; // for another search
      pending = entered = false;
      failed = fail(error);
    }
  }

  function show(found, message) {
    items = found;
    note.textContent = message;
    list.replaceChildren(
      ...items.map((item, place) =>
        h("li", { id: `found-${place}`, role: "option", click: () => choose(item), pointermove: () => activate(place) },
          catalogue().title(item.item_id), h("small", {}, catalogue().details(item.item_id)))),
    );
    if (items.length && document.activeElement === field) {
      open();
      activate(0);
    } else {
      close();
    }
  }

  function activate(place) {
    if (list.hidden) return;
    active = place;
    [...list.children].forEach((row, other) => row.setAttribute("aria-selected", String(other === place)));
    field.setAttribute("aria-activedescendant", `found-${place}`);
    list.children[place].scrollIntoView({ block: "nearest" });
  }

  function choose(item) {
    field.value = "";
    show([], "");
    pick(item.item_id);
  }

  function open() {
    list.hidden = false;
    field.setAttribute("aria-expanded", "true");
  }

  function close() {
    list.hidden = true;
    active = -1;
    field.setAttribute("aria-expanded", "false");
    field.removeAttribute("aria-activedescendant");
  }
}
