// Health: engines, their latencies, and what waits to be told.

import { get } from "./api.js";
import { element, failed, figure, instant, loading, number, show, table } from "./dom.js";

export async function health(stage, _, me) {
  const place = element("div", {}, loading());
  const look = async () => {
    try { draw(place, await get("status"), me); } catch (error) { show(place, failed(error, look)); }
  };
  show(stage, element("h1", {}, "Health"), place);
  await look();
  const timer = setInterval(() => { if (!document.hidden) look(); }, 3000);
  return () => clearInterval(timer);
}

function draw(place, status, me) {
  const tone = (good) => (good ? "good" : "bad");
  show(place,
    element("div", { class: "figures" },
      figure(element("span", { class: `tag ${tone(status.ready)}` }, status.ready ? "yes" : "no"), "alerts are looked after"),
      figure(element("span", { class: `tag ${tone(status.database === "ok")}` }, status.database), "database"),
      figure(element("span", { class: `tag ${tone(status.engine === "ok")}` }, status.engine), "engine")),
    status.engine === "none" ? element("p", {}, "No engine has reported itself. ", element("code", {}, "tapeline alerts serve"), " starts one.") : null,
    status.engines.map(engine),
    status.deliveries.length ? [element("h2", {}, "Deliveries by channel"), table([["Channel", "", (one) => one.channel], ["State", "", (one) => one.state], ["How many", "number", (one) => number(one.count, 0)],
      ["The oldest", "time", (one) => instant(one.oldest)]], status.deliveries.map((one) => ({ ...one, id: `${one.channel}/${one.state}` })), "")] : null,
    me.role === "viewer" || me.role === "user" ? element("p", { class: "quiet" }, "Operators see engines and queues here.") : null);
}

function engine(one) {
  const said = one.status ?? {};
  const stages = Object.entries(said.latency ?? {});
  return element("section", { class: "card" },
    element("div", { class: "row" }, element("strong", {}, one.instance), element("span", { class: `tag ${one.state === "ok" ? "good" : "bad"}` }, one.state),
      element("span", { class: "quiet" }, "since ", instant(one.started_at), ", last heard of ", instant(one.beat_at))),
    one.reasons.map((reason) => element("p", { class: "fault" }, reason)),
    element("div", { class: "figures" }, plain(said).map(([name, value]) => figure(number(value, 2), name.replaceAll("_", " ")))),
    stages.length ? table([["Stage", "", (row) => row.id], ["Count", "number", (row) => number(row.count, 0)], ["Median", "number", (row) => `${number(1e3 * row.p50, 3)} ms`], ["99th percentile", "number", (row) => `${number(1e3 * row.p99, 3)} ms`]],
      stages.map(([id, row]) => ({ id, ...row })).filter((row) => row.count), "No alert has passed yet.") : null,
    element("details", {}, element("summary", {}, "All it says"), element("pre", {}, JSON.stringify(said, null, 2))));
}

function plain(said) {
  return Object.entries(said).filter(([, value]) => typeof value === "number");
}
