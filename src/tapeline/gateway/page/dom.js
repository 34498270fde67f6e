// Elements without markup in strings: whatever comes from outside is text, never HTML.

/** An element: element("td", {class: "time", onclick: f}, "text", child, [more]). */
export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (key === "value" || key === "checked" || key === "disabled" || key === "hidden") made[key] = value;
    else made.setAttribute(key, value === true ? "" : value);
  }
  append(made, children);
  return made;
}

function append(parent, children) {
  for (const child of children) {
    if (Array.isArray(child)) append(parent, child);
    else if (child instanceof Node) parent.append(child);
    else if (child !== undefined && child !== null && child !== false) parent.append(String(child));
  }
}

/** An SVG element. */
export function shape(name, attributes = {}, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  append(made, children);
  return made;
}

/** Another content for an element; what had the focus in a row of a table has it again where the row is there still. */
export function show(parent, ...children) {
  const row = parent.contains(document.activeElement) ? document.activeElement.closest("tr[data-id]") : null;
  const place = row ? controls(row).indexOf(document.activeElement) : -1;
  parent.replaceChildren();
  append(parent, children);
  if (row) {
    const again = [...parent.querySelectorAll("tr[data-id]")].find((one) => one.dataset.id === row.dataset.id);
    (again ? controls(again)[place] : document.getElementById("main"))?.focus({ preventScroll: true });
  }
}

const controls = (row) => [...row.querySelectorAll("a, button, input, select")];

/** What stands where something is asked for. */
export function loading() { return element("p", { class: "quiet" }, "Loading…"); }

/** What went wrong, and a way to try again. */
export function failed(error, again) {
  return element("div", { class: "card", role: "alert" }, element("p", { class: "fault" }, error.message), button("Try again", again));
}

/** A word beside the page's bottom edge, gone after a while; faults stay longer. */
export function notice(text, kind = "") {
  const one = element("div", { class: `notice ${kind}` }, element("span", {}, text), element("button", { type: "button", "aria-label": "Close this message", onclick: () => one.remove() }, "×"));
  document.getElementById("notices").append(one);
  setTimeout(() => one.remove(), kind === "bad" ? 20_000 : 5000);
}

/** Nanoseconds (as number or string) as a local time; the exact UTC instant stands in its title. */
export function instant(nanoseconds) {
  if (!nanoseconds) return element("span", { class: "quiet" }, "–");
  const at = new Date(typeof nanoseconds === "string" && nanoseconds.includes("T") ? nanoseconds : Number(nanoseconds) / 1e6);
  if (Number.isNaN(at.getTime())) return element("span", { class: "quiet" }, "–");
  return element("time", { datetime: at.toISOString(), title: at.toISOString() }, at.toLocaleString([], {
    year: "numeric", month: "2-digit", day: "2-digit", hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false,
  }));
}

/** A table; columns are [heading, class, cell-of-row]. A heading that begins with "~" is told to who cannot see its column. */
export function table(columns, rows, empty) {
  if (!rows.length) return element("div", { class: "scroll" }, element("p", { class: "empty" }, empty));
  return element("div", { class: "scroll" }, element("table", {},
    element("thead", {}, element("tr", {}, columns.map(([heading, kind]) => element("th", { class: kind, scope: "col" }, heading.startsWith("~") ? element("span", { class: "unseen" }, heading.slice(1)) : heading)))),
    element("tbody", {}, rows.map((row) => element("tr", { "data-id": row.id }, columns.map(([heading, kind, cell]) => element("td", { class: kind, "data-label": heading.startsWith("~") ? null : heading }, element("div", {}, cell(row)))))))));
}

/** A button that does nothing while what it does runs, and says what went wrong; it keeps the focus meanwhile. */
export function button(text, work, kind = "") {
  return element("button", {
    type: "button", class: kind, onclick: async (event) => {
      const pressed = event.currentTarget;
      if (pressed.ariaBusy === "true") return;
      pressed.ariaBusy = "true";
      try { await work(); } catch (error) { notice(error.message, "bad"); } finally { pressed.ariaBusy = "false"; }
    },
  }, text);
}

/** A labelled field: field("Name", input, "a hint"). */
export function field(text, control, hint, kind = "") {
  return element("label", { class: kind }, text, control, hint ? element("small", {}, hint) : null);
}

/** A value with what it is below it. */
export function figure(value, text) {
  return element("div", { class: "figure" }, element("b", {}, value), element("span", {}, text));
}

/** How a delivery's state is coloured. */
export const TONE = { sent: "good", dead: "bad", expired: "bad", waiting: "warn", inflight: "warn" };

/** A number as people read it. */
export function number(value, digits = 2) {
  return value === null || value === undefined || Number.isNaN(Number(value)) ? "–" :
    Number(value).toLocaleString([], { maximumFractionDigits: digits });
}
