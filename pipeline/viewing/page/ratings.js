// What annotators said of an image, and the order that their preferences give.

import { h, number, text } from "./dom.js";

export function ratings(image) {
  if (!image.ratings.length) return null;
  const aspects = [...new Set(image.ratings.map((row) => row.aspect))];
  const names = [...new Set(image.ratings.map((row) => row.annotator))];
  const mean = (aspect, name) => {
    const known = image.ratings.filter((row) => row.aspect === aspect && row.annotator === name && row.rating !== null).map((row) => row.rating);
    return known.length ? known.reduce((a, b) => a + b) / known.length : null;
  };
  const told = image.ratings.filter((row) => row.reason);
  return [
    h("table", { class: "ratings" },
      names.length > 1 ? h("thead", {}, h("tr", {}, h("th"), names.map((name) => h("th", { class: "number" }, text(name, "span"))))) : null,
      h("tbody", {}, aspects.map((aspect) => h("tr", {}, h("td", {}, text(aspect.replaceAll("_", " "), "span")),
        names.map((name) => h("td", { class: "number" }, stars(mean(aspect, name)))))))),
    told.length ? h("details", { class: "reasons" }, h("summary", {}, "Rationale"),
      told.map((row) => h("p", {}, h("b", {}, text(row.aspect.replaceAll("_", " "), "span"), row.rating === null ? " abstained" : ` ${row.rating}`), row.presentation ? h("span", { class: "soft" }, " seen in another order") : null, names.length > 1 ? [" ", text(row.annotator, "span")] : null, h("br"), text(row.reason)))) : null,
  ];
}

function stars(value) {
  if (value === null) return "–";
  const full = Math.round(value);
  return h("span", { class: "rating", title: number(value, 2) }, h("span", { class: "stars", "aria-hidden": "true" }, "●".repeat(full), h("i", {}, "●".repeat(5 - full))), " ", h("b", {}, number(value, Number.isInteger(value) ? 0 : 1)));
}

export function orders(entry) {
  const names = Object.keys(entry.orders);
  if (!names.length) return "";
  const place = new Map(entry.images.map((image, at) => [image.id, at + 1]));
  return h("details", { class: "orders", open: true }, h("summary", { class: "soft" }, "Order by preference"),
    h("table", { class: "ratings" }, names.map((name) => h("tr", {}, h("td", {}, text(name.replaceAll("_", " "), "span")),
      h("td", {}, entry.orders[name].map((group) => group.map((id) => place.get(id) ?? "?").join(" = ")).join("  >  "))))));
}
