// Building elements. Text is only ever set as text: titles are whatever the catalogue holds.

export const by = (id) => document.getElementById(id);

/** Make an element; functions among the properties are listeners, names with "-" or "role" attributes. */
export function h(tag, properties, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties ?? {})) {
    if (value === undefined || value === null) continue;
    if (typeof value === "function") element.addEventListener(name, value);
    else if (name.includes("-") || name === "role") element.setAttribute(name, value);
    else element[name] = value;
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** An element whose style knows its share of something, 0 to 100. */
export function withShare(element, share) {
  element.style.setProperty("--share", Math.max(0, Math.min(100, share)).toFixed(2));
  return element;
}

export const number = (value, digits = 0) =>
  value.toLocaleString(undefined, { minimumFractionDigits: digits, maximumFractionDigits: digits });

export const signed = (value) => (value < 0 ? "" : "+") + number(value, 2);

export const milliseconds = (value) => `${number(value, value < 10 ? 2 : value < 100 ? 1 : 0)} ms`;

export const plural = (count, noun) => `${number(count)} ${noun}${count === 1 ? "" : "s"}`;
