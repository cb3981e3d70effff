// Stands in for k6 under node: runs the load script's functions against a service, and records what it measured.
// node k6_stub.mjs SCRIPT ITERATIONS, with URL in the environment; writes what was recorded as JSON.
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, writeFileSync, mkdirSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const [script, iterations] = process.argv.slice(2);
globalThis.__ENV = process.env;
let state = 42;
Math.random = () => (state = (state * 48271) % 2147483647) / 2147483647; // the same requests every time
globalThis.recorded = { samples: {}, checks: [], requests: [] };
globalThis.call = (method, url, body, headers) => {
  const flags = Object.entries(headers).flatMap(([name, value]) => ["-H", `${name}: ${value}`]);
  const said = execFileSync("curl", ["-s", "-i", "-X", method, ...flags, ...(body ? ["-d", body] : []), url]);
  const [head, ...rest] = said.toString().split("\r\n\r\n");
  const [status, ...lines] = head.split("\r\n");
  const canonical = (name) => name.replace(/(^|-)[a-z]/g, (letters) => letters.toUpperCase());
  const answered = Object.fromEntries(lines.map((line) => line.split(": ")).map(([n, v]) => [canonical(n), v]));
  const text = rest.join("\r\n\r\n");
  return { status: Number(status.split(" ")[1]), headers: answered, body: text, json: () => JSON.parse(text) };
};

const modules = {
  "k6/http": `export default {
    get: (url, { headers = {} } = {}) => call("GET", url, null, headers),
    post: (url, body, { headers = {}, tags = {} } = {}) => {
      const answer = call("POST", url, body, headers);
      recorded.requests.push({ ...tags, status: answer.status, body: JSON.parse(body) });
      return answer;
    },
    batch: (requests) => requests.map(({ method, url, params: { headers = {}, tags = {} } }) => {
      const answer = call(method, url, null, headers);
      recorded.requests.push({ ...tags, url, status: answer.status });
      return answer;
    }) };`,
  k6: "export const check = (value, checks) => recorded.checks.push(...Object.values(checks).map((c) => c(value)));",
  "k6/metrics": `export class Trend {
    constructor(name) { recorded.samples[this.name = name] = []; }
    add(value) { recorded.samples[this.name].push(value); } };`,
};
const folder = mkdtempSync(join(tmpdir(), "k6-"));
let source = readFileSync(script, "utf8");
mkdirSync(join(folder, "k6"));
for (const [name, code] of Object.entries(modules)) {
  writeFileSync(join(folder, `${name}.mjs`), code);
  source = source.replace(`from "${name}"`, `from "./${name}.mjs"`);
}
writeFileSync(join(folder, "script.mjs"), source);

const loaded = await import(pathToFileURL(join(folder, "script.mjs")));
const data = loaded.setup();
for (let i = 0; i < Number(iterations); i++) loaded.default(data);
loaded.teardown(data);

const trend = (values) => {
  const sorted = [...values].sort((a, b) => a - b);
  const at = (q) => sorted[Math.min(sorted.length - 1, Math.floor(q * sorted.length))];
  return { values: { med: at(0.5), "p(90)": at(0.9), "p(99)": at(0.99), "p(99.9)": at(0.999), max: at(1), count: values.length } };
};
const measured = Object.entries(recorded.samples).filter(([, values]) => values.length);
const summary = loaded.handleSummary({
  metrics: {
    iterations: { values: { rate: 10, count: Number(iterations) } },
    "http_req_failed{scenario:open_loop}": { values: { rate: 0 }, thresholds: { "rate<0.001": { ok: false } } },
    "http_req_duration{name:recommend}": trend([1, 2, 3]),
    ...Object.fromEntries(measured.map(([name, values]) => [name, trend(values)])),
  },
});
process.stdout.write(JSON.stringify({ options: loaded.options, ...data, recorded, summary: summary.stdout }));
