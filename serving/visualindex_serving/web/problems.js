/** What went wrong, and what a visitor of the page can do about it. */

const REMEDIES = {
  "invalid-image": "The file is damaged or no picture. Open it in an image viewer and save it anew, or choose another.",
  "image-too-large": "Choose a smaller picture, or scale this one down.",
  "request-too-large": "Choose a smaller picture, or scale this one down.",
  "decode-timeout": "Save the picture as a plain JPEG or PNG, or choose a smaller one.",
  "forbidden": "Forget this API key and use one that may search here.",
  "index-not-found": "Reload the page to see which indexes there are.",
  "image-not-found": "The picture was deleted in the meantime. Search with another.",
  "overloaded": "Many people are searching. Try again in a moment.",
  "unavailable": "A part of the service is restarting. Try again in a moment.",
  "deadline-exceeded": "The service was too busy to answer in time. Try again in a moment.",
  "unreachable": "Check your connection, then try again.",
};

/** An RFC 9457 problem document as an error; `slug` is the last part of its type. */
export class Problem extends Error {
  constructor({ type = "", title = "The search failed", status = 0, detail = "" }, retryAfter = null) {
    super(detail || title);
    this.slug = type.split("/").pop();
    this.title = title;
    this.status = status;
    this.detail = detail;
    this.retryAfter = retryAfter;
  }

  /** What to do, as one sentence; empty when the detail says all there is. */
  get remedy() {
    if (this.retryAfter) return `Try again in ${this.retryAfter} s.`;
    return REMEDIES[this.slug] ?? "";
  }

  /** Whether the same request may succeed later. */
  get passes() {
    return this.status === 0 || this.status === 412 || this.status >= 500;
  }
}

/** The problem an unsuccessful response carries. */
export async function problemOf(response) {
  const fallback = { title: "The service did not answer as expected", detail: `It answered HTTP ${response.status}.` };
  const isProblem = response.headers.get("content-type")?.startsWith("application/problem+json");
  const document = isProblem ? await response.json() : fallback;
  return new Problem({ ...document, status: response.status }, response.headers.get("retry-after"));
}

/** The problem of a request that got no answer. */
export function unreachable() {
  return new Problem({
    type: "unreachable",
    title: "The service cannot be reached",
    detail: "The request got no answer.",
  });
}

/** The problem of a service whose indexes all need a key. */
export function keyNeeded() {
  return new Problem({
    type: "unauthenticated",
    title: "An API key is needed",
    status: 401,
    detail: "No index can be searched without a key.",
  });
}

/** The problem of a key that opens no index. */
export function nothingGranted() {
  return new Problem({
    type: "forbidden",
    title: "The API key does not allow this",
    status: 403,
    detail: "The key grants no index of this service.",
  });
}
