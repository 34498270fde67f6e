// Firings: the newest first, live, each with what explains it.

import { create, get, list } from "./api.js";
import { TONE, button, element, field, figure, instant, loading, notice, number, show, table } from "./dom.js";
import { follow } from "./stream.js";

const MOST = 300;
const KIND = { firing: "bad", resolved: "good", no_data: "warn", escalation: "bad" };

export async function firings(stage, [id], me) {
  return id ? one(stage, id) : all(stage, me);
}

async function all(stage, me) {
  const rows = [];
  const fresh = new Set();
  const place = element("div", {}, loading());
  const more = element("p");
  const live = element("span", { class: "tag warn" }, "connecting");
  const symbol = element("input", { maxlength: 64, placeholder: "all" });
  const rule = element("input", { maxlength: 64, placeholder: "all" });
  const kind = element("select", {}, ["", "firing", "resolved", "no_data", "escalation"].map((value) => element("option", { value }, value || "all")));
  let cursor = null;

  const draw = () => {
    show(place, table([
      ["When", "time", (row) => [instant(row.ts), row.late ? element("div", {}, element("span", { class: "tag warn" }, `late ${number(row.lateness_seconds, 1)} s`)) : null]],
      ["Symbol", "", (row) => element("strong", {}, row.symbol)],
      ["Rule", "", (row) => element("a", { href: `#/firings/${encodeURIComponent(row.id)}` }, row.rule)],
      ["Kind", "", (row) => [element("span", { class: `tag ${KIND[row.kind] ?? ""}` }, row.kind.replace("_", " ")), " ", ["high", "critical"].includes(row.priority) ? element("span", { class: "tag bad" }, row.priority) : null]],
      ["Price", "number", (row) => number(row.price, 8)],
      ["~Seen by", "", (row) => row.acknowledged_by ? element("small", {}, `seen by ${row.acknowledged_by}`) : row.kind === "firing" ? button("Seen", async () => {
        Object.assign(row, await create(`firings/${encodeURIComponent(row.id)}/acknowledgement`, {}));
        draw();
      }) : null],
    ], rows, filtered() ? "Nothing that has fired is like that." : "Nothing has fired yet. What fires appears here at once."));
    for (const row of place.querySelectorAll("tbody tr")) if (fresh.has(row.dataset.id)) row.classList.add("fresh");
    fresh.clear();
  };
  const filtered = () => symbol.value.trim() || rule.value.trim() || kind.value;
  const load = async (behind) => {
    const page = await list("firings", { limit: 50, cursor: behind, symbol: symbol.value.trim(), rule: rule.value.trim(), kind: kind.value });
    if (!behind) rows.length = 0;
    rows.push(...page.items);
    draw();
    show(more, page.cursor ? button("Older ones", () => load(page.cursor)) : null);
    return page;
  };
  const filter = element("form", { class: "row", onsubmit: async (event) => { event.preventDefault(); try { await load(); } catch (error) { notice(error.message, "bad"); } } },
    field("Symbol", symbol), field("Rule", rule), field("Kind", kind), element("button", { type: "submit" }, "Show"));
  show(stage, element("div", { class: "head" }, element("div", {}, element("h1", {}, "Firings"), live), filter), place, more);
  const first = await load();
  cursor = first.items.length ? Math.max(...first.items.map((row) => row.number)) : null;

  let due = 0;
  return follow(cursor, me.name, (event, number_) => {
    const row = { ...event.data, id: event.id, ts: event.timestamp, number: Number(number_), kind: event.data.kind ?? event.type.replace("alert.", ""),
      lateness_seconds: event.data.lateness_seconds ?? event.data.lateness ?? 0, acknowledged_by: null };
    if (symbol.value.trim() && row.symbol !== symbol.value.trim()) return;
    if (rule.value.trim() && row.rule !== rule.value.trim()) return;
    if (kind.value && row.kind !== kind.value) return;
    if (rows.some((known) => known.id === row.id)) return;
    rows.unshift(row);
    rows.length = Math.min(rows.length, MOST);
    fresh.add(row.id);
    // Many at once are one picture, not many.
    due ||= requestAnimationFrame(() => { due = 0; draw(); });
  }, (word) => { live.className = `tag ${word === "live" ? "good" : "warn"}`; live.textContent = word; });
}

async function one(stage, id) {
  const [found, deliveries] = await Promise.all([get(`firings/${encodeURIComponent(id)}`), get(`firings/${encodeURIComponent(id)}/deliveries`)]);
  show(stage, element("h1", {}, `${found.symbol}: ${found.rule}`), element("p", { class: "quiet" }, found.id),
    element("div", { class: "figures" },
      [[number(found.price, 8), "price"], [instant(found.ts), "happened"], [instant(found.detected_at), "found"], [found.sequence >= 0 ? String(found.sequence) : "–", "number of the tick"], [found.bar_state, "bar"]]
        .map(([value, text]) => figure(value, text))),
    element("h2", {}, "Why"),
    table([["Condition", "", (side) => element("code", {}, side.text)], ["Left", "number", (side) => number(side.left, 8)], ["Right", "number", (side) => number(side.right, 8)],
      ["Held", "", (side) => element("span", { class: `tag ${side.held ? "good" : ""}` }, side.held === null ? "not known" : side.held ? "held" : "did not hold")]],
    found.conditions.map((side, place) => ({ ...side, id: place })), "No condition was kept."),
    element("h2", {}, "Who was told"),
    deliveries.items.length ? deliveries.items.map(delivery) : element("p", { class: "quiet" }, "Nobody: the rule names no channel, was a dry run, or a silence held it."),
    element("p", { class: "row" }, element("a", { class: "button", href: "#/firings" }, "All firings"), element("a", { class: "button", href: `#/rules/${encodeURIComponent(found.rule)}` }, "The rule"),
      found.acknowledged_by ? element("span", { class: "quiet" }, `Seen by ${found.acknowledged_by}`) : null));
}

/** One delivery with its attempts. */
export function delivery(found) {
  return element("div", { class: "card" }, element("div", { class: "row" }, element("strong", {}, `${found.channel} · ${found.endpoint}`),
    element("span", { class: `tag ${TONE[found.state] ?? ""}` }, found.state)),
  table([["Try", "number", (one_) => one_.number], ["Begun", "time", (one_) => instant(one_.started_at)], ["Outcome", "", (one_) => one_.outcome], ["Status", "number", (one_) => one_.status || "–"],
    ["Answer", "", (one_) => one_.detail], ["Again at", "time", (one_) => instant(one_.retry_at)]], found.tried.map((one_) => ({ ...one_, id: one_.number })), "Not tried yet."),
  element("details", {}, element("summary", {}, "What is sent"), element("pre", {}, pretty(found.body))));
}

function pretty(text) {
  try { return JSON.stringify(JSON.parse(text), null, 2); } catch { return text; }
}
