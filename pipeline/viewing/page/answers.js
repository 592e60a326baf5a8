// A question: all answers side by side, chosen and rejected marked, the judge's attributes, and verdicts on the pairs.

import { run } from "./store.js";
import { h, number, pieces, plural, text } from "./dom.js";
import { difference } from "./difference.js";
import { say, focus, focused } from "./verdicts.js";

const score = (answer) => answer.scores.find((each) => each.folder === "response_scores")?.value ?? answer.scores[0]?.value ?? null;

export function question(entry, each) {
  const sides = each.pairs.length ? each.pairs[0] : null;
  const answers = each.answers.length ? [...each.answers].sort((a, b) => rank(b) - rank(a)) : sides ? bare(sides) : [];
  const marks = sides ? marked(answers, sides) : new Map();
  return h("section", { class: "question" },
    h("header", {}, text(each.text ?? "a question that cannot be read", "h3"),
      each.source ? h("span", { class: "soft small" }, pieces(each.source)) : null,
      each.fate ? h("span", { class: "pill warn", title: "no pair was made of these answers" }, pieces(each.fate)) : null),
    answers.length ? h("div", { class: "answers" }, answers.map((answer) => card(answer, marks.get(answer.id)))) : h("p", { class: "soft" }, "No answer yet."),
    attributes(answers),
    each.pairs.map((pair) => verdict(entry, pair, answers)));
}

const rank = (answer) => (answer.fate === "chosen" ? 1e9 : answer.fate === "rejected" ? 1e8 : (score(answer) ?? -1e7));

// An imported pair has its two texts alone.
function bare(pair) {
  return ["chosen", "rejected"].map((side) => ({ id: side, fate: side, text: pair[side], responder: null, model: null, scores: [] }));
}

function marked(answers, pair) {
  const [chosen, rejected] = ["chosen", "rejected"].map((side) => answers.find((answer) => answer.id === pair[`${side}_id`] || (answer.id === side)));
  const found = chosen && rejected ? difference(chosen.text, rejected.text) : null;
  return found ? new Map([[chosen.id, found[0]], [rejected.id, found[1]]]) : new Map();
}

export function runs(parts) {
  return parts.map(([words, differs]) => {
    const start = words.length - words.trimStart().length;
    return differs ? [words.slice(0, start), h("mark", {}, pieces(words.slice(start)))] : pieces(words);
  });
}

function card(answer, parts) {
  const style = answer.fate === "chosen" ? "good" : answer.fate === "rejected" ? "bad" : answer.fate ? "warn" : "";
  const value = score(answer);
  return h("div", { class: `answer ${["chosen", "rejected"].includes(answer.fate) ? answer.fate : ""}`, "data-id": answer.id },
    h("header", {}, answer.responder ? text(answer.responder, "b") : null,
      answer.fate ? h("span", { class: `pill ${style}`, title: style === "warn" ? `set aside: ${answer.why ?? ""}` : null }, pieces(answer.fate)) : null,
      value === null ? null : h("span", { class: "score", title: "the judge's score" }, number(value))),
    parts ? h("div", { class: "text", dir: "auto" }, runs(parts)) : text(answer.text, "div"),
    h("div", { class: "model" }, answer.model ? h("span", { class: "text", title: answer.model }, pieces(answer.model)) : null,
      answer.tokens ? h("span", {}, plural(answer.tokens, "token")) : null, answer.finish_reason && answer.finish_reason !== "stop" ? text(answer.finish_reason, "span") : null,
      answer.scores.some((each) => each.truncated) ? h("span", { title: "the judge saw a part of the answer" }, "cut") : null));
}

// The attributes of all answers as one table, so that they are read across.
function attributes(answers) {
  const rows = new Map();
  const reasons = [];
  for (const answer of answers)
    for (const each of answer.scores) {
      const judge = each.judge ?? (each.folder === "response_scores" ? "score" : each.scorer);
      if (answer.scores.length > 1) put(rows, judge, answer.id, each.value);
      for (const [name, value] of Object.entries(each.attributes ?? {})) put(rows, answer.scores.length > 1 ? `${judge}: ${name}` : name, answer.id, value);
      if (each.reason) reasons.push(h("p", {}, h("b", {}, text(answer.responder, "span")), " ", text(judge, "span", "soft"), h("br"), text(each.reason)));
    }
  if (!rows.size && !reasons.length) return null;
  return h("details", { class: "attributes" }, h("summary", {}, `The judge's attributes (${rows.size})`),
    h("div", { class: "scroll" }, h("table", {},
      h("thead", {}, h("tr", {}, h("th"), answers.map((answer) => h("th", { class: "number" }, text(answer.responder, "span"), answer.fate === "chosen" ? " ✓" : answer.fate === "rejected" ? " ✗" : "")))),
      h("tbody", {}, [...rows].map(([name, values]) => attributeRow(name, values, answers))))),
    reasons.length ? h("div", { class: "reasons" }, reasons) : null);
}

function put(rows, name, id, value) {
  if (!rows.has(name)) rows.set(name, new Map());
  rows.get(name).set(id, value);
}

function attributeRow(name, values, answers) {
  const known = [...values.values()].filter((value) => value !== null);
  const [low, high] = [Math.min(...known), Math.max(...known)];
  return h("tr", {}, h("td", {}, text(name, "span")), answers.map((answer) => {
    const value = values.get(answer.id) ?? null;
    const share = value === null ? 0 : high > low ? (value - low) / (high - low) : 0.5;
    return h("td", { class: value !== null && value === high && high > low ? "best" : "" }, h("div", { class: "heat", "--share": share }, number(value)));
  }));
}

function verdict(entry, pair, answers) {
  const name = (side) => answers.find((answer) => answer.id === pair[`${side}_id`])?.responder ?? side;
  const can = run.overview?.writable;
  const button = (word, key) => h("button", { class: word, "aria-pressed": String(pair.verdict === word), title: `${word} with the judge (${key})`,
    onclick: () => say(entry, pair, pair.verdict === word ? null : word) }, word === "agree" ? "Agree " : "Disagree ", h("kbd", {}, key));
  return h("div", { class: `pair ${can && focused(pair.id) ? "focused" : ""}`, "data-pair": pair.id, onclick: () => can && focus(pair.id) },
    h("span", {}, "The judge prefers ", text(name("chosen"), "b"), " to ", text(name("rejected"), "b")),
    h("span", { class: "soft number" }, pair.margin === null ? "no margin" : `margin ${number(pair.margin)}`),
    pair.source ? text(pair.source, "span", "soft small") : null,
    can ? h("span", { class: "verdict" }, button("agree", "a"), button("disagree", "d")) : pair.verdict ? h("span", { class: "pill" }, pair.verdict) : null);
}
