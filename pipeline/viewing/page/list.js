// The list of entries: only the lines in sight exist, and pages of fifty are asked for as they come into sight.

import { ask, address, filterQuery, go, picture, run } from "./store.js";
import { count, empty, find, h, number, plural, text, toast } from "./dom.js";

const LINE = 84, PAGE = 50, AROUND = 6;
const list = { total: 0, key: null, pages: new Map(), asked: new Set(), version: -1, at: -1, loaded: 0 };
const box = () => find("#list");

export async function showList({ again = false } = {}) {
  const filters = address().filters;
  const key = filterQuery(filters);
  if (key !== list.key) {
    Object.assign(list, { key, at: -1, total: null });
    list.pages.clear();
    list.asked.clear();
    box().scrollTop = 0;
    again = true;
  }
  if (again) {
    list.asked.clear();
    await load(Math.floor(box().scrollTop / LINE / PAGE));
  }
  draw();
}

async function load(page) {
  if (list.asked.has(page)) return;
  list.asked.add(page);
  const key = list.key;
  try {
    const found = await ask(`/api/entries?${filterQuery(address().filters, { start: page * PAGE, count: PAGE })}`);
    if (key !== list.key) return;
    list.pages.set(page, found.entries);
    list.total = found.total;
    list.loaded = performance.now();
  } catch (error) {
    list.asked.delete(page);
    if (key === list.key && list.total === null) list.total = 0;
    toast(error.message);
  }
  draw();
}

export const total = () => list.total;
export const loadedAgo = () => performance.now() - list.loaded;
const lineAt = (at) => list.pages.get(Math.floor(at / PAGE))?.[at % PAGE];

function draw() {
  const place = box();
  if (list.total === 0) {
    const waiting = run.overview && !run.overview.is_read;
    const filtered = Object.keys(address().filters).length > 0;
    place.replaceChildren(waiting && !filtered ? empty("Reading the run", "the first rows come in a moment")
      : filtered ? empty("Nothing fits", "take a filter away, or search for less") : empty("Nothing here yet", "prompts and images show up as they are made"));
    return;
  }
  const first = Math.max(0, Math.floor(place.scrollTop / LINE) - AROUND);
  const last = Math.min(list.total ?? 0, Math.ceil((place.scrollTop + place.clientHeight) / LINE) + AROUND);
  const lines = [];
  const open = address().id;
  for (let at = first; at < last; at++) {
    const entry = lineAt(at);
    if (!entry) load(Math.floor(at / PAGE));
    if (entry && entry.id === open) list.at = at;
    lines.push(line(at, entry, entry && entry.id === open));
  }
  let room = place.querySelector(".room");
  if (!room) place.replaceChildren((room = h("div", { class: "room" })));
  room.style.setProperty("height", `${(list.total ?? 0) * LINE}px`);
  room.replaceChildren(...lines);
}

const kept = new Map(); // thumbnails stay elements, so that a redrawn list does not flicker
function thumb(id) {
  if (!id) return h("span", { class: "thumb" }, "·");
  if (!kept.has(id)) {
    if (kept.size > 400) kept.delete(kept.keys().next().value);
    const image = h("img", { src: picture(id, "small"), alt: "", decoding: "async", class: "pixels" });
    image.addEventListener("load", () => image.classList.toggle("pixels", image.naturalWidth < 120));
    image.addEventListener("error", () => image.replaceWith("?"));
    kept.set(id, h("span", { class: "thumb" }, image));
  }
  return kept.get(id);
}

function line(at, entry, isOpen) {
  const element = h("button", { class: "line", "aria-current": isOpen ? "true" : null, onclick: () => openAt(at) });
  element.style.setProperty("top", `${at * LINE}px`);
  if (!entry) {
    element.append(h("span", { class: "thumb" }), h("span", { class: "soft" }, "…"));
    return element;
  }
  const meta = [entry.number === null ? null : h("span", { class: "number" }, `#${count(entry.number)}`)];
  if (entry.state !== "paired" && entry.state) meta.push(h("span", { class: "pill" }, entry.state));
  if (entry.pairs) meta.push(h("span", {}, plural(entry.pairs, "pair")));
  if (entry.margin !== null) meta.push(h("span", { class: "number", title: "greatest margin" }, `↔ ${number(entry.margin, 2)}`));
  element.append(thumb(entry.image),
    h("span", {}, entry.text === null ? h("span", { class: "title soft" }, "image without a prompt") : text(entry.text, "span", "title text"),
      h("span", { class: "meta" }, meta)));
  return element;
}

export function openAt(at) {
  const entry = lineAt(at);
  if (!entry) return;
  list.at = at;
  go({ id: entry.id, view: "prompts" });
}

// One further (or back), from the keyboard; asks for the page where it is not there yet.
export async function step(by) {
  if (list.total === null || !list.total) return;
  const at = list.at < 0 ? 0 : Math.max(0, Math.min(list.total - 1, list.at + by));
  if (!lineAt(at)) await load(Math.floor(at / PAGE));
  openAt(at);
  const place = box(), top = at * LINE;
  if (top < place.scrollTop) place.scrollTop = top;
  else if (top + LINE > place.scrollTop + place.clientHeight) place.scrollTop = top + LINE - place.clientHeight;
}

export async function openFirst() {
  if (list.total && !address().id && matchMedia("(min-width: 761px)").matches) {
    if (!lineAt(0)) await load(0);
    const entry = lineAt(0);
    if (entry) { list.at = 0; go({ id: entry.id }, { replace: true }); }
  }
}

export const place = () => ({ at: list.at, total: list.total ?? 0 });
export function startList() {
  box().addEventListener("scroll", () => requestAnimationFrame(draw), { passive: true });
  addEventListener("resize", draw);
}
