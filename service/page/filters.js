// Filters: one box of choices for each category, one range for each column of numbers.

import { readable } from "./catalogue.js";
import { by, h, number } from "./dom.js";

/** Draw the filters; `changed` is called with each change. Returns what gives them in the API's form. */
export function addFilters(attributes, changed) {
  const boxes = attributes.map((attribute) =>
    attribute.type === "number" ? range(attribute, changed) : choices(attribute, changed));
  const clear = h("button", { className: "plain", type: "button", hidden: true, click: () => {
    boxes.forEach((box) => box.clear());
    changed();
    boxes[0].element.querySelector("summary").focus();
  } }, "Clear filters");
  by("filters").replaceChildren(...boxes.map((box) => box.element), ...(boxes.length ? [clear] : []));
  return () => {
    const set = boxes.filter((box) => box.label());
    for (const { element, label, name } of boxes) {
      element.classList.toggle("active", Boolean(label()));
      element.querySelector("summary span").textContent = label() ? `${name}: ${label()}` : name;
    }
    clear.hidden = !set.length;
    return Object.fromEntries(set.map((box) => [box.column, box.condition()]));
  };
}

function box(name, content) {
  const summary = h("summary", {}, h("span", {}, name));
  const element = h("details", { name: "filters", keydown: (event) => {
    if (event.key === "Escape" && element.open) {
      element.open = false;
      summary.focus();
    }
  } }, summary, h("div", { className: "choices", role: "group", "aria-label": name }, content));
  return element;
}

function choices({ name, type, values }, changed) {
  const boxes = values.map(({ value, count }) => {
    const field = h("input", { type: "checkbox", change: changed });
    const text = type === "boolean" ? (value ? "Yes" : "No") : value;
    return { value, text, field, row: h("label", {}, field, text, h("small", {}, number(count))) };
  });
  const checked = () => boxes.filter(({ field }) => field.checked);
  return {
    name: readable(name),
    column: name,
    element: box(readable(name), boxes.map(({ row }) => row)),
    label: () => checked().map(({ text }) => text).join(", "),
    condition: () => ({ any: checked().map(({ value }) => value) }),
    clear: () => boxes.forEach(({ field }) => (field.checked = false)),
  };
}

function range({ name, min, max }, changed) {
  const field = (hint) => h("input", { type: "number", step: "any", placeholder: String(hint), change: changed });
  const [from, to] = [field(min), field(max)];
  const given = (input) => (input.value === "" ? null : input.valueAsNumber);
  return {
    name: readable(name),
    column: name,
    element: box(readable(name), h("div", { className: "range" },
      h("label", {}, "From", from), h("label", {}, "To", to))),
    label: () => (from.value === "" && to.value === "" ? "" : `${from.value || "…"} to ${to.value || "…"}`),
    condition: () => ({ min: given(from), max: given(to) }),
    clear: () => (from.value = to.value = ""),
  };
}

/** Close an open box when something else is clicked. */
document.addEventListener("click", (event) => {
  for (const open of document.querySelectorAll(".filters details[open]")) {
    if (!open.contains(event.target)) open.open = false;
  }
});
