// People's verdicts on pairs: which pair the keys speak of, and telling the server.

import { ask, run, tell, TOKEN } from "./store.js";
import { find, toast } from "./dom.js";

let chosen = null;
const pairsOf = (entry) => entry.questions.flatMap((question) => question.pairs);
export const focused = (id) => chosen === id;

export function focus(id) {
  chosen = id;
  for (const element of document.querySelectorAll(".pair")) element.classList.toggle("focused", element.dataset.pair === id && Boolean(run.overview?.writable));
}

export function aim(entry) {
  const pairs = pairsOf(entry);
  if (!pairs.some((pair) => pair.id === chosen)) focus((pairs.find((pair) => !pair.verdict) ?? pairs[0])?.id ?? null);
}

export function turn(entry, by) {
  const pairs = pairsOf(entry);
  if (!pairs.length) return;
  const at = pairs.findIndex((pair) => pair.id === chosen);
  focus(pairs[Math.max(0, Math.min(pairs.length - 1, at + by))].id);
  find(".pair.focused")?.scrollIntoView({ block: "center", behavior: "smooth" });
}

export async function sayFocused(entry, verdict) {
  if (!run.overview?.writable) return toast("read-only: start the viewer with --verdicts FILE");
  aim(entry);
  const pair = pairsOf(entry).find((each) => each.id === chosen);
  if (!pair) return toast("no pair here to judge");
  await say(entry, pair, verdict);
  return undefined;
}

export async function say(entry, pair, verdict) {
  try {
    const told = await ask("/api/verdicts", { method: "POST", headers: { "Content-Type": "application/json", "X-Prefmill-Token": TOKEN },
      body: JSON.stringify({ entry: entry.id, pair: pair.id, verdict }) });
    pair.verdict = told.verdict;
    run.overview.verdicts = told.verdicts;
    const pairs = pairsOf(entry);
    const open = pairs.filter((each) => !each.verdict);
    const next = pairs.slice(pairs.indexOf(pair) + 1).find((each) => !each.verdict) ?? open[0];
    focus(verdict && next ? next.id : pair.id);
    tell("verdict");
    if (verdict && next) find(".pair.focused")?.scrollIntoView({ block: "center", behavior: "smooth" });
    else if (verdict) toast("all pairs of this prompt are judged: j goes on");
  } catch (error) {
    toast(error.message);
  }
}
