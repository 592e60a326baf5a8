// The page: tabs, keys, and the clock that asks how the run gets on.

import { address, ask, go, listen, run } from "./store.js";
import { count, find, h, pieces, toast } from "./dom.js";
import { loadedAgo, openFirst, showList, startList, step } from "./list.js";
import { showFilters } from "./filters.js";
import { current, drawEntry, showEntry } from "./entry.js";
import { showCompare, showRejects, showRun } from "./pages.js";
import { aim, sayFocused, turn } from "./verdicts.js";

const SECONDS = 2, SEARCH_SECONDS = 10;
let version = null, tabs = "";

async function look() {
  try {
    const told = await ask("/api/overview");
    const isNew = told.version !== version;
    const before = run.overview;
    run.overview = told;
    version = told.version;
    showTop();
    if (isNew || !before) await showAll({ again: isNew && before !== null });
    else { showFilters(); if (address().view === "run") showRun(); }
  } catch (error) {
    if (!run.gone) toast(error.message);
  }
}

async function clock() {
  if (!document.hidden) await look();
  setTimeout(clock, run.overview?.is_read === false ? 500 : SECONDS * 1000);
}

async function showAll({ again = false } = {}) {
  const { view, filters } = address();
  document.body.dataset.view = view;
  showTop();
  if (view === "rejects") return showRejects();
  if (view === "compare") return showCompare();
  if (view === "run") return showRun();
  find("#search").value = document.activeElement === find("#search") ? find("#search").value : (filters.q ?? "");
  await showList({ again: again && (!filters.q || loadedAgo() > SEARCH_SECONDS * 1000) });
  showFilters();
  await openFirst();
  await showEntry({ again });
  if (current()) aim(current());
  return undefined;
}

function showTop() {
  const told = run.overview;
  const live = find("#live");
  live.className = run.gone ? "gone" : told?.is_growing ? "growing" : "";
  const reading = told && !told.is_read ? `reading ${Math.floor(told.read * 100)} %` : null;
  const ago = told?.quiet_seconds ?? 0;
  live.replaceChildren(h("i"), h("span", {}, run.gone ? "stopped" : reading ?? (told?.is_growing ? "live" : told ? "at rest" : "…")),
    h("span", { class: "more" }, !run.gone && told?.is_growing ? `last rows ${ago < 90 ? `${ago} s` : `${Math.round(ago / 60)} min`} ago` : ""));
  if (told) {
    find("#run-name").replaceChildren(...pieces(told.name));
    document.title = `${told.name}: Prefmill`;
  }
  const rejects = told?.facets.rejects.reduce((sum, each) => sum + each.count, 0) ?? 0;
  const entries = [["prompts", told && told.prompts === 0 && told.entries ? "Images" : "Prompts", told?.entries], ["rejects", "Rejects", rejects],
    ...(told?.comparisons.length ? [["compare", "Before / after", null]] : []), ["run", "Run", null]];
  const key = JSON.stringify([entries, address().view]);
  if (key !== tabs) {
    tabs = key;
    find("#tabs").replaceChildren(...entries.map(([view, words, total]) => h("button", { "aria-current": view === address().view ? "page" : null, onclick: () => go({ view }) }, words, total ? h("small", {}, count(total)) : null)));
  }
  const banner = find("#banner");
  const problems = told?.problems.length ?? 0;
  banner.className = run.gone || told?.failure ? "bad" : "";
  banner.hidden = !(run.gone || told?.failure || problems);
  banner.replaceChildren(...(run.gone ? ["The viewer has stopped. Start it again with the same command, and this page goes on."]
    : told?.failure ? pieces(told.failure)
      : problems ? [`${problems === 1 ? "One thing" : `${problems} things`} in this run cannot be read; everything else is here. `, h("a", { href: "#view=run" }, "What")] : []));
}

function help() {
  const keys = [["j  k", "next, previous prompt (also the arrow keys)"], ["a  d", "agree, disagree with the judge on the framed pair"], ["n  p", "next, previous pair of this prompt"],
    ["/", "search"], ["f", "filters"], ["1 … 4", "the views"], ["Esc", "close, or back to the list"], ["?", "this"]];
  find("#help").replaceChildren(h("h2", {}, "Keys"), h("dl", {}, keys.map(([key, words]) => [h("dt", {}, h("kbd", {}, key)), h("dd", {}, words)])),
    h("p", { class: "soft small" }, run.overview?.writable ? "Verdicts are written to the file given with --verdicts; nothing else is." : "This page only reads. Start it with --verdicts FILE to judge pairs."),
    h("form", { method: "dialog" }, h("button", { onclick: (event) => { event.preventDefault(); find("#help").close(); } }, "Close")));
  find("#help").showModal();
}

function press(event) {
  const typing = /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName);
  if (event.key === "Escape") {
    if (typing) return event.target.blur();
    if (!find("#filters").hidden) { find("#filters").hidden = true; return showFilters(); }
    if (matchMedia("(max-width: 760px)").matches && address().id) return go({ id: null });
    return undefined;
  }
  if (typing || event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return undefined;
  const isPrompts = address().view === "prompts";
  const views = [...find("#tabs").children];
  const actions = {
    "/": () => { if (!isPrompts) go({ view: "prompts" }); find("#search").focus(); find("#search").select(); },
    "?": help,
    f: () => { find("#filters").hidden = !find("#filters").hidden; showFilters(); },
    ...(isPrompts ? { j: () => step(1), k: () => step(-1), ArrowDown: () => step(1), ArrowUp: () => step(-1), ArrowRight: () => step(1), ArrowLeft: () => step(-1) } : {}),
    ...(isPrompts && current() ? { a: () => sayFocused(current(), "agree"), d: () => sayFocused(current(), "disagree"), n: () => turn(current(), 1), p: () => turn(current(), -1) } : {}),
  };
  const action = actions[event.key] ?? (/^[1-4]$/.test(event.key) && views[event.key - 1] ? () => views[event.key - 1].click() : null);
  if (action) { event.preventDefault(); action(); }
  return undefined;
}

let typed;
find("#search").addEventListener("input", (event) => {
  clearTimeout(typed);
  typed = setTimeout(() => go({ q: event.target.value.trim() || null, view: "prompts", id: matchMedia("(max-width: 760px)").matches ? null : address().id }, { replace: true }), 250);
});
find("#back").addEventListener("click", () => go({ id: null }));
find("#help-button").addEventListener("click", help);
addEventListener("keydown", press);
addEventListener("hashchange", () => showAll());
addEventListener("popstate", () => showAll());
document.addEventListener("visibilitychange", () => { if (!document.hidden) look(); });
for (const dialog of document.querySelectorAll("dialog")) dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
listen((what) => {
  if (what === "address") showAll();
  if (what === "gone") showTop();
  if (what === "verdict") { drawEntry(); showFilters(); }
});
startList();
showAll();
clock();
