// Deliveries: what was sent, what waits, and what was given up and may be sent again.

import { create, get, list } from "./api.js";
import { TONE, button, element, field, instant, loading, notice, show, table } from "./dom.js";
import { delivery } from "./firings.js";

export async function deliveries(stage, [...id]) {
  if (id.length) {
    show(stage, element("h1", {}, "Delivery"), delivery(await get(`deliveries/${id.map(encodeURIComponent).join("/")}`)), element("a", { class: "button", href: "#/deliveries" }, "All deliveries"));
    return undefined;
  }
  const sent = element("div", {}, loading());
  const dead = element("div");
  const more = element("p");
  const state = element("select", { onchange: () => load() }, ["", "waiting", "inflight", "held", "sent", "dead", "expired"].map((value) => element("option", { value }, value || "all")));
  const rows = [];
  // People know a place by its name; what a place is no longer has only its id.
  const names = list("endpoints", { limit: 200 }).then((page) => new Map(page.items.map((one) => [one.id, one.name])), () => new Map());
  const load = async (cursor) => {
    const [page, known] = await Promise.all([list("deliveries", { limit: 50, cursor, state: state.value }), names]);
    if (!cursor) rows.length = 0;
    rows.push(...page.items);
    show(sent, table([
      ["Made", "time", (one) => instant(one.created_at)], ["Channel", "", (one) => one.channel], ["To", "", (one) => known.get(one.endpoint) ?? one.endpoint],
      ["Firing", "", (one) => element("a", { href: `#/firings/${encodeURIComponent(one.firing)}` }, one.firing)],
      ["State", "", (one) => element("a", { href: `#/deliveries/${one.id.split("/").map(encodeURIComponent).join("/")}`, class: `tag ${TONE[one.state] ?? ""}` }, one.state)], ["Tries", "number", (one) => one.attempts],
    ], rows, state.value ? "No delivery is in this state." : "Nothing was to be told yet."));
    show(more, page.cursor ? button("Older ones", () => load(page.cursor)) : null);
  };
  const given = async () => {
    const [page, known] = await Promise.all([list("dead-letters", { limit: 100 }), names]);
    show(dead, page.items.length ? [element("div", { class: "head" }, element("h2", {}, `Given up (${page.items.length}${page.cursor ? "+" : ""})`), button("Send all of these again", async () => {
      const found = await create("dead-letters/redrive", { ids: page.items.map((one) => one.id) });
      notice(`${found.redriven} go out again.`);
      await Promise.all([given(), load()]);
    })), table([
      ["Given up", "time", (one) => instant(one.died_at)], ["Channel", "", (one) => one.channel], ["To", "", (one) => known.get(one.endpoint) ?? one.endpoint], ["Tries", "number", (one) => one.attempts],
      ["Last answer", "", (one) => `${one.status || ""} ${one.detail}`.trim() || one.outcome],
      ["~What to do", "", (one) => button("Again", async () => { await create("dead-letters/redrive", { ids: [one.id] }); await Promise.all([given(), load()]); })],
    ], page.items, "")] : null);
  };
  show(stage, element("div", { class: "head" }, element("h1", {}, "Deliveries"), field("State", state)), dead, sent, more);
  await Promise.all([load(), given()]);
  return undefined;
}
