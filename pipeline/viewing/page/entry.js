// One entry: the prompt, its images with scores, and its questions with all answers side by side.

import { address, ask, picture } from "./store.js";
import { bar, count, empty, find, h, number, pieces, plain, plural, text } from "./dom.js";
import { place, step } from "./list.js";
import { ratings, orders } from "./ratings.js";
import { question } from "./answers.js";

const shown = { id: null, entry: null, body: "" };
export const current = () => shown.entry;

export async function showEntry({ again = false } = {}) {
  const id = address().id;
  const box = find("#entry");
  document.body.toggleAttribute("data-open", Boolean(id));
  if (!id) {
    Object.assign(shown, { id: null, entry: null, body: "" });
    box.replaceChildren(empty("Choose a prompt", "j and k go through them"));
    return;
  }
  if (id === shown.id && !again) return;
  const isNew = id !== shown.id;
  shown.id = id;
  try {
    const entry = await ask(`/api/entries/${encodeURIComponent(id)}`);
    if (shown.id !== id) return;
    const body = JSON.stringify(entry);
    if (body === shown.body) return;
    Object.assign(shown, { entry, body });
    drawEntry();
    if (isNew) box.scrollTop = 0;
  } catch (error) {
    if (shown.id === id && isNew) {
      Object.assign(shown, { entry: null, body: "" });
      box.replaceChildren(empty("This cannot be shown", pieces(error.message)));
    }
  }
}

export function drawEntry() {
  const entry = shown.entry;
  const kept = find("#entry").scrollTop;
  find("#entry").replaceChildren(head(entry), images(entry), orders(entry), ...entry.questions.map((each) => question(entry, each)), gone(entry));
  find("#entry").scrollTop = kept;
}

function head(entry) {
  const { at, total } = place();
  const prompt = entry.prompt;
  const meta = [entry.number === null ? null : h("span", { class: "number" }, `#${count(entry.number)}`), h("span", { class: `pill ${entry.state === "paired" ? "good" : ""}` }, entry.state)];
  if (prompt?.topic) meta.push(text(prompt.topic, "span", "pill"));
  if (prompt?.source) meta.push(text(prompt.source, "span"));
  return h("header", { class: "entry-head" },
    h("div", {}, h("div", { class: "meta" }, meta),
      prompt ? text(prompt.text, "h2") : h("h2", { class: "soft" }, "An image without a prompt")),
    h("div", { class: "turn" },
      h("button", { onclick: () => step(-1), disabled: at === 0, "aria-label": "Previous (k)", title: "Previous (k)" }, "‹"),
      h("button", { onclick: () => step(1), disabled: at >= 0 && at >= total - 1, "aria-label": "Next (j)", title: "Next (j)" }, "›")));
}

const main = (image) => image.scores[0]?.value ?? null;

function images(entry) {
  if (!entry.images.length) return h("p", { class: "soft" }, "No image yet.");
  const values = entry.images.map(main).filter((value) => value !== null);
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const several = new Set(entry.images.map((image) => image.model)).size > 1;
  const share = (value) => (value === null ? 0 : high > low ? 0.06 + 0.94 * (value - low) / (high - low) : 1);
  const folders = [...new Set(entry.images.map((image) => image.folder))];
  return h("div", {}, folders.map((folder) => [
    folders.length > 1 ? h("h3", { class: "group" }, text(folder.replace(/^candidates-?/, "") || "first", "span")) : null,
    h("div", { class: "images" }, entry.images.map((image, place) => (image.folder === folder ? card(entry, image, place, share(main(image)), several) : null)))]),
    entry.cut ? h("p", { class: "soft" }, "More images than are shown.") : null);
}

function card(entry, image, place, share, several) {
  const [score, ...others] = image.scores;
  const facts = [];
  if (image.guidance !== null) facts.push(h("span", {}, "guidance ", h("b", {}, plain(image.guidance))));
  if (image.steps !== null) facts.push(`${image.steps} steps`);
  if (image.seed !== null) facts.push(h("span", { class: "number" }, `seed ${image.seed}`));
  return h("figure", { class: `image ${image.picked ? "picked" : ""}`, "data-id": image.id },
    shownPicture(entry, image, place),
    image.picked ? h("span", { class: "badge", title: "the image that goes on" }, image.picked.margin === null ? "picked" : `picked +${number(image.picked.margin, 2)}`) : null,
    h("figcaption", {},
      h("div", { class: "score" }, h("b", {}, score ? number(score.value) : image.ratings.length ? `image ${place + 1}` : "no score"), h("span", { class: "soft number" }, `${image.width} × ${image.height}`)),
      score ? bar(share) : null,
      several ? text(image.model, "div", "soft") : null,
      h("div", { class: "facts" }, facts),
      others.length || score?.attributes ? h("table", { class: "ratings" }, image.scores.map((each) => scoreRows(each))) : null,
      ratings(image)));
}

function scoreRows(score) {
  const name = score.folder.replace(/^image_scores-?/, "") || score.scorer;
  return [h("tr", {}, h("td", {}, text(name, "span")), h("td", { class: "number" }, number(score.value))),
    ...Object.entries(score.attributes ?? {}).map(([key, value]) => h("tr", { class: "soft" }, h("td", {}, text(key, "span")), h("td", { class: "number" }, number(value))))];
}

function shownPicture(entry, image, place) {
  const tag = entry.image_tags[image.id];
  const name = `candidate ${place + 1}${image.picked ? ", picked" : ""}`;
  const element = h("img", { src: picture(image.id, "small", tag), alt: name, decoding: "async", class: image.width < 120 ? "pixels" : "" });
  const open = h("button", { class: "open", "aria-label": `Enlarge ${name}`, onclick: () => enlarge(entry, image, name) }, element);
  element.addEventListener("error", async () => {
    const original = h("a", { href: picture(image.id, "original", tag), target: "_blank", rel: "noreferrer" }, "open the file");
    let why = "cannot be shown";
    try { await ask(picture(image.id, "small", tag)); } catch (error) { why = error.message; }
    open.replaceWith(h("div", { class: "open missing" }, h("span", {}, pieces(why), h("br"), original)));
  });
  return open;
}

function enlarge(entry, image, name) {
  const dialog = find("#picture");
  const tag = entry.image_tags[image.id];
  dialog.replaceChildren(
    h("img", { src: picture(image.id, "large", tag), alt: name, class: image.width < 300 ? "pixels" : "", onclick: () => dialog.close() }),
    h("p", {}, `${image.width} × ${image.height}, `, text(image.model, "span"), " · ", h("a", { href: picture(image.id, "original", tag), target: "_blank", rel: "noreferrer" }, "the stored file")));
  dialog.showModal();
}

function gone(entry) {
  const known = new Set(entry.questions.flatMap((each) => each.answers.map((answer) => answer.id)));
  const rows = entry.rejects.filter((reject) => !known.has(reject.subject_id));
  if (!rows.length) return "";
  return h("details", { class: "gone" }, h("summary", { class: "soft" }, `${plural(rows.length, "row")} of this prompt went no further`),
    rows.map((reject) => h("div", { class: "row" }, h("div", { class: "meta" }, h("span", { class: "pill warn" }, pieces(reject.reason)), text(reject.folder, "span"), h("code", {}, pieces(reject.subject_id.slice(0, 12)))), text(reject.detail, "div"))));
}
