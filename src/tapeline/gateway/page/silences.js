// Silences: for a time, what matches is kept and not told.

import { ask, create, list } from "./api.js";
import { button, element, field, instant, loading, show, table } from "./dom.js";

export async function silences(stage) {
  const place = element("div", {}, loading());
  const ended = element("input", { type: "checkbox" });
  const load = async () => {
    const page = await list("silences", { limit: 200, ended: ended.checked });
    const now = Date.now();
    show(place, table([
      ["What", "", (one) => Object.entries(one.matchers).map(([name, pattern]) => [element("code", {}, `${name} = ${pattern}`), " "])],
      ["From", "time", (one) => instant(one.begins_at)], ["To", "time", (one) => instant(one.ends_at)], ["Why", "", (one) => one.comment], ["By", "", (one) => one.created_by],
      ["State", "", (one) => new Date(one.ends_at).getTime() <= now ? element("span", { class: "tag" }, "ended") : element("div", { class: "row" },
        element("span", { class: "tag warn" }, new Date(one.begins_at).getTime() > now ? "to come" : "holds"),
        button("End now", async () => { await ask("DELETE", `silences/${encodeURIComponent(one.id)}`); await load(); }))],
    ], page.items, ended.checked ? "There has been no silence yet." : "No silence holds: everything that fires is told."));
  };
  ended.addEventListener("change", load);
  const what = element("select", {}, ["rule", "symbol", "priority", "owner"].map((value) => element("option", { value }, value)));
  const pattern = element("input", { required: true, maxlength: 100, placeholder: "btc-* or *" });
  const hours = element("input", { type: "number", min: 0.05, max: 8760, step: "any", value: "2", required: true });
  const comment = element("input", { maxlength: 500, placeholder: "exchange maintenance" });
  const fault = element("p", { class: "fault wide", role: "alert" });
  const form = element("form", { class: "fields card", onsubmit: async (event) => {
    event.preventDefault();
    show(fault);
    try {
      await create("silences", { matchers: { [what.value]: pattern.value.trim() }, ends_at: new Date(Date.now() + 3.6e6 * Number(hours.value)).toISOString(), comment: comment.value });
      pattern.value = "";
      await load();
    } catch (error) { show(fault, error.message); }
  } }, field("Where", what), field("is", pattern, "* and ? stand for anything"), field("for", hours, "hours from now"), field("because", comment), fault,
  element("div", { class: "wide" }, element("button", { class: "main", type: "submit" }, "Silence it")));
  show(stage, element("div", { class: "head" }, element("h1", {}, "Silences"), element("label", { class: "check" }, ended, "ended ones too")), form, place);
  await load();
}
