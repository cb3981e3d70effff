// The past: what was picked in this tab, and what is stored for a user. Newest first.

import { Problem, call, path, read, write } from "./api.js";
import { by, h, plural } from "./dom.js";
import { fail, tell, tellStoreDown } from "./notices.js";

const SHOWN = matchMedia("(max-width: 899px)").matches ? 3 : 6;
const MOST_SHOWN = 50;
const SAVED = "recjpq.session";

export class History {
  /** `changed` is called when recommendations have to be asked for again. */
  constructor({ catalogue, limits, changed }) {
    this.catalogue = catalogue;
    this.limits = limits;
    this.changed = changed;
    this.picked = []; // {id, event, owed}: not stored, oldest first; `owed` is what will be tried again
    this.user = null;
    this.stored = []; // ids of the user's stored events, oldest first
    this.unread = false; // whether the store could not be read
    this.all = false;
    this.#restore();
    this.#wire();
  }

  /** What a request says of it. */
  question() {
    const history = this.picked.map(({ id }) => id);
    return this.user === null ? { history } : { history, user_id: this.user };
  }

  get length() {
    return this.picked.length + this.stored.length;
  }

  /** Whether something is still to be stored that could not be. */
  get owes() {
    return this.picked.some(({ owed }) => owed);
  }

  async pick(id) {
    this.picked.push({ id, event: eventId() });
    this.draw();
    if (this.user !== null) await this.store(); // with what could not be stored before, in order
    this.changed();
  }

  /** Store what is not stored yet; if that fails, it stays where it is. */
  async store() {
    const user = this.user, picks = this.picked.slice(0, this.limits().max_events);
    const events = picks.map(({ id, event }) => ({ item_id: id, event_id: event }));
    try {
      const { data } = await call("POST", path("users/", user, "/events"), { body: { events } });
      if (this.user !== user) return;
      tell("store", null);
      this.picked = this.picked.filter((pick) => !picks.includes(pick));
      if (data.stored === picks.length && !this.unread) this.stored.push(...picks.map(({ id }) => id));
      else await this.readStored();
      if (this.owes) await this.store(); // more than one request may hold
    } catch (error) {
      const owed = fail(error) && this.user === user;
      for (const pick of picks) pick.owed = owed;
    }
    this.draw();
  }

  /** Store and read what could not be; returns whether nothing of it is left. */
  async catchUp() {
    if (this.owes) await this.store();
    if (this.unread) await this.readStored();
    try {
      await this.learnTitles();
    } catch (error) {
      fail(error);
    }
    return !this.owes && !this.unread;
  }

  async open(user) {
    this.user = user;
    this.stored = [];
    this.draw();
    await this.readStored();
    this.changed();
  }

  close() {
    this.user = null;
    this.#oweNothing();
    this.stored = [];
    this.unread = false;
    tell("store", null);
    this.draw();
    this.changed();
    by("user").focus();
  }

  async readStored() {
    const user = this.user;
    this.unread = true;
    try {
      const { data } = await call("GET", path("users/", user, "/events"));
      if (this.user !== user) return;
      this.stored = data.events.map((event) => event.item_id);
      this.unread = false;
      await this.learnTitles();
    } catch (error) {
      if (error instanceof Problem && error.status === 422) {
        this.user = null;
        this.unread = false;
      }
      fail(error);
    }
    this.draw();
  }

  /** Ask for what is not known of the items that can be shown. */
  async learnTitles() {
    const newest = [...this.stored.slice(-MOST_SHOWN), ...this.picked.slice(-MOST_SHOWN).map(({ id }) => id)];
    const unknown = [...new Set(newest)].filter((id) => !this.catalogue().knows(id));
    for (let start = 0; start < unknown.length; start += this.limits().max_found_items) {
      const ids = unknown.slice(start, start + this.limits().max_found_items);
      const asked = ids.map((id) => `item_id=${encodeURIComponent(id)}`).join("&");
      this.catalogue().learn((await call("GET", `items?${asked}`)).data.items);
    }
    if (unknown.length) this.draw();
  }

  async forget() {
    this.#oweNothing();
    try {
      await call("DELETE", path("users/", this.user, "/events"));
      this.stored = [];
      this.unread = false;
      tell("store", null);
    } catch (error) {
      fail(error);
    }
    this.draw();
    this.changed();
  }

  /** Take note of whether the store could be read for the last recommendations. */
  async heard(storeAnswers) {
    if (!storeAnswers) {
      this.unread = this.user !== null;
      return tellStoreDown();
    }
    if (!this.owes) tell("store", null); // reads may be answered where writes are not
    if (this.unread) await this.readStored();
  }

  draw() {
    write(SAVED, JSON.stringify({ picked: this.picked, user: this.user }));
    this.#drawUser();
    const picked = this.picked.map((pick) => ({ id: pick.id, pick })).reverse();
    const stored = this.stored.map((id) => ({ id })).reverse().slice(0, MOST_SHOWN);
    const most = this.all ? Infinity : SHOWN;
    by("clear").hidden = !picked.length;
    const parts = [];
    if (this.user !== null && picked.length) parts.push(this.#notStored());
    parts.push(this.#rows(picked.slice(0, most), 0));
    if (this.user !== null && stored.length) {
      parts.push(h("p", { className: "group" }, `${plural(this.stored.length, "pick")} stored, newest first`));
    }
    parts.push(this.#rows(stored.slice(0, Math.max(0, most - picked.length)), picked.length));
    if (picked.length + stored.length > SHOWN) parts.push(this.#more(picked.length + stored.length));
    if (!this.length) parts.push(h("p", { className: "quiet" }, this.#nothing()));
    by("history").replaceChildren(...parts.filter(Boolean));
  }

  #oweNothing() {
    for (const pick of this.picked) pick.owed = false;
  }

  #nothing() {
    if (this.unread) return "What is stored cannot be read now.";
    return "Nothing yet. Search, or pick one of the popular items: each pick changes what comes next.";
  }

  #rows(entries, before) {
    if (!entries.length) return null;
    return h("ul", {}, entries.map(({ id, pick }, place) => {
      const title = this.catalogue().title(id);
      const late = before + place >= this.limits().max_length;
      return h("li", late ? { className: "unseen-by-model", title: "Too long ago for this model" } : {},
        h("span", {}, title),
        pick && h("button", { className: "remove", "aria-label": `Remove ${title}`, click: () => this.#remove(pick) }, "×"));
    }));
  }

  #notStored() {
    return h("p", { className: "group" }, `${plural(this.picked.length, "pick")} not stored`,
      h("button", { className: "plain", click: () => this.store().then(this.changed) }, "Store"));
  }

  #more(count) {
    const text = this.all ? "Show fewer" : `Show all ${count}`;
    return h("button", { className: "plain", id: "more", "aria-expanded": String(this.all), click: () => {
      this.all = !this.all;
      this.draw();
      by("more").focus();
    } }, text);
  }

  #remove(pick) {
    const place = [...document.querySelectorAll(".remove")].indexOf(document.activeElement);
    this.picked = this.picked.filter((other) => other !== pick);
    this.draw();
    const buttons = document.querySelectorAll(".remove");
    (buttons[Math.min(place, buttons.length - 1)] ?? by("history-label")).focus();
    this.changed();
  }

  #drawUser() {
    by("user-form").hidden = this.user !== null;
    by("user-open").hidden = this.user === null;
    by("user-name").textContent = by("forget-name").textContent = this.user ?? "";
  }

  #restore() {
    try {
      const { picked, user } = JSON.parse(read(SAVED));
      this.picked = picked.filter(({ id, event }) => typeof id === "string" && typeof event === "string");
      this.user = typeof user === "string" && user.trim() ? user : null;
    } catch {
      // Nothing was saved, or not by this page.
    }
  }

  #wire() {
    by("clear").addEventListener("click", () => {
      this.picked = [];
      this.draw();
      by("history-label").focus();
      this.changed();
    });
    by("user-form").addEventListener("submit", async (event) => {
      event.preventDefault();
      await this.open(by("user").value);
      if (this.user !== null) by("user-label").focus();
    });
    by("user-close").addEventListener("click", () => this.close());
    by("user-forget").addEventListener("click", () => {
      by("forget").returnValue = "";
      by("forget").showModal();
    });
    by("forget").addEventListener("close", () => by("forget").returnValue === "forget" && this.forget());
  }
}

/** Random, so that an append can be repeated; `crypto.randomUUID` is only there on secure pages. */
function eventId() {
  return Array.from(crypto.getRandomValues(new Uint8Array(12)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
