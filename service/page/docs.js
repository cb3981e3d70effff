// The API's page: draws /openapi.json, and lets each operation be tried.

import { key } from "./api.js";
import { by, h, milliseconds } from "./dom.js";

const METHODS = ["get", "post", "put", "patch", "delete"];
let models = {};

by("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  key.set(by("key").value.trim() || null);
  start();
});
start();

async function start() {
  try {
    const response = await ask("GET", "openapi.json");
    if (!response.ok) throw new Error(response.status === 401 ? "This service wants an API key, below." : `The service answered ${response.status}.`);
    draw(await response.json());
    by("notice").hidden = true;
  } catch (error) {
    by("notice").hidden = false;
    by("notice").textContent = error instanceof TypeError ? "The service does not answer." : error.message;
  }
}

function draw(document_) {
  models = document_.components?.schemas ?? {};
  by("about").textContent = `The API · version ${document_.info.version}`;
  const groups = new Map();
  for (const [path, methods] of Object.entries(document_.paths)) {
    for (const method of METHODS.filter((name) => name in methods)) {
      const operation = { path, method, ...methods[method] };
      const tag = operation.tags?.[0] ?? "other";
      groups.set(tag, [...(groups.get(tag) ?? []), operation]);
    }
  }
  const contents = [], operations = [];
  for (const [tag, group] of groups) {
    contents.push(h("h2", {}, tag), ...group.map(link));
    operations.push(h("h2", {}, tag), ...group.map(drawOperation));
  }
  by("contents").replaceChildren(...contents);
  by("operations").replaceChildren(...operations);
  if (location.hash) open(location.hash.slice(1));
}

const anchor = ({ method, path }) => `${method}-${path}`.replace(/[^\w]+/g, "-");
const badge = (method) => h("span", { className: `method ${method}` }, method.toUpperCase());

function link(operation) {
  return h("a", { href: `#${anchor(operation)}`, click: () => open(anchor(operation)) }, badge(operation.method), operation.path);
}

function open(id) {
  const operation = by(id);
  if (operation?.matches(".operation")) operation.open = true;
}

function drawOperation(operation) {
  const body = operation.requestBody?.content["application/json"].schema;
  const [summary, ...rest] = (operation.description ?? operation.summary ?? "").split("\n\n");
  const paragraphs = rest.map((text) => h("p", {}, text));
  const answers = Object.entries(operation.responses ?? {});
  const succeeds = answers.find(([status]) => status.startsWith("2"))?.[1].content?.["application/json"]?.schema;
  return h("details", { className: "operation", id: anchor(operation) },
    h("summary", {}, badge(operation.method), h("code", {}, operation.path), h("span", {}, summary)),
    h("div", {}, paragraphs, tryIt(operation, body),
      body && [h("h3", {}, "Body"), fieldsOf(body)],
      succeeds && [h("h3", {}, "Answer"), fieldsOf(succeeds)],
      h("h3", {}, "Statuses"),
      h("dl", { className: "fields" }, answers.map(([status, { description }]) =>
        h("div", {}, h("dt", {}, h("code", {}, status)), h("dd", {}, description))))));
}

function tryIt(operation, body) {
  const inputs = (operation.parameters ?? []).map((parameter) => {
    const { name, schema, required } = parameter;
    const example = parameter.example ?? schema?.examples?.[0];
    const field = h("input", { value: example ?? "", required: Boolean(required), placeholder: schema?.default ?? "" });
    const text = [parameter.description ?? schema?.description, typeOf(schema)].filter(Boolean).join("; ");
    return { ...parameter, field, row: h("label", { className: "field" }, h("span", {}, h("code", {}, name), " ", h("small", {}, text)), field) };
  });
  const example = body && resolve(body).examples?.[0];
  const value = JSON.stringify(example ?? {}, null, 2), rows = Math.min(20, value.split("\n").length + 1);
  const text = body && h("textarea", { rows, spellcheck: false, "aria-label": "Body", value });
  const output = h("div", { role: "status" });
  return h("form", { submit: async (event) => {
    event.preventDefault();
    output.replaceChildren(...(await tried(operation, inputs, text?.value)));
  } }, inputs.map(({ row }) => row), text, h("p", { className: "together" }, h("button", { className: "primary" }, "Send")), output);
}

async function tried(operation, inputs, body) {
  let path = operation.path.slice(1);
  const query = new URLSearchParams();
  for (const { name, in: place, schema, field } of inputs) {
    if (place === "path") path = path.replace(`{${name}}`, encodeURIComponent(field.value));
    else if (field.value !== "") for (const value of schema?.type === "array" ? field.value.split(",") : [field.value]) query.append(name, value);
  }
  const started = performance.now();
  try {
    const response = await ask(operation.method.toUpperCase(), query.size ? `${path}?${query}` : path, body);
    const content = await response.text();
    const took = milliseconds(performance.now() - started);
    const headers = [...response.headers].map(([name, value]) => `${name}: ${value}`).join("\n");
    return [
      h("p", { className: `status ${response.ok ? "" : "bad"}` }, `${response.status}, ${took}`),
      content && h("pre", { tabIndex: 0, "aria-label": "Answer" }, pretty(content)),
      h("details", {}, h("summary", { className: "quiet" }, "Headers"), h("pre", {}, headers)),
    ].filter(Boolean);
  } catch {
    return [h("p", { className: "status bad" }, "The service does not answer.")];
  }
}

function ask(method, path, body) {
  const headers = body === undefined ? {} : { "Content-Type": "application/json" };
  if (key.get()) headers.Authorization = `Bearer ${key.get()}`;
  return fetch(path, { method, headers, body });
}

function pretty(text) {
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text;
  }
}

/** The fields of a schema's model, and of every model that it mentions. */
function fieldsOf(schema) {
  const names = [...mentioned(schema)];
  return names.map((name, place) => [place ? h("h4", {}, name) : null, fieldsOfModel(models[name])]);
}

function mentioned(schema, found = new Set()) {
  JSON.stringify(schema, (keyword, value) => {
    const name = keyword === "$ref" ? value.split("/").pop() : null;
    if (name in models && !found.has(name)) mentioned(models[name], found.add(name));
    return value;
  });
  return found;
}

function fieldsOfModel({ properties = {}, required = [] }) {
  return h("dl", { className: "fields" }, Object.entries(properties).map(([name, schema]) => {
    const notes = [schema.description, "default" in schema && `default ${JSON.stringify(schema.default)}`];
    const type = typeOf(schema) + (required.includes(name) ? "" : ", optional");
    return h("div", {}, h("dt", {}, h("code", {}, name)),
      h("dd", {}, type, notes.filter(Boolean).map((note) => h("small", {}, note))));
  }));
}

function typeOf(schema = {}) {
  if (schema.$ref) return schema.$ref.split("/").pop();
  const choices = schema.anyOf ?? schema.oneOf;
  if (choices) return [...new Set(choices.map(typeOf))].join(" or ");
  if (schema.enum || "const" in schema) return (schema.enum ?? [schema.const]).map((value) => JSON.stringify(value)).join(" or ");
  if (schema.type === "array") return `list of ${typeOf(schema.items)}`;
  if (schema.type === "object" && typeof schema.additionalProperties === "object") return `object of ${typeOf(schema.additionalProperties)}`;
  const bounds = ["minimum", "maximum", "minLength", "maxLength"].filter((name) => name in schema);
  const limits = bounds.map((name) => `${name.slice(0, 3)} ${schema[name]}`).join(", ");
  return (schema.type ?? "anything") + (schema.format ? ` (${schema.format})` : "") + (limits ? ` (${limits})` : "");
}

const resolve = (schema) => (schema.$ref ? models[schema.$ref.split("/").pop()] : schema);
