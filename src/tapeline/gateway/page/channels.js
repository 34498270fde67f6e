// Channels: where alerts are sent, how each place does, and a test of it.

import { ask, create, get, list } from "./api.js";
import { button, element, field, figure, instant, loading, notice, number, show, table } from "./dom.js";

const KINDS = {
  telegram: ["Telegram", "tgram://<bot token>/<chat id>", "Make a bot with @BotFather, write to it once, and take the chat's id."],
  webhook: ["Webhook", "https://example.org/alerts", "Requests are signed by the Standard Webhooks specification."],
  discord: ["Discord", "https://discord.com/api/webhooks/…", "Channel settings, Integrations, Webhooks."],
  slack: ["Slack", "https://hooks.slack.com/services/…", "An incoming webhook of your workspace."],
  email: ["E-mail", "you@example.org", "Through the mail gateway of the settings."],
  sms: ["Text message", "+491701234567", "Through the SMS gateway of the settings."],
};

export async function channels(stage) {
  const place = element("div", {}, loading());
  const secret = element("div");
  const detail = element("div");
  const change = async (one, what) => { await ask("POST", `endpoints/${encodeURIComponent(one.id)}/${what}`, what === "rotate" ? {} : undefined, { "If-Match": `"r${one.revision}"` }).then(shown); await load(); };
  const shown = (made) => show(secret, made?.secret ? element("div", { class: "card" }, element("h2", {}, `The secret of ${made.name}`),
    element("p", {}, "It is shown this once. Your receiver checks signatures with it."), element("pre", {}, made.secret), button("I have kept it", () => show(secret))) : null);
  const load = async () => {
    const page = await list("endpoints", { limit: 200 });
    show(place, table([
      ["Name", "", (one) => [element("strong", {}, one.name), one.from_settings ? element("div", {}, element("small", {}, "from the settings")) : null]],
      ["Kind", "", (one) => KINDS[one.kind]?.[0] ?? one.kind], ["Where", "", (one) => one.address ?? element("span", { class: "tag bad" }, "unreadable")],
      ["State", "", (one) => [element("span", { class: `tag ${one.enabled ? (one.failures ? "warn" : "good") : "bad"}` }, one.enabled ? (one.failures ? `${one.failures} failures` : "on") : "off"),
        one.reason || one.problem ? element("div", {}, element("small", {}, one.reason || one.problem)) : null]],
      ["~What to do", "", (one) => element("div", { class: "row" },
        button("Test", async () => {
          const found = await create(`endpoints/${encodeURIComponent(one.id)}/test`, {});
          notice(`${one.name}: ${found.outcome}${found.status ? ` (${found.status})` : ""} in ${number(found.seconds, 2)} s\n${found.detail}`, found.outcome === "sent" ? "" : "bad");
        }),
        button("How it does", () => health(one)),
        one.from_settings ? null : [button(one.enabled ? "Switch off" : "Switch on", () => change(one, one.enabled ? "disable" : "enable")),
          one.kind === "webhook" ? button("New secret", () => change(one, "rotate")) : null,
          button("Remove", async () => {
            if (!confirm(`Remove ${one.name}? What waits for it becomes dead letters.`)) return;
            await ask("DELETE", `endpoints/${encodeURIComponent(one.id)}`);
            await load();
          }, "bad")])],
    ], page.items, "No channel yet. Firings are kept; add one to be told."));
  };
  const health = async (one) => {
    const found = await get(`endpoints/${encodeURIComponent(one.id)}/health`);
    show(detail, element("section", { class: "card" }, element("h2", {}, `${one.name}: ${found.state.replace("_", " ")}`), element("div", { class: "figures" },
      [[`${found.successes} of ${found.attempts}`, "tries succeeded"], [found.latency_seconds === null ? "–" : `${number(found.latency_seconds, 2)} s`, "median answer"], [found.latency_p95_seconds === null ? "–" : `${number(found.latency_p95_seconds, 2)} s`, "95th percentile"], [instant(found.last_success_at), "last success"]]
        .map(([value, text]) => figure(value, text))),
    table([["Begun", "time", (row) => instant(row.started_at)], ["Delivery", "", (row) => row.delivery], ["Outcome", "", (row) => row.outcome], ["Status", "number", (row) => row.status || "–"], ["Answer", "", (row) => row.detail]],
      found.recent.map((row) => ({ ...row, id: `${row.delivery}/${row.number}` })), "Nothing was sent there yet.")));
  };
  const hint = element("small");
  const address = element("input", { required: true, maxlength: 2000, autocomplete: "off", spellcheck: "false" });
  const kind = element("select", { onchange: () => told() }, Object.entries(KINDS).map(([value, [text]]) => element("option", { value }, text)));
  const told = () => { address.placeholder = KINDS[kind.value][1]; show(hint, KINDS[kind.value][2]); };
  const name = element("input", { required: true, maxlength: 64, pattern: "[A-Za-z0-9][A-Za-z0-9_.:\\-]*", placeholder: "phone" });
  const minute = element("input", { type: "number", min: 0, step: 1, value: "0" });
  const fault = element("p", { class: "fault wide", role: "alert" });
  const form = element("form", { class: "fields card", onsubmit: async (event) => {
    event.preventDefault();
    show(fault);
    try {
      shown(await create("endpoints", { kind: kind.value, name: name.value.trim(), address: address.value.trim(), per_minute: Number(minute.value || 0) }));
      address.value = "";
      name.value = "";
      await load();
    } catch (error) { show(fault, error.message); }
  } }, field("Kind", kind), field("Name", name, "what rules call it"), element("label", {}, "Address", address, hint), field("At most a minute", minute, "0: no limit"), fault,
  element("div", { class: "wide" }, element("button", { class: "main", type: "submit" }, "Add the channel")));
  told();
  show(stage, element("h1", {}, "Channels"), place, secret, detail, element("h2", {}, "A new one"), form);
  await load();
}
