// The API: one way to ask, tokens that renew themselves, problems as errors a person can read.

const KEPT = "tapeline.session";
let access = null;
let session = JSON.parse(sessionStorage.getItem(KEPT) ?? "null");
let renewing = null;
let onEnd = () => {};

/** An answer of the API that is a problem; `fields` are its faults by JSON pointer. */
export class Problem extends Error {
  constructor(status, body) {
    const faults = (body?.errors ?? []).map((one) => `${one.pointer}: ${one.detail}`);
    const lines = [body?.errors?.length ? null : body?.detail ?? body?.title ?? `the server answered ${status}`, body?.hint, ...faults];
    super(lines.filter(Boolean).join("\n"));
    this.status = status;
    this.fields = new Map((body?.errors ?? []).map((one) => [one.pointer, one]));
  }
}

/** What to do when nobody is signed in any more. */
export function whenEnded(work) { onEnd = work; }

/** Whether somebody is signed in. */
export function signedIn() { return session !== null; }

function keep(tokens) {
  access = tokens?.access_token ?? null;
  session = tokens ? { refresh_token: tokens.refresh_token } : null;
  if (session) sessionStorage.setItem(KEPT, JSON.stringify(session));
  else sessionStorage.removeItem(KEPT);
}

/** Sign in; throws a Problem. */
export async function signIn(name, password) {
  keep(await plain("POST", "auth/token", { name, password }));
}

/** Sign out here; the tokens end on the server as well. */
export async function signOut() {
  try { if (access) await ask("POST", "auth/logout", {}); } catch { /* they end by themselves */ }
  keep(null);
  onEnd();
}

async function plain(method, path, body, headers = {}) {
  let answer;
  try {
    answer = await fetch(`v1/${path}`, {
      method, headers: { ...(body === undefined ? {} : { "Content-Type": "application/json" }), ...headers },
      body: body === undefined ? undefined : JSON.stringify(body), cache: "no-store", credentials: "omit", redirect: "error",
    });
  } catch {
    throw new Problem(0, { detail: "the server cannot be reached", hint: "is `tapeline alerts gateway` running?" });
  }
  const text = await answer.text();
  let content = null;
  try { content = text ? JSON.parse(text) : null; } catch { /* told below */ }
  if (!answer.ok) throw new Problem(answer.status, content);
  if (content && typeof content === "object" && answer.headers.get("ETag")) {
    Object.defineProperty(content, "etag", { value: answer.headers.get("ETag"), enumerable: false });
  }
  return content;
}

// One renewal at a time: a refresh token that is used twice ends the whole session.
async function renew() {
  renewing ??= plain("POST", "auth/refresh", { refresh_token: session?.refresh_token ?? "" })
    .then(keep, (error) => { if (error.status === 401 || error.status === 403 || error.status === 422) { keep(null); onEnd(); } throw error; })
    .finally(() => { renewing = null; });
  return renewing;
}

/** Ask the API; the content of its answer, with its ETag as `.etag`. */
export async function ask(method, path, body, headers = {}) {
  if (!access) await renew();
  const bearer = () => ({ Authorization: `Bearer ${access}`, ...headers });
  try {
    return await plain(method, path, body, bearer());
  } catch (error) {
    if (error.status !== 401) throw error;
    await renew();
    return plain(method, path, body, bearer());
  }
}

export const get = (path) => ask("GET", path);

/** Something new: a repeat after a lost answer makes no second one. */
export const create = (path, body) => ask("POST", path, body, { "Idempotency-Key": crypto.randomUUID?.() ?? String(Math.random()).slice(2) });

/** A page of a list, by query. */
export function list(path, query = {}) {
  const given = Object.entries(query).filter(([, value]) => value !== undefined && value !== null && value !== "");
  return get(given.length ? `${path}?${new URLSearchParams(given)}` : path);
}
