/** The service's HTTP API. The API key lives in sessionStorage and leaves only as an Authorization header. */

import { problemOf, unreachable } from "./problems.js";

const KEY = "visualindex-key";
const PAGE = 24;

export const hasKey = () => sessionStorage.getItem(KEY) !== null;
export const keepKey = (key) => sessionStorage.setItem(KEY, key);
export const forgetKey = () => sessionStorage.removeItem(KEY);

/** The indexes this visitor may search. */
export async function listIndexes(signal) {
  return (await call("api/indexes", { signal })).json();
}

/** The first page of what looks like a picture (a Blob). */
export async function searchPicture(picture, index, signal) {
  const body = new FormData();
  body.append("image", picture, picture.name ?? "picture");
  body.append("request", JSON.stringify({ index, limit: PAGE }));
  return (await call("api/search", { method: "POST", body, signal })).json();
}

/** The first page of what looks like an indexed image. */
export function searchLike(imageId, index, signal) {
  return searchJson({ index, query: { image_id: imageId }, limit: PAGE }, signal);
}

/** The page after the one that gave `cursor`. */
export function searchOn(cursor, index, signal) {
  return searchJson({ index, cursor, limit: PAGE }, signal);
}

async function searchJson(request, signal) {
  const headers = { "Content-Type": "application/json" };
  return (await call("api/search", { method: "POST", headers, body: JSON.stringify(request), signal })).json();
}

/** Show a thumbnail. With a key it is fetched, because an image's own request cannot carry the header. */
export async function showThumbnail(image, path) {
  if (!hasKey()) {
    image.src = path;
    return;
  }
  try {
    const picture = URL.createObjectURL(await (await call(path)).blob());
    const release = () => URL.revokeObjectURL(picture);
    image.addEventListener("load", release, { once: true });
    image.addEventListener("error", release, { once: true });
    image.src = picture;
  } catch {
    image.dispatchEvent(new Event("error"));
  }
}

async function call(path, { headers = {}, ...options } = {}) {
  const key = sessionStorage.getItem(KEY);
  const authorization = key === null ? {} : { Authorization: `Bearer ${key}` };
  const response = await answer(path, { ...options, headers: { ...headers, ...authorization } });
  if (!response.ok) throw await problemOf(response);
  return response;
}

async function answer(path, options) {
  try {
    return await fetch(path, options);
  } catch (error) {
    throw error.name === "AbortError" ? error : unreachable();
  }
}
