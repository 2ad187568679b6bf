// openapi.json -> a page of its own, since the usual one loads from another host.
const element = serElement; // of static/timeline.js

const api = await (await fetch("openapi.json")).json();
const rows = (pairs) =>
  element("table", {}, ...pairs.map(([name, text]) =>
    element("tr", {}, element("td", {}, element("code", {}, name)), element("td", {}, text))));

function parameter(one) {
  const schema = one.schema.anyOf?.[0] ?? one.schema;
  const limits = schema.minimum === undefined ? "" : ` ${schema.minimum} to ${schema.maximum};`;
  const usual = one.schema.default === undefined ? "" : ` ${one.schema.default} where not given.`;
  return [`?${one.name}`, `${one.description ?? one.schema.description ?? ""}${limits}${usual}`];
}

function route(path, verb, told) {
  const body = Object.keys(told.requestBody?.content ?? {});
  const answers = Object.entries(told.responses).map(([code, one]) => [code, one.description]);
  return element(
    "article",
    { class: "panel" },
    element("h2", {}, element("span", { class: "verb" }, verb.toUpperCase()), path),
    element("p", {}, told.description ?? ""),
    ...(body.length ? [element("p", { class: "fine" }, `Body: ${body.join(", ")}`)] : []),
    rows([...(told.parameters ?? []).map(parameter), ...answers]),
  );
}

document.getElementById("about").textContent = api.info.summary;
const here = new URL(".", location).href; // behind a proxy, the server may be in a folder of its host
document.getElementById("example").textContent =
  `curl -F file=@recording.wav ${here}v1/predict\n` +
  `curl -H 'Content-Type: audio/flac' --data-binary @recording.flac '${here}v1/analyze?hop=0.5'`;
document.getElementById("routes").append(
  ...Object.entries(api.paths).flatMap(([path, verbs]) =>
    Object.entries(verbs).map(([verb, told]) => route(path, verb, told))),
);
