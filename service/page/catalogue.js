// What the catalogue's columns mean to a reader: which is the title, which are categories, which are details.

const TITLES = ["title", "name", "product_name", "item_name", "track_name", "label"];
const MOST_FILTERS = 6;
const LONGEST = 300;

export class Catalogue {
  constructor(attributes = []) {
    const categories = attributes.filter(isCategory);
    const texts = attributes.filter((a) => a.type === "text" && !a.list);
    const named = texts.find((a) => TITLES.includes(a.name.toLowerCase()));
    this.titleColumn = (named ?? texts.find((a) => !categories.includes(a)))?.name;
    const ranges = attributes.filter((a) => a.type === "number" && !a.list && a.min !== null && a.min < a.max);
    this.filters = [...categories, ...ranges].filter((a) => a.name !== this.titleColumn).slice(0, MOST_FILTERS);
    this.known = new Map();
  }

  /** Remember what is known of items, for where only their ids are. */
  learn(items) {
    for (const item of items) if (item.metadata) this.known.set(item.item_id, item.metadata);
  }

  knows(id) {
    return this.known.has(id);
  }

  title(id) {
    const title = this.known.get(id)?.[this.titleColumn];
    return typeof title === "string" && title.trim() ? title.slice(0, LONGEST) : id;
  }

  /** The other columns, in one line. */
  details(id) {
    const metadata = Object.entries(this.known.get(id) ?? {});
    const told = metadata.filter(([name]) => name !== this.titleColumn).map(([, value]) => asText(value));
    return told.filter((text) => text !== "").join(" · ").slice(0, LONGEST);
  }
}

export const readable = (name) => {
  const words = name.replace(/[_-]+/g, " ").trim();
  return words.charAt(0).toUpperCase() + words.slice(1);
};

/** Text or a truth value that many items share. */
const isCategory = ({ type, values }) => (type === "text" || type === "boolean") && values.length > 1;

function asText(value) {
  if (value === null || value === undefined) return "";
  if (Array.isArray(value)) return value.map(asText).filter(Boolean).join(", ");
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}
