// The page: who is signed in, which part is shown, what the engine says.

import { get, signIn, signOut, signedIn, whenEnded } from "./api.js";
import { element, failed, field, loading, notice, show } from "./dom.js";
import { channels } from "./channels.js";
import { deliveries } from "./deliveries.js";
import { firings } from "./firings.js";
import { health } from "./health.js";
import { rules } from "./rules.js";
import { silences } from "./silences.js";

const PARTS = { firings: ["Firings", firings], rules: ["Rules", rules], channels: ["Channels", channels],
  silences: ["Silences", silences], deliveries: ["Deliveries", deliveries], health: ["Health", health] };
const main = document.getElementById("main");
let leave = () => {};
let me = null;
let shown = 0;

/** Where a link leads: "#/rules/btc-60k" is ["rules", "btc-60k"]. */
function place() {
  return location.hash.replace(/^#\//, "").split("/").filter(Boolean).map(decodeURIComponent);
}

async function open() {
  leave();
  leave = () => {};
  if (!signedIn()) return askWho();
  const mine = ++shown;
  try {
    me ??= await get("auth/me");
  } catch (error) {
    if (signedIn()) show(main, failed(error, open));
    return undefined;
  }
  top();
  const [name = "firings", ...rest] = place();
  const part = PARTS[name] ?? PARTS.firings;
  document.title = `${part[0]} · Tapeline alerts`;
  for (const link of document.querySelectorAll("#navigation a")) {
    if (link.getAttribute("href") === `#/${PARTS[name] ? name : "firings"}`) {
      link.setAttribute("aria-current", "page");
      link.scrollIntoView({ block: "nearest", inline: "nearest" });
    } else link.removeAttribute("aria-current");
  }
  const stage = element("div", {}, loading());
  show(main, stage);
  // Whoever came by the keyboard goes on in what he asked for, and it begins at its top.
  if (mine > 1) { main.focus({ preventScroll: true }); scrollTo(0, 0); }
  try {
    const after = await part[1](stage, rest, me);
    if (mine === shown) leave = after ?? (() => {});
    else after?.();
  } catch (error) {
    if (mine === shown) show(stage, failed(error, open));
  }
  return undefined;
}

function top() {
  const bar = document.getElementById("top");
  if (!bar.hidden) return;
  bar.hidden = false;
  show(document.getElementById("navigation"), Object.entries(PARTS).map(([name, [title]]) => element("a", { href: `#/${name}` }, title)));
  show(document.getElementById("who"), me.name, element("span", { class: "tag" }, me.role),
    element("button", { type: "button", onclick: () => signOut() }, "Sign out"));
  const look = async () => {
    if (!signedIn()) return;
    const where = document.getElementById("engine");
    try {
      const status = await get("status");
      const good = status.ready;
      show(where, element("a", { href: "#/health", class: `tag ${good ? "good" : "bad"}` }, good ? "engine running" : "engine not ready"));
    } catch (error) {
      if (error.status !== 403) show(where, element("a", { href: "#/health", class: "tag bad" }, "no answer"));
    }
  };
  look();
  setInterval(() => { if (!document.hidden) look(); }, 10_000);
}

function askWho() {
  me = null;
  document.getElementById("top").hidden = true;
  document.title = "Sign in · Tapeline alerts";
  const name = element("input", { name: "name", autocomplete: "username", required: true, maxlength: 64 });
  const password = element("input", { name: "password", type: "password", autocomplete: "current-password", required: true, maxlength: 1024 });
  const fault = element("p", { class: "fault", role: "alert" });
  const go = element("button", { class: "main", type: "submit" }, "Sign in");
  show(main, element("section", { class: "signin card" }, element("h1", {}, "Tapeline alerts"),
    element("form", { onsubmit: async (event) => {
      event.preventDefault();
      go.disabled = true;
      try { await signIn(name.value.trim(), password.value); await open(); } catch (error) { show(fault, error.message); password.select(); } finally { go.disabled = false; }
    } }, field("Name", name), field("Password", password), fault, go),
    element("p", { class: "quiet" }, "No account yet? ", element("code", {}, "tapeline alerts user add NAME --role admin"))));
  name.focus();
}

whenEnded(() => { if (me) notice("You are signed out."); askWho(); });
addEventListener("hashchange", open);
open();
