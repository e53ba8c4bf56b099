/** The page: one search at a time, from a picture or from a hit, and what came of it. */

import { hitCard, thumbnailOf, titleOf } from "./hits.js";
import { Problem, keyNeeded, nothingGranted } from "./problems.js";
import * as service from "./service.js";

const page = Object.fromEntries([...document.querySelectorAll("[id]")].map((element) => [element.id, element]));

/** Searches of this visit, by their place in the browser's history: `{picture}` or `{hit}`, and `index`. */
const searches = [];
let indexes = [];
let current = null;
let cursor = null;
let running = new AbortController();
let retry = () => {};

/** Do some work that a newer one replaces, and show how it ends. */
async function attempt(work) {
  retry = () => attempt(work);
  running.abort();
  running = new AbortController();
  const { signal } = running;
  showWorking(true);
  try {
    await work(signal);
    if (!signal.aborted) page["key-form"].hidden = true;
  } catch (error) {
    if (!signal.aborted) showProblem(error);
  } finally {
    if (!signal.aborted) showWorking(false);
  }
}

function showWorking(working) {
  page.results.ariaBusy = String(working);
  document.body.classList.toggle("working", working);
  page.more.disabled = working;
  page["forget-key"].hidden = !service.hasKey();
  if (!working) return;
  page.problem.hidden = true;
  page.status.textContent = current ? "Searching…" : "Loading…";
}

function showProblem(error) {
  page.status.textContent = "";
  if (!(error instanceof Problem)) console.error(error);
  const problem = error instanceof Problem ? error : new Problem({ detail: "The page met an unexpected error." });
  if (problem.status === 401) askForKey();
  page["problem-title"].textContent = problem.title;
  page["problem-detail"].textContent = problem.detail;
  page["problem-remedy"].textContent = problem.remedy;
  page.retry.hidden = !problem.passes;
  page.problem.hidden = false;
  page.problem.scrollIntoView({ block: "nearest" });
}

function askForKey() {
  service.forgetKey();
  page["forget-key"].hidden = true;
  page["key-form"].hidden = false;
  page.key.focus();
}

async function loadIndexes(signal) {
  if (indexes.length) return;
  const found = await service.listIndexes(signal);
  if (!found.length) throw service.hasKey() ? nothingGranted() : keyNeeded();
  indexes = found;
  page.index.replaceChildren(...found.map(({ name }) => new Option(name)));
  page["index-choice"].hidden = found.length < 2;
}

async function welcome(signal) {
  await loadIndexes(signal);
  const images = indexes.reduce((sum, index) => sum + index.images, 0);
  page.status.textContent = images ? `${images.toLocaleString("en")} pictures can be searched.` : emptiness();
}

function emptiness() {
  return "There are no pictures yet: add some with `visualindex ingest`.";
}

/** Start a search and give it a place in the browser's history. */
function start(search) {
  searches.push(search);
  history.pushState({ at: searches.length - 1 }, "");
  run(search);
}

function run(search) {
  current = search;
  clearHits();
  showQuery(search);
  attempt(async (signal) => {
    await loadIndexes(signal);
    search.index ??= page.index.value;
    page.index.value = search.index;
    const answer = search.picture
      ? await service.searchPicture(search.picture, search.index, signal)
      : await service.searchLike(search.hit.image_id, search.index, signal);
    showAnswer(answer);
    page.heading.focus({ preventScroll: true });
  });
}

function showMore() {
  attempt(async (signal) => {
    const seen = page.hits.children.length;
    showAnswer(await service.searchOn(cursor, current.index, signal));
    page.hits.children[seen]?.querySelector("button").focus();
  });
}

/** Back to the page as it opens. */
function reset() {
  current = null;
  clearHits();
  showPicture(null);
  page.invitation.textContent = "Drop a picture here, paste one, or choose a file.";
  attempt(welcome);
}

function clearHits() {
  cursor = null;
  page.hits.replaceChildren();
  page.results.hidden = true;
  page.more.hidden = true;
}

function showQuery({ picture, hit }) {
  window.scrollTo(0, 0);
  page.invitation.textContent = "Drop, paste or choose another picture.";
  page.heading.textContent = hit ? `Like ${titleOf(hit)}` : "Like your picture";
  if (picture) showPicture(URL.createObjectURL(picture));
  else showPicture(null, thumbnailOf(hit));
}

function showPicture(blobAddress, thumbnail) {
  const image = page["query-picture"];
  if (image.src.startsWith("blob:")) URL.revokeObjectURL(image.src);
  image.hidden = !blobAddress && !thumbnail;
  image.removeAttribute("src");
  if (blobAddress) image.src = blobAddress;
  else if (thumbnail) service.showThumbnail(image, thumbnail);
}

function showAnswer(answer) {
  cursor = answer.next_cursor;
  page.results.hidden = false;
  page.hits.append(...answer.hits.map((hit) => hitCard(hit, likeHit)));
  page.more.hidden = !cursor;
  const missing = shortcomings(answer);
  page.notice.hidden = !missing;
  page.notice.textContent = missing;
  page.status.textContent = summary(answer);
}

function summary(answer) {
  const shown = page.hits.children.length;
  if (shown) return `${shown} ${shown === 1 ? "item" : "items"}, best first · ${Math.round(answer.took_ms)} ms`;
  return indexes.find(({ name }) => name === answer.index)?.images ? "Nothing was found." : emptiness();
}

function shortcomings(answer) {
  const parts = [];
  if (!answer.complete) parts.push("A part of the index did not answer in time: items may be missing.");
  if (answer.degraded.length) parts.push(`Left out for the moment: ${answer.degraded.join(", ")}.`);
  return parts.join(" ");
}

function likeHit(hit) {
  start({ hit, index: current.index });
}

function likeFile(file) {
  if (file) start({ picture: file });
}

/** Search another index for the same picture; a hit belongs to its own index, so that search ends. */
function changeIndex() {
  if (current?.picture) start({ picture: current.picture, index: page.index.value });
  else if (current) reset();
}

function useKey(event) {
  event.preventDefault();
  service.keepKey(page.key.value.trim());
  page.key.value = "";
  indexes = [];
  retry();
}

function leaveKey() {
  service.forgetKey();
  indexes = [];
  searches.length = 0;
  reset();
}

function dropped(event) {
  event.preventDefault();
  document.body.classList.remove("dragging");
  likeFile(event.dataTransfer.files[0]);
}

function pasted(event) {
  const file = [...event.clipboardData.files].find(({ type }) => type.startsWith("image/"));
  if (!file) return;
  event.preventDefault();
  likeFile(file);
}

function chosen() {
  likeFile(page.file.files[0]);
  page.file.value = "";
}

function travelled({ state }) {
  const search = searches[state?.at];
  if (search) run(search);
  else reset();
}

page.file.addEventListener("change", chosen);
page.index.addEventListener("change", changeIndex);
page.more.addEventListener("click", showMore);
page.retry.addEventListener("click", () => retry());
page["key-form"].addEventListener("submit", useKey);
page["forget-key"].addEventListener("click", leaveKey);
page["query-picture"].addEventListener("error", () => (page["query-picture"].hidden = true));
document.addEventListener("paste", pasted);
document.addEventListener("drop", dropped);
document.addEventListener("dragover", (event) => {
  event.preventDefault();
  document.body.classList.add("dragging");
});
document.addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) document.body.classList.remove("dragging");
});
window.addEventListener("popstate", travelled);

reset();
