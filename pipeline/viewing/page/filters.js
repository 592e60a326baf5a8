// The head of the list: how many fit, which filters hold, and the panel where they are set.

import { address, filterQuery, go, run } from "./store.js";
import { count, find, h, number, pieces, plain } from "./dom.js";
import { total } from "./list.js";

const WORDS = { q: "search", margin_from: "margin from", margin_to: "margin to", order: "order" };
const ORDERS = { widest: "widest margin first", closest: "closest margin first" };
let drawn = {};

export function showFilters() {
  const filters = address().filters;
  const names = Object.keys(filters).filter((name) => name !== "role" || filters.responder);
  const panel = find("#filters");
  const overview = run.overview;
  const query = filterQuery(filters);
  const head = find("#list-head");
  const menu = head.querySelector("details")?.open ?? false;
  head.replaceChildren(
    h("span", { class: "count" }, h("b", {}, total() === null ? "…" : count(total())), names.some((name) => name !== "order") ? h("span", { class: "soft" }, ` of ${count(overview?.entries)}`) : h("span", { class: "soft" }, overview?.prompts === overview?.entries ? " prompts" : " entries")),
    h("button", { "aria-expanded": String(!panel.hidden), onclick: () => { panel.hidden = !panel.hidden; showFilters(); } }, "Filters"),
    h("details", { open: menu }, h("summary", {}, "Download"), h("div", {},
      h("a", { href: `/download/entries.jsonl?${query}`, download: "" }, "Entries, with all texts (JSONL)"),
      h("a", { href: `/download/pairs.csv?${query}`, download: "" }, "Pairs, a line each (CSV)"))),
    names.length ? h("div", { class: "chips" }, names.map((name) => h("button", { title: "take away", onclick: () => go({ [name]: null, ...(name === "responder" ? { role: null } : {}) }) },
      pieces(`${WORDS[name] ?? name}: ${ORDERS[filters[name]] ?? filters[name]}`), " ✕"))) : "");
  if (!overview || panel.hidden) return;
  const key = JSON.stringify([overview.facets, filters, overview.writable]);
  const active = panel.contains(document.activeElement) ? document.activeElement : null;
  if (key === drawn.key && panel.childElementCount) return;
  if (active?.tagName === "INPUT" && drawn.query === query) return; // somebody types
  drawn = { key, query };
  panel.replaceChildren(...fields(overview, filters));
  if (active) panel.querySelector(`[name="${active.name}"]`)?.focus();
}

function choice(label, name, filters, options, style = "") {
  const select = h("select", { name, onchange: (event) => go({ [name]: event.target.value || null }) },
    h("option", { value: "" }, "any"), options.map(([value, words]) => h("option", { value, selected: String(filters[name] ?? "") === String(value) }, words)));
  return options.length ? h("label", { class: style }, label, select) : null;
}

function fields(overview, filters) {
  const facets = overview.facets;
  const margins = facets.margins;
  const [from, to] = [filters.margin_from ?? margins?.low, filters.margin_to ?? margins?.high].map(Number);
  const limit = (name, label, value) => h("label", {}, label, h("input", { type: "number", step: "any", value: filters[name] ?? "", placeholder: number(value, 2), name,
    onchange: (event) => go({ [name]: event.target.value || null }) }));
  return [
    choice("State", "state", filters, facets.states.map((each) => [each.value, `${each.value} (${count(each.count)})`])),
    choice("Guidance of the pick", "guidance", filters, facets.guidance.map((each) => [plain(each.value), `${plain(each.value)} (${count(each.count)})`])),
    choice("Responder", "responder", filters, facets.responders.map((each) => [each.value, each.value])),
    facets.responders.length ? h("label", {}, "is", h("select", { name: "role", disabled: !filters.responder, onchange: (event) => go({ role: event.target.value || null }) },
      [["", "chosen or rejected"], ["chosen", "chosen"], ["rejected", "rejected"]].map(([value, words]) => h("option", { value, selected: (filters.role ?? "") === value }, words)))) : null,
    margins ? h("div", { class: "wide" }, h("div", { class: "bars", "aria-hidden": "true" }, margins.bars.map((each, at) => {
      const low = margins.low + (margins.high - margins.low) * at / margins.bars.length;
      const isIn = low + (margins.high - margins.low) / margins.bars.length >= from && low <= to;
      return h("i", { class: isIn ? "in" : "", "--share": each / Math.max(...margins.bars), title: count(each) });
    }))) : null,
    margins ? limit("margin_from", "Margin from", margins.low) : null,
    margins ? limit("margin_to", "to", margins.high) : null,
    choice("Rejects", "reason", filters, facets.rejects.map((each) => [`${each.stage}:${each.reason}`, `${each.reason}, ${each.stage} (${count(each.count)})`]), "wide"),
    overview.writable ? choice("Verdict", "verdict", filters, [["agree", "agree"], ["disagree", "disagree"], ["none", "not judged yet"]]) : null,
    choice("Order", "order", filters, Object.entries(ORDERS)),
  ].filter(Boolean);
}
