/** One hit as a card. All text goes in as text: what a collection says is never markup. */

import { showThumbnail } from "./service.js";

const SHOWN_FIELDS = 2;

/** The name people know an item by. */
export function titleOf(hit) {
  const { name, title } = hit.metadata ?? {};
  return [name, title, hit.key].find((text) => typeof text === "string" && text !== "") ?? hit.image_id;
}

/** The path of the thumbnail of middle size, undefined without thumbnails. */
export function thumbnailOf(hit) {
  const sizes = Object.keys(hit.thumbnails).sort((a, b) => a - b);
  return hit.thumbnails[sizes[Math.floor(sizes.length / 2)]];
}

/** A list item with the hit's picture, what is known of it, and a button that calls `onMore(hit)`. */
export function hitCard(hit, onMore) {
  const title = titleOf(hit);
  const card = make("li", { className: "hit" });
  card.append(
    picture(hit),
    heading(hit, title),
    standing(hit),
    ...fields(hit, title),
    moreButton(hit, title, onMore),
  );
  return card;
}

function picture(hit) {
  const frame = make("div", { className: "frame" });
  const path = thumbnailOf(hit);
  if (path === undefined) return frame;
  const image = make("img", { alt: "", loading: "lazy", decoding: "async" });
  image.addEventListener("error", () => image.replaceWith("No picture"), { once: true });
  showThumbnail(image, path);
  frame.append(image);
  return frame;
}

function heading(hit, title) {
  const element = make("h3", {});
  element.append(isWebAddress(hit.url) ? make("a", { href: hit.url, rel: "noopener noreferrer" }, title) : title);
  return element;
}

function standing(hit) {
  const score = make("span", { className: "score" }, make("span", { className: "unseen" }, "Similarity "));
  score.append(hit.score.toFixed(3));
  return make("p", { className: "standing" }, make("span", { className: "category" }, hit.category ?? ""), score);
}

/** Addresses come from whoever wrote the item: only http(s) becomes a link, never `javascript:`. */
function isWebAddress(url) {
  return typeof url === "string" && URL.canParse(url) && ["http:", "https:"].includes(new URL(url).protocol);
}

function fields(hit, title) {
  const all = Object.entries(hit.metadata ?? {}).filter(([, value]) => asText(value) !== "");
  const first = all.filter(([, value]) => value !== title).slice(0, SHOWN_FIELDS);
  const details = make("details", {}, make("summary", { ariaLabel: `Details of ${title}` }, "Details"));
  details.append(definitions([...all, ["key", hit.key], ["id", hit.image_id]].filter(([, value]) => value != null)));
  return first.length ? [definitions(first), details] : [details];
}

function definitions(entries) {
  const list = make("dl", {});
  for (const [name, value] of entries) {
    const text = asText(value);
    list.append(make("div", {}, make("dt", {}, name), make("dd", { title: text }, text)));
  }
  return list;
}

function asText(value) {
  if (value === null) return "";
  if (Array.isArray(value)) return value.map(asText).join(", ");
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}

function moreButton(hit, title, onMore) {
  const button = make("button", { type: "button", ariaLabel: `More like this: ${title}` }, "More like this");
  button.addEventListener("click", () => onMore(hit));
  return button;
}

function make(tag, properties, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}
