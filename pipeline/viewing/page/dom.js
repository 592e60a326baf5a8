// Elements and texts. Nothing on this page is ever parsed as HTML: texts become text nodes, and what would steer a
// reader's eye (control characters, directions, invisible ones) is shown by its name instead of being obeyed.

export function h(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name.startsWith("--")) element.style.setProperty(name, String(value));
    else if (name === "class") element.className = value;
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children.flat(9).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

export const find = (selector) => document.querySelector(selector);

// C0 (but newline), DEL, C1, soft hyphen, zero width, direction marks, line separators, tags, lone surrogates
const STEERING = /[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u00ad\u034f\u061c\u115f\u1160\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]|[\udb40][\udc00-\udc7f]|[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/g;
const NAMES = { 9: "tab", 13: "CR", 27: "ESC", 0x200b: "ZWSP", 0x200c: "ZWNJ", 0x200d: "ZWJ", 0x200e: "LRM", 0x200f: "RLM",
  0x202a: "LRE", 0x202b: "RLE", 0x202c: "PDF", 0x202d: "LRO", 0x202e: "RLO", 0x2066: "LRI", 0x2067: "RLI", 0x2068: "FSI", 0x2069: "PDI" };
// joiners hold emoji and many scripts together: they are let through between letters of those, and shown elsewhere
const JOINS = /[\p{Extended_Pictographic}\p{Script=Arabic}\p{Script=Devanagari}\p{Script=Bengali}\p{Script=Malayalam}\ufe0f\u{1f3fb}-\u{1f3ff}]/u;

export function pieces(text) {
  const found = [];
  let last = 0;
  for (const match of text.matchAll(STEERING)) {
    const code = match[0].codePointAt(0);
    if ((code === 0x200c || code === 0x200d) && JOINS.test(text.slice(Math.max(0, match.index - 2), match.index))) continue;
    if (match.index > last) found.push(document.createTextNode(text.slice(last, match.index)));
    const name = "U+" + code.toString(16).toUpperCase().padStart(4, "0");
    found.push(h("span", { class: "control", title: name }, NAMES[code] ?? name));
    last = match.index + match[0].length;
  }
  if (last < text.length) found.push(document.createTextNode(text.slice(last)));
  return found;
}

export const text = (value, tag = "bdi", style = "text") => h(tag, { class: style, dir: "auto" }, pieces(String(value ?? "")));

export function number(value, digits = 3) {
  return value === null || value === undefined ? "–" : Number(value).toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });
}
export const count = (value) => Number(value ?? 0).toLocaleString("en");
export const plain = (value) => (value === null || value === undefined ? "–" : String(Number(Number(value).toPrecision(6))));
export const plural = (value, word) => `${count(value)} ${word}${value === 1 ? "" : "s"}`;

export const bar = (share, style = "") => h("div", { class: `bar ${style}` }, h("i", { "--share": Math.max(0, Math.min(1, share || 0)) }));

let fading;
export function toast(message) {
  const box = find("#toast");
  box.replaceChildren(...pieces(message));
  box.classList.add("shown");
  clearTimeout(fading);
  fading = setTimeout(() => box.classList.remove("shown"), 2600);
}

export function empty(title, more = "") {
  return h("div", { class: "empty" }, h("b", {}, title), more);
}

// A list longer than a screen: pages of `size`, with the two buttons that turn them.
export function pager(start, size, total, go) {
  if (total <= size) return null;
  return h("div", { class: "pages" },
    h("button", { disabled: start === 0, onclick: () => go(Math.max(0, start - size)) }, "Earlier"),
    h("span", { class: "soft number" }, `${count(start + 1)} to ${count(Math.min(total, start + size))} of ${count(total)}`),
    h("button", { disabled: start + size >= total, onclick: () => go(start + size) }, "More"));
}
