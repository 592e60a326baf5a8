// The other views: rejects by reason, answers before and after, and the run itself.

import { address, ask, go, run } from "./store.js";
import { bar, count, empty, find, h, number, pager, pieces, plain, plural, text, toast } from "./dom.js";
import { difference } from "./difference.js";
import { runs } from "./answers.js";

const SIZE = 40;
const at = { rejects: 0, compare: 0, changed: true };

export async function showRejects() {
  const facets = run.overview?.facets.rejects ?? [];
  const chosen = address().reject;
  const [stage, ...rest] = (chosen ?? "").split(":");
  const box = find("#view-rejects");
  if (!facets.length) return box.replaceChildren(empty("Nothing was rejected", run.overview?.is_read ? "every row went on" : "as far as the run has been read"));
  const query = new URLSearchParams({ start: at.rejects, count: SIZE, ...(chosen ? { stage, reason: rest.join(":") } : {}) });
  let found;
  try { found = await ask(`/api/rejects?${query}`); } catch (error) { return toast(error.message); }
  const most = Math.max(...facets.map((each) => each.count));
  const option = (value, words, more, total) => h("button", { class: "reason", "aria-pressed": String((chosen ?? null) === value), onclick: () => { at.rejects = 0; go({ reject: value }); } },
    h("span", {}, h("b", {}, pieces(words)), h("span", { class: "number soft" }, count(total))), more ? h("span", { class: "soft small" }, pieces(more)) : null, bar(total / most, "bad"));
  const kept = box.scrollTop;
  box.replaceChildren(h("div", { class: "page" }, h("h2", {}, "What went no further"), h("div", { class: "split" },
    h("div", {}, option(null, "all", "", facets.reduce((sum, each) => sum + each.count, 0)), facets.map((each) => option(`${each.stage}:${each.reason}`, each.reason, each.stage, each.count))),
    h("div", {}, found.rejects.map(reject), pager(found.start, SIZE, found.total, (start) => { at.rejects = start; box.scrollTop = 0; showRejects(); })))));
  box.scrollTop = kept;
  return undefined;
}

function reject(row) {
  return h("div", { class: "row" }, h("div", { class: "meta" }, h("span", { class: "pill warn" }, pieces(row.reason)), text(row.folder, "span"), h("code", { title: row.subject_id }, pieces(row.subject_id.slice(0, 40)))),
    row.detail ? text(row.detail, "div") : null,
    row.entry ? h("a", { href: `#id=${encodeURIComponent(row.entry.id)}` }, row.entry.number === null ? "" : `#${row.entry.number} `, text(row.entry.text ?? "image without a prompt", "span")) : null);
}

export async function showCompare() {
  const names = run.overview?.comparisons ?? [];
  const box = find("#view-compare");
  if (!names.length) return box.replaceChildren(empty("No answers before and after", "an evaluation in this run would show here"));
  const name = names.includes(address().name) ? address().name : names[0];
  let found;
  try { found = await ask(`/api/comparison?${new URLSearchParams({ name, start: at.compare, count: SIZE, ...(at.changed ? { changed: 1 } : {}) })}`); }
  catch (error) { return box.replaceChildren(empty("This cannot be shown", pieces(error.message))); }
  const again = (change) => { Object.assign(at, { compare: 0 }, change); showCompare(); };
  box.replaceChildren(h("div", { class: "page" }, h("h2", {}, "Before and after"),
    h("div", { class: "tools" },
      h("select", { "aria-label": "Evaluation", onchange: (event) => { at.compare = 0; go({ name: event.target.value }); } }, names.map((each) => h("option", { value: each, selected: each === name }, each))),
      h("button", { "aria-pressed": String(at.changed), onclick: () => again({ changed: !at.changed }) }, at.changed ? "Show all" : "Only what changed"),
      h("span", { class: "soft" }, `${count(found.changed)} of ${plural(found.all, "answer")} changed`)),
    found.rows.map(compared), found.rows.length ? null : empty("No answer changed"),
    pager(at.compare, SIZE, found.total, (start) => { at.compare = start; box.scrollTop = 0; showCompare(); })));
  return undefined;
}

function compared(row) {
  const parts = row.before !== null && row.after !== null && row.before !== row.after ? difference(row.before, row.after) : null;
  const side = (name, value, own) => h("div", { class: `answer ${name}` }, h("header", {}, h("span", { class: "pill" }, name)),
    value === null ? h("span", { class: "soft" }, "no answer") : own ? h("div", { class: "text", dir: "auto" }, runs(own)) : text(value, "div"));
  return h("div", { class: "row" }, h("div", { class: "meta" }, h("code", {}, pieces(row.id)), row.image ? text(row.image, "span") : null),
    row.question ? text(row.question, "b") : null,
    h("div", { class: "sides" }, side("before", row.before, parts?.[0]), side("after", row.after, parts?.[1])));
}

export function showRun() {
  const told = run.overview;
  if (!told) return;
  const box = find("#view-run");
  const kept = box.scrollTop;
  const tile = (value, words) => h("div", { class: "card tile" }, h("b", {}, value), h("span", { class: "soft" }, words));
  box.replaceChildren(h("div", { class: "page" },
    told.problems.length ? [h("h2", {}, "What cannot be read"), told.problems.map((each) => h("div", { class: "problem" }, h("b", {}, pieces(each.where)), ": ", pieces(each.what)))] : null,
    h("div", { class: "tiles" }, tile(count(told.prompts), "prompts"), tile(count(told.images), "images"), tile(count(told.answers), "answers"), tile(count(told.pairs), "pairs"),
      tile(count(told.facets.rejects.reduce((sum, each) => sum + each.count, 0)), "rejects")),
    told.verdicts ? [h("h2", {}, "People and the judge"), agreement(told.verdicts)] : null,
    told.pairs || told.facets.guidance.length ? [h("h2", {}, "Who wins, and by how much"), h("div", { class: "cards" }, wins(told.facets.responders), guidance(told.facets.guidance), margins(told.facets.margins))] : null,
    h("h2", {}, "Stages"), h("div", { class: "cards" }, told.stages.map(stage))));
  box.scrollTop = kept;
}

function stage(each) {
  const share = each.complete ? 1 : each.inputs ? each.committed / each.inputs : 0;
  const rejected = Object.values(each.rejects).reduce((sum, value) => sum + value, 0);
  const facts = [each.rows === null ? `${count(each.outputs)} rows` : `${count(each.rows)} rows`, rejected ? `${count(rejected)} rejected` : null,
    each.imported ? "imported" : `${number(each.seconds, 1)} device s`, each.cost === null ? null : `cost ${number(each.cost, 2)}`];
  return h("div", { class: "card" }, h("header", {}, h("h3", {}, text(each.name, "span")),
      each.complete ? h("span", { class: "pill good" }, "complete") : h("span", { class: "pill warn" }, each.has_manifest ? "unfinished" : "no manifest yet")),
    each.complete ? bar(share, "good") : each.inputs ? bar(share) : null,
    h("div", { class: "soft small" }, facts.filter(Boolean).join(" · ")),
    each.models.map((model) => text(model, "div", "soft small text")),
    each.notices.map((notice) => text(notice, "div", "small text")));
}

const measure = (label, drawn, value) => h("div", { class: "measure" }, text(label, "span"), drawn, h("span", { class: "soft number" }, value));

function wins(responders) {
  if (!responders.length) return null;
  return h("div", { class: "card" }, h("h3", {}, "Chosen against rejected"), responders.map((each) => measure(each.value,
    h("div", { class: "two" }, h("i", { "--share": each.chosen }), h("i", { "--share": each.rejected })), `${count(each.chosen)} : ${count(each.rejected)}`)));
}

function guidance(values) {
  if (!values.length) return null;
  const all = values.reduce((sum, each) => sum + each.count, 0);
  return h("div", { class: "card" }, h("h3", {}, "Guidance of the picked images"), values.map((each) => measure(plain(each.value), bar(each.count / all), `${number(100 * each.count / all, 0)} %`)));
}

function margins(values) {
  if (!values) return null;
  return h("div", { class: "card" }, h("h3", {}, "Margins of the pairs"), h("div", { class: "bars" }, values.bars.map((each) => h("i", { class: "in", "--share": each / Math.max(...values.bars), title: count(each) }))),
    h("div", { class: "score soft small" }, `${number(values.low, 2)} to ${number(values.high, 2)}`));
}

function agreement(told) {
  if (!told.pairs) return h("p", { class: "soft" }, "No verdict yet: a and d on a prompt's pairs agree and disagree with the judge.");
  const percent = (value) => `${number(100 * value, 1)} %`;
  const row = (name, each, more = []) => h("tr", {}, h("td", {}, name), h("td", { class: "number" }, count(each.pairs)), h("td", { class: "number" }, percent(each.share)),
    h("td", { class: "number soft" }, `${percent(each.interval[0])} to ${percent(each.interval[1])}`), h("td", { class: "number" }, number(each.kappa, 2)), more);
  return h("div", { class: "card scroll" }, h("table", {},
    h("thead", {}, h("tr", {}, h("th"), ["pairs", "agree", "95 %", "kappa", "judge prefers", "people prefer"].map((word) => h("th", { class: "number" }, word)))),
    h("tbody", {}, row(h("b", {}, "all pairs"), told, [h("td"), h("td")]), Object.entries(told.responders).map(([name, each]) => row(text(name, "span"), each,
      [h("td", { class: "number" }, count(each.judge_prefers)), h("td", { class: "number" }, count(each.people_prefer))])))));
}
