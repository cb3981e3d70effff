// Open-loop load for k6: requests start at RATE a second whether or not the ones before have been answered, so that
// waiting shows. Prints the percentiles of whole requests and, from Server-Timing, of the service's stages. Users
// who get events are this run's own, and deleted at its end.
//
//   docker compose --profile loadtest run --rm loadtest
//   k6 run -e URL=http://localhost:8000 -e RATE=500 -e DURATION=1m deploy/loadtest/recommend.js
import http from "k6/http";
import { check } from "k6";
import { Trend } from "k6/metrics";

const URL = __ENV.URL || "http://localhost:8000";
const RATE = Number(__ENV.RATE || 200); // requests a second
const DURATION = __ENV.DURATION || "30s";
const K = Number(__ENV.K || 10);
const LONGEST = Number(__ENV.HISTORY || 50); // items in the longest history
const USERS = Number(__ENV.USERS || 1000);
const STORED = Number(__ENV.STORED || 0.3); // share of the requests that name a user
const EVENTS = Number(__ENV.EVENTS || 0.1); // share of the requests that append an event instead
const DELETED_AT_ONCE = 20; // requests that wait for the service's disk, after the measurement
const P90_MS = Number(__ENV.P90_MS || 50);

const FAILED = "http_req_failed{scenario:open_loop}"; // not of the set-up, nor of the deletions
const STAGES = ["store", "queue", "encode", "score", "respond"];
const trends = Object.fromEntries(STAGES.map((stage) => [stage, new Trend(`stage_${stage}`, true)]));
const HEADERS = { "Content-Type": "application/json" };
if (__ENV.API_KEY) HEADERS.Authorization = `Bearer ${__ENV.API_KEY}`;

export const options = {
  scenarios: {
    open_loop: {
      executor: "constant-arrival-rate",
      rate: RATE,
      timeUnit: "1s",
      duration: DURATION,
      preAllocatedVUs: Math.max(50, RATE),
      maxVUs: Math.max(200, 4 * RATE),
    },
  },
  teardownTimeout: "5m",
  summaryTrendStats: ["med", "p(90)", "p(99)", "p(99.9)", "max", "count"],
  thresholds: {
    [FAILED]: ["rate<0.001"],
    dropped_iterations: ["count==0"], // else the generator was too slow, and the rate was not the one asked for
    "http_req_duration{name:recommend}": [`p(90)<${P90_MS}`],
  },
};

// The catalogue's popular items, whose ids make the histories.
export function setup() {
  const limits = http.get(`${URL}/model`, { headers: HEADERS }).json().limits;
  const body = JSON.stringify({ history: [], k: Math.min(1000, limits.max_k), include: [] });
  const answer = http.post(`${URL}/recommend`, body, { headers: HEADERS });
  if (answer.status !== 200) throw new Error(`no popular items: status ${answer.status}, ${answer.body}`);
  return { run: `load-${Date.now().toString(36)}`, items: answer.json().items.map((item) => item.item_id) };
}

export default function ({ run, items }) {
  const user = `${run}-${Math.floor(Math.random() * USERS)}`;
  if (Math.random() < EVENTS) {
    send("events", `/users/${user}/events`, { events: [{ item_id: drawn(items) }] });
    return;
  }
  const history = Array.from({ length: 1 + Math.floor(Math.random() * LONGEST) }, () => drawn(items));
  send("recommend", "/recommend", Math.random() < STORED ? { user_id: user, k: K } : { history, k: K });
}

// Whoever ends the run before leaves them until RECJPQ_STORE_TTL_S has passed.
export function teardown({ run }) {
  const forgotten = Array.from({ length: USERS }, (_, i) => ({
    method: "DELETE",
    url: `${URL}/users/${run}-${i}/events`,
    params: { headers: HEADERS, tags: { name: "forget" } },
  }));
  while (forgotten.length) http.batch(forgotten.splice(0, DELETED_AT_ONCE));
}

// Popular items more often than rare ones.
function drawn(items) {
  return items[Math.floor(items.length * Math.random() ** 2)];
}

function send(name, path, body) {
  const answer = http.post(`${URL}${path}`, JSON.stringify(body), { headers: HEADERS, tags: { name } });
  check(answer, { "answered with 200": ({ status }) => status === 200 });
  for (const [stage, milliseconds] of stages(answer.headers["Server-Timing"] || "")) {
    if (stage in trends) trends[stage].add(milliseconds, { name });
  }
}

// "store;dur=0.2, encode;dur=1.5" -> [["store", 0.2], ["encode", 1.5]]
function stages(header) {
  return [...header.matchAll(/([\w-]+);dur=([\d.]+)/g)].map(([, stage, dur]) => [stage, Number(dur)]);
}

export function handleSummary(data) {
  const { metrics } = data;
  const failed = Object.entries(metrics).flatMap(([name, { thresholds = {} }]) =>
    Object.entries(thresholds).filter(([, { ok }]) => !ok).map(([bound]) => `${name}: not ${bound}`),
  );
  const count = (name) => (metrics[name] ? metrics[name].values.count : 0);
  const rows = [
    ["milliseconds", "median", "p90", "p99", "p99.9", "longest", "count"],
    row("recommend", metrics["http_req_duration{name:recommend}"]),
    ...STAGES.map((stage) => row(`  ${stage}`, metrics[`stage_${stage}`])),
  ];
  const text = [
    `asked for ${RATE} requests a second, sent ${metrics.iterations.values.rate.toFixed(1)}, ` +
      `dropped ${count("dropped_iterations")}, failed ${(100 * metrics[FAILED].values.rate).toFixed(2)}%`,
    ...rows.map((cells) => cells.map((cell, i) => (i ? cell.padStart(9) : cell.padEnd(14))).join("")),
    ...failed,
    "",
  ].join("\n");
  const written = __ENV.SUMMARY ? { [__ENV.SUMMARY]: JSON.stringify(data, null, 1) } : {};
  return { stdout: text, ...written };
}

function row(name, metric) {
  if (!metric) return [name];
  const { values } = metric;
  const shown = ["med", "p(90)", "p(99)", "p(99.9)", "max"].map((stat) => values[stat].toFixed(2));
  return [name, ...shown, String(values.count)];
}
