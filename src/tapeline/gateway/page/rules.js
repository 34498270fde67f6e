// Rules: the list, and the editor with its checks and a trial on stored bars.

import { ask, create, get, list } from "./api.js";
import { button, element, field, figure, instant, loading, notice, number, shape, show, table } from "./dom.js";

const TIMEFRAMES = ["1m", "5m", "15m", "1h", "4h", "1d"];
const FREQUENCIES = { every_time: "each time it becomes true", once: "once, then never again", once_per_bar: "once in each bar", once_per_bar_close: "at each bar's close" };
const STEP = 100;
const PRIORITIES = ["low", "normal", "high", "critical"];

export async function rules(stage, [id]) {
  if (id) return editor(stage, id === "new" ? null : id);
  return overview(stage);
}

async function overview(stage) {
  const rows = [];
  const place = element("div", {}, loading());
  const more = element("div", { class: "row" });
  const wanted = element("input", { type: "search", maxlength: 200, placeholder: "name, symbol, condition, channel", oninput: () => { most = STEP; draw(); } });
  let most = STEP;
  const text = (rule) => [rule.id, rule.name, rule.condition, ...rule.symbols, ...rule.channels, rule.enabled ? "on" : "off"].join(" ").toLowerCase();
  const draw = () => {
    const words = wanted.value.toLowerCase().split(/\s+/).filter(Boolean);
    const found = words.length ? rows.filter((rule) => words.every((word) => text(rule).includes(word))) : rows;
    show(place, lines(found.slice(0, most), words.length > 0));
    show(more, rows.length ? element("span", { class: "quiet", role: "status" }, `${Math.min(most, found.length)} of ${found.length} rules${words.length ? ` that match, of ${rows.length}` : ""}`) : null,
      found.length > most ? button("Show more", () => { most += STEP; draw(); }) : null);
  };
  const lines = (some, searched) => table([
    ["Rule", "", (rule) => [element("a", { href: `#/rules/${encodeURIComponent(rule.id)}` }, rule.name ?? rule.id), rule.name ? element("div", {}, element("small", {}, rule.id)) : null]],
    ["Condition", "", (rule) => element("code", {}, rule.condition)],
    ["Symbols", "", (rule) => rule.symbols.length > 4 ? `${rule.symbols.slice(0, 4).join(", ")} and ${rule.symbols.length - 4} more` : rule.symbols.join(", ")],
    ["Told", "", (rule) => rule.dry_run ? element("span", { class: "tag" }, "dry run") : rule.channels.join(", ") || element("span", { class: "tag warn" }, "nobody")],
    ["Changed", "time", (rule) => instant(rule.changed_at)],
    ["State", "", (rule) => element("div", { class: "row tight" },
      element("span", { class: `tag ${rule.enabled ? "good" : ""}` }, rule.enabled ? "on" : "off"),
      button(rule.enabled ? "Switch off" : "Switch on", async () => {
        const found = await ask("PATCH", `rules/${encodeURIComponent(rule.id)}`, { enabled: !rule.enabled }, { "If-Match": `"r${rule.revision}"` });
        rows[rows.indexOf(rule)] = found;
        draw();
      }))],
  ], some, searched ? "No rule is like that." : "No rule yet. Write the first one: it takes effect a second after you keep it.");
  show(stage, element("div", { class: "head" }, element("h1", {}, "Rules"), element("div", { class: "row" }, field("Find", wanted), element("a", { class: "button main", href: "#/rules/new" }, "New rule"))), place, more);
  // All of them, so that the search finds what is there; the first are shown before the others have come.
  let cursor = null;
  do {
    const page = await list("rules", { limit: 200, cursor });
    rows.push(...page.items);
    cursor = page.cursor;
    draw();
  } while (cursor && stage.isConnected);
}

async function editor(stage, id) {
  const [standing, endpoints, functions] = await Promise.all([
    id ? get(`rules/${encodeURIComponent(id)}`) : null,
    list("endpoints", { limit: 200 }).catch(() => ({ items: [] })), get("functions"),
  ]);
  const rule = standing ?? { condition: "", symbols: [], timeframe: "1m", frequency: "every_time", priority: "normal", channels: [], enabled: true, cooldown: "PT0S" };
  const options = (values, chosen) => (Array.isArray(values) ? values.map((one) => [one, one]) : Object.entries(values))
    .map(([value, text]) => element("option", { value, selected: value === chosen }, text));
  const controls = {
    id: element("input", { name: "id", maxlength: 64, pattern: "[A-Za-z0-9][A-Za-z0-9_.:\\-]*", placeholder: "made for you", value: rule.id ?? "", disabled: Boolean(id) }),
    name: element("input", { name: "name", maxlength: 200, value: rule.name ?? "", placeholder: "what people read" }),
    condition: element("textarea", { name: "condition", class: "code", required: true, maxlength: 2000, spellcheck: "false", value: rule.condition, placeholder: 'crosses_up(close, 60000) and rsi(14, "1h") < 30' }),
    symbols: element("input", { name: "symbols", required: true, value: rule.symbols.join(", "), placeholder: "BTCUSDT, ETHUSDT or *" }),
    timeframe: element("select", { name: "timeframe" }, options(TIMEFRAMES, rule.timeframe)),
    frequency: element("select", { name: "frequency" }, options(FREQUENCIES, rule.frequency)),
    priority: element("select", { name: "priority" }, options(PRIORITIES, rule.priority)),
    cooldown: element("input", { name: "cooldown", type: "number", min: 0, step: 1, value: String(seconds(rule.cooldown)) }),
    pending: element("input", { name: "pending", type: "number", min: 0, step: 1, value: String(seconds(rule.pending)) }),
    template: element("input", { name: "template", maxlength: 4000, value: rule.template ?? "", placeholder: "{symbol} at {price}" }),
    notify_resolved: element("input", { name: "notify_resolved", type: "checkbox", checked: Boolean(rule.notify_resolved) }),
    dry_run: element("input", { name: "dry_run", type: "checkbox", checked: Boolean(rule.dry_run) }),
  };
  const names = [...new Set([...endpoints.items.map((one) => one.name), ...rule.channels])].sort();
  const chosen = names.map((name) => element("input", { type: "checkbox", name: "channel", value: name, checked: rule.channels.includes(name) }));
  const findings = element("div", { "aria-live": "polite" });
  const trial = element("div");
  const fault = element("p", { class: "fault wide", role: "alert" });
  const keep = element("button", { class: "main", type: "submit" }, id ? "Keep the change" : "Keep the rule");

  const written = () => {
    const body = id ? strip(standing) : {};
    Object.assign(body, {
      condition: controls.condition.value.trim(), symbols: controls.symbols.value.split(/[\s,;]+/).filter(Boolean),
      timeframe: controls.timeframe.value, frequency: controls.frequency.value, priority: controls.priority.value,
      cooldown: Number(controls.cooldown.value || 0), pending: Number(controls.pending.value || 0),
      channels: chosen.filter((one) => one.checked).map((one) => one.value),
      notify_resolved: controls.notify_resolved.checked, dry_run: controls.dry_run.checked,
      name: controls.name.value.trim() || null, template: controls.template.value || null,
    });
    return body;
  };
  let asked = 0;
  const check = async () => {
    const mine = ++asked;
    if (!controls.condition.value.trim()) return show(findings, element("p", { class: "quiet" }, "The condition is checked while you write."));
    const body = written();
    if (!body.symbols.length) body.symbols = ["BTCUSDT"];
    try {
      const found = await ask("POST", "rules/validate", body);
      if (mine !== asked) return undefined;
      const needs = Object.entries(found.needs).filter(([, bars]) => bars > 0).map(([timeframe, bars]) => `${bars} bars of ${timeframe}`).join(", ");
      controls.condition.setAttribute("aria-invalid", String(!found.valid));
      show(findings, found.findings.map((one) => element("div", { class: "finding" }, element("span", { class: `tag ${{ error: "bad", warning: "warn" }[one.severity] ?? ""}` }, one.severity), " ",
        one.message.replace(/ \(character \d+\)$/, ""), one.hint ? element("div", { class: "quiet" }, one.hint) : null, pointed(controls.condition, one))),
      found.valid && !found.findings.length ? element("p", {}, element("span", { class: "tag good" }, "fine")) : null,
      found.valid && needs ? element("p", { class: "quiet" }, `It can hold after ${needs}.`) : null);
    } catch (error) { if (mine === asked) show(findings, element("p", { class: "fault" }, error.message)); }
    return undefined;
  };
  let waiting = 0;
  const soon = () => { clearTimeout(waiting); waiting = setTimeout(check, 400); };

  const preview = async () => {
    show(trial, element("p", { class: "quiet" }, "Asking the stored bars…"));
    try {
      const found = await ask("POST", "rules/preview", { rule: written(), bars: 5000 });
      show(trial, told(found));
    } catch (error) { show(trial, element("p", { class: "fault" }, error.message)); }
  };
  const form = element("form", { class: "fields card", oninput: soon, onsubmit: async (event) => {
    event.preventDefault();
    keep.disabled = true;
    show(fault);
    for (const one of Object.values(controls)) one.removeAttribute("aria-invalid");
    try {
      const body = written();
      if (id) await ask("PUT", `rules/${encodeURIComponent(id)}`, body, { "If-Match": standing.etag });
      else await create("rules", controls.id.value ? { ...body, id: controls.id.value } : body);
      notice("Kept; it takes effect within a second or two.");
      location.hash = "#/rules";
    } catch (error) {
      blame(error, controls);
      show(fault, error.status === 412 ? "Somebody changed this rule meanwhile. Open it again to see how it stands." : error.message);
    } finally { keep.disabled = false; }
  } },
  element("label", { class: "wide" }, "Condition", controls.condition), element("div", { class: "wide" }, findings),
  field("Symbols", controls.symbols, "with commas; * is all"), field("Timeframe", controls.timeframe, "of conditions without one of their own"),
  field("Fires", controls.frequency), field("Priority", controls.priority), field("At most every", controls.cooldown, "seconds between two firings of a symbol"),
  field("Must hold for", controls.pending, "seconds before it fires"), field("Name", controls.name), field("Id", controls.id), field("Message", controls.template, "{symbol} {price} {time} {conditions} …", "wide"),
  element("fieldset", { class: "wide row" }, element("legend", {}, "Channels"), names.length ? chosen.map((one, place) => element("label", { class: "check" }, one, names[place]))
    : element("span", { class: "quiet" }, "You have no channel yet: ", element("a", { href: "#/channels" }, "add one"), ". Firings are kept all the same.")),
  element("div", { class: "wide row" }, element("label", { class: "check" }, controls.notify_resolved, "tell when it ends"), element("label", { class: "check" }, controls.dry_run, "dry run: tell nobody")),
  fault, element("div", { class: "wide row" }, keep, button("Try it on stored bars", preview), element("a", { class: "button", href: "#/rules" }, "Back"),
    id ? button("Remove", async () => {
      if (!confirm(`Remove the rule ${id}? Its firings stay.`)) return;
      await ask("DELETE", `rules/${encodeURIComponent(id)}`, undefined, { "If-Match": standing.etag });
      location.hash = "#/rules";
    }, "bad") : null));
  show(stage, element("h1", {}, id ? rule.name ?? id : "New rule"), form, trial, id ? await history(id) : null, vocabulary(functions.items, controls.condition, soon));
  check();
  return () => clearTimeout(waiting);
}

/** The line of the condition that a finding is about, what is wrong in it marked; pressed, it is selected in the editor. */
function pointed(condition, finding) {
  if (finding.position < 0) return null;
  const written = condition.value.trim();
  const [from, to] = [finding.position, finding.position + finding.length];
  const line = written.lastIndexOf("\n", from - 1) + 1;
  const end = written.indexOf("\n", from);
  return element("button", { type: "button", class: "pointed", title: "Select it", onclick: () => select(condition, finding) }, element("code", {}, written.slice(line, from),
    element("mark", {}, written.slice(from, to) || "…"), written.slice(to, end < 0 ? undefined : end)));
}

/** Put the cursor where a fault is. */
function select(condition, { position, length }) {
  const left = condition.value.length - condition.value.trimStart().length;
  condition.focus();
  condition.setSelectionRange(left + position, left + position + length);
}

/** Mark the fields that a refusal names, and go to the first. */
function blame(error, controls) {
  const wrong = [...(error.fields ?? [])].map(([pointer, one]) => [controls[pointer.split("/")[1]], one]).filter(([control]) => control);
  for (const [control] of wrong) control.setAttribute("aria-invalid", "true");
  if (!wrong.length) return;
  const [control, one] = wrong[0];
  if (one.position >= 0) select(control, one);
  else control.focus();
}

/** What a rule would have done. */
function told(found) {
  const ahead = Object.entries(found.forward ?? {}).filter(([, value]) => value !== null);
  return element("section", { class: "card" }, element("h2", {}, "On the stored bars"),
    element("div", { class: "figures" }, figure(number(found.firings, 0), "firings"), figure(number(found.days, 1), "days of history"), figure(number(found.per_day, 2), "a day"),
      ahead.map(([bars, value]) => figure(`${number(100 * value, 3)} %`, `median move ${bars} bars later`))),
    found.last.length > 1 ? plot(found.last) : null,
    table([["When", "time", (one) => instant(one.ts)], ["Symbol", "", (one) => one.symbol], ["Price", "number", (one) => number(one.price, 8)],
      ["Why", "", (one) => one.conditions.map((side) => element("div", {}, element("code", {}, side.text), ` ${number(side.left, 6)} against ${number(side.right, 6)}`))]],
    found.last.slice(-20).reverse().map((one, place) => ({ ...one, id: place })), "It would never have fired."),
    (found.notes ?? []).map((one) => element("p", { class: "quiet" }, one)));
}

/** Prices of the firings over time. */
function plot(points) {
  const priced = points.filter((one) => one.price !== null).map((one) => [new Date(one.ts).getTime(), one.price]);
  const [begin, end] = [Math.min(...priced.map((one) => one[0])), Math.max(...priced.map((one) => one[0]))];
  const [low, high] = [Math.min(...priced.map((one) => one[1])), Math.max(...priced.map((one) => one[1]))];
  const x = (at) => (1000 * (at - begin)) / (end - begin || 1);
  const y = (price) => 170 - (160 * (price - low)) / (high - low || 1);
  const drawn = shape("svg", { class: "plot", viewBox: "0 0 1000 180", preserveAspectRatio: "none", role: "img", "aria-label": `Prices of ${priced.length} firings between ${low} and ${high}` },
    ...priced.map(([at, price]) => shape("line", { class: "mark", x1: x(at), x2: x(at), y1: y(price) - 6, y2: y(price) + 6 })));
  return element("figure", {}, drawn, element("figcaption", { class: "quiet" }, `The newest ${priced.length} firings by time and price, ${number(low, 8)} to ${number(high, 8)}`));
}

async function history(id) {
  const page = await list(`rules/${encodeURIComponent(id)}/history`, { limit: 20 });
  return element("details", { class: "card" }, element("summary", {}, `${page.items.length}${page.cursor ? "+" : ""} revisions`),
    table([["Revision", "number", (one) => one.revision], ["When", "time", (one) => instant(one.changed_at)], ["By", "", (one) => one.changed_by],
      ["Condition", "", (one) => element("code", {}, one.condition)], ["State", "", (one) => (one.deleted ? "removed" : one.enabled ? "on" : "off")]], page.items.map((one) => ({ ...one, id: one.revision })), ""));
}

/** What conditions may name; a click writes the example into the condition. */
function vocabulary(functions, condition, changed) {
  const kinds = [...new Set(functions.map((one) => one.kind))];
  return element("details", { class: "card" }, element("summary", {}, `What conditions may name (${functions.length})`), kinds.map((kind) => [element("h2", {}, kind),
    table([["Name", "", (one) => element("code", {}, one.signature)], ["What it is", "", (one) => one.description], ["Example", "", (one) => element("div", { class: "row" }, element("code", {}, one.example),
      element("button", { type: "button", onclick: () => { condition.value = condition.value.trim() ? `${condition.value.trim()} and ${one.example}` : one.example; changed(); condition.focus(); } }, "Use"))]],
    functions.filter((one) => one.kind === kind).map((one) => ({ ...one, id: one.name })), "")]));
}

/** A rule as it may be sent back: without what the server says of it. */
function strip(rule) {
  const { id, owner, revision, changed_at: changedAt, changed_by: changedBy, deleted, ...body } = rule;
  return body;
}

/** Seconds of an ISO duration such as PT5M. */
function seconds(text) {
  if (typeof text === "number") return text;
  const found = /^P(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:([\d.]+)S)?)?$/.exec(text ?? "");
  return found ? 86400 * (found[1] ?? 0) + 3600 * (found[2] ?? 0) + 60 * (found[3] ?? 0) + Number(found[4] ?? 0) : 0;
}
