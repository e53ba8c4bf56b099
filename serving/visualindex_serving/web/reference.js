/** The reference of the API: every call and schema of /openapi.json. All text goes in as text, never as markup. */

const METHODS = ["get", "post", "put", "patch", "delete"];

/** An element with its children, which are elements or text. */
function make(tag, properties, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

/** Text whose parts between backticks are code. */
function prose(text = "") {
  return text.split("`").map((part, at) => (at % 2 ? make("code", {}, part) : part));
}

function table(caption, heads, rows) {
  if (rows.length === 0) return [];
  const head = make("tr", {}, ...heads.map((text) => make("th", { scope: "col" }, text)));
  const body = rows.map((cells) => make("tr", {}, ...cells.map((cell) => make("td", {}, ...cell))));
  const whole = make("table", {}, make("thead", {}, head), make("tbody", {}, ...body));
  const frame = make("div", { className: "scrolling", tabIndex: 0, role: "group", ariaLabel: caption }, whole);
  return [make("h3", {}, caption), frame];
}

function schemaId(name) {
  return `schema-${name}`;
}

/** A schema in a few words, with links to those it names. */
function kindOf(schema = {}) {
  if (schema.$ref) {
    const name = schema.$ref.split("/").pop();
    return [make("a", { href: `#${schemaId(name)}` }, name)];
  }
  const choices = schema.anyOf ?? schema.oneOf ?? schema.allOf;
  if (choices) return choices.flatMap((one, at) => (at ? [" or ", ...kindOf(one)] : kindOf(one)));
  if (schema.enum) return [schema.enum.map((value) => JSON.stringify(value)).join(" or ")];
  if ("const" in schema) return [JSON.stringify(schema.const)];
  if (schema.type === "array") return ["list of ", ...kindOf(schema.items)];
  return [[schema.type ?? "any", schema.format].filter(Boolean).join(", "), bounds(schema)];
}

function bounds({ minimum, maximum, maxLength, default: standard }) {
  const parts = [];
  if (minimum !== undefined) parts.push(`at least ${minimum}`);
  if (maximum !== undefined) parts.push(`at most ${maximum}`);
  if (maxLength !== undefined) parts.push(`at most ${maxLength} characters`);
  if (standard !== undefined && standard !== null) parts.push(`default ${JSON.stringify(standard)}`);
  return parts.length ? `; ${parts.join("; ")}` : "";
}

function fields(schema) {
  const required = new Set(schema.required);
  return Object.entries(schema.properties ?? {}).map(([name, field]) => [
    [make("code", {}, name), required.has(name) ? " (required)" : ""],
    kindOf(field),
    prose(field.description),
  ]);
}

function parameters(call) {
  return (call.parameters ?? []).map((one) => [
    [make("code", {}, one.name), ` in ${one.in}`, one.required ? " (required)" : ""],
    kindOf(one.schema),
    prose(one.description),
  ]);
}

function bodies(call) {
  return Object.entries(call.requestBody?.content ?? {}).flatMap(([media, { schema, examples = {} }]) => [
    make("h3", {}, "Body: ", make("code", {}, media)),
    make("p", {}, ...(schema.properties ? prose(schema.description) : [...kindOf(schema), ". ", ...prose(schema.description)])),
    ...table(`Parts of ${media}`, ["Part", "Type", "Meaning"], fields(schema)),
    ...Object.entries(examples).flatMap(([name, { value }]) => [make("p", {}, `Example: ${name}`), sample(value)]),
  ]);
}

function sample(value) {
  return make("pre", {}, typeof value === "string" ? value : JSON.stringify(value, null, 2));
}

function answers(call) {
  return Object.entries(call.responses).map(([status, { description, content = {} }]) => [
    [status],
    prose(description),
    Object.entries(content).flatMap(([media, { schema }]) => [make("code", {}, media), " ", ...kindOf(schema)]),
  ]);
}

function callArticle({ id, title, call }) {
  const lines = (call.description ?? call.summary ?? "").split(/\n\n+/);
  return make(
    "article",
    { id, className: "box" },
    make("h2", {}, make("code", {}, title)),
    ...lines.map((line) => make("p", {}, ...prose(line))),
    ...table("Parameters", ["Name", "Type", "Meaning"], parameters(call)),
    ...bodies(call),
    ...table("Answers", ["Status", "Meaning", "Content"], answers(call)),
  );
}

function schemaArticle([name, schema]) {
  return make(
    "article",
    { id: schemaId(name), className: "box" },
    make("h2", {}, name),
    make("p", {}, ...prose(schema.description)),
    ...(schema.properties ? [] : [make("p", {}, ...kindOf(schema))]),
    ...table(`Fields of ${name}`, ["Field", "Type", "Meaning"], fields(schema)),
    ...(schema.examples ?? []).map(sample),
  );
}

function callsOf(api) {
  return Object.entries(api.paths).flatMap(([path, item]) =>
    METHODS.filter((method) => method in item).map((method) => ({
      id: item[method].operationId,
      title: `${method.toUpperCase()} ${path}`,
      call: item[method],
    })),
  );
}

function show(api) {
  const calls = callsOf(api);
  const links = calls.map(({ id, title }) => make("li", {}, make("a", { href: `#${id}` }, title)));
  const contents = document.getElementById("contents");
  contents.append(make("ul", {}, ...links));
  contents.hidden = false;
  document.getElementById("calls").append(...calls.map(callArticle));
  document.getElementById("schemas").append(...Object.entries(api.components.schemas).map(schemaArticle));
  document.getElementById("status").textContent = `Version ${api.info.version}, ${calls.length} calls`;
  document.getElementById(location.hash.slice(1))?.scrollIntoView();
}

try {
  const response = await fetch("openapi.json");
  if (!response.ok) throw new Error(`HTTP ${response.status}`);
  show(await response.json());
} catch (error) {
  document.getElementById("status").textContent = `The reference cannot be read: ${error.message}. Reload the page.`;
}
