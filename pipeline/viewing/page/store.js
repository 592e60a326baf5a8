// What the page knows: the address (which view, which entry, which filters), the run at a glance, and requests.

export const FILTERS = ["q", "state", "responder", "role", "margin_from", "margin_to", "reason", "guidance", "verdict", "order"];
export const run = { overview: null, gone: false };
const listeners = new Set();
export const listen = (listener) => listeners.add(listener);

export function address() {
  const given = new URLSearchParams(location.hash.slice(1));
  const filters = {};
  for (const name of FILTERS) if (given.get(name)) filters[name] = given.get(name);
  return { view: given.get("view") ?? "prompts", id: given.get("id"), filters, reject: given.get("reject"), name: given.get("name") };
}

export function go(change, { replace = false } = {}) {
  const now = address();
  const next = { view: now.view, id: now.id, reject: now.reject, name: now.name, ...now.filters, ...change };
  const given = new URLSearchParams();
  for (const [key, value] of Object.entries(next)) if (value && !(key === "view" && value === "prompts")) given.set(key, value);
  const hash = "#" + given;
  if (hash === (location.hash || "#")) return;
  if (replace) history.replaceState(null, "", hash);
  else history.pushState(null, "", hash);
  tell("address");
}

export function tell(what) {
  for (const listener of listeners) listener(what);
}

export function filterQuery(filters, more = {}) {
  return new URLSearchParams({ ...filters, ...more }).toString();
}

export async function ask(path, options = {}) {
  let answer;
  try {
    answer = await fetch(path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    if (!run.gone) { run.gone = true; tell("gone"); }
    throw new Error("the viewer does not answer");
  }
  if (run.gone) { run.gone = false; tell("gone"); }
  const body = await answer.json();
  if (!answer.ok) throw new Error(body.fix ? `${body.error}; ${body.fix}` : body.error);
  return body;
}

export const TOKEN = document.querySelector("meta[name=token]").content; // what the server wants with a verdict

export const picture = (id, size, tag) => `/image/${encodeURIComponent(id)}/${size}${tag ? `?v=${tag}` : ""}`;
