// Renders /openapi.json as a page. Everything is set as text, so nothing of the document can run.
"use strict";

function element(name, text, ...children) {
  const made = document.createElement(name);
  if (text) made.textContent = text;
  made.append(...children);
  return made;
}

// A schema with its references resolved, except for circular ones.
function resolved(schema, all, seen = []) {
  if (Array.isArray(schema)) return schema.map((part) => resolved(part, all, seen));
  if (schema === null || typeof schema !== "object") return schema;
  if (schema.$ref) {
    const name = schema.$ref.split("/").pop();
    return seen.includes(name) ? { title: name } : resolved(all[name], all, [...seen, name]);
  }
  return Object.fromEntries(Object.entries(schema).map(([key, value]) => [key, resolved(value, all, seen)]));
}

function shape(title, schema, all) {
  return element("details", "", element("summary", `${title}: schema`), element("pre", JSON.stringify(resolved(schema, all), null, 2)));
}

const TOKENS = { adminToken: "$GATEWAY_ADMIN_TOKEN", teamKey: "$OPENAI_API_KEY" };

// A curl command with the document's examples.
function curl(method, path, server, spec) {
  const filled = path.replace(/\{(\w+)\}/g, (_, name) => spec.parameters.find((one) => one.name === name).example);
  const query = spec.parameters.filter((one) => one.in === "query" && one.example !== undefined)
    .map((one) => `${one.name}=${encodeURIComponent(one.example).replaceAll("%2C", ",")}`).join("&");
  const base = new URL(server, location.href).href.replace(/\/$/, "");
  const body = spec.requestBody?.content["application/json"].example;
  const verb = method === "get" || (method === "post" && body) ? "" : `-X ${method.toUpperCase()} `;
  const words = [`curl ${verb}"${base}${filled}${query && `?${query}`}"`, `-H "Authorization: Bearer ${TOKENS[Object.keys(spec.security[0])[0]]}"`];
  if (body) words.push('-H "Content-Type: application/json"', `-d '${JSON.stringify(body).replaceAll("'", "'\\''")}'`);
  return words.join(" \\\n  ");
}

function table(titles, rows) {
  const made = element("table", "", element("tr", "", ...titles.map((title) => element("th", title))));
  made.append(...rows.map((row) => element("tr", "", ...row.map((cell) => element("td", cell)))));
  return made;
}

function operation(method, path, server, spec, all) {
  const inner = element("div");
  inner.className = "inner";
  if (server) inner.append(element("h4", "Example"), element("pre", curl(method, path, server, spec)));
  if (spec.parameters.length) {
    inner.append(element("h4", "Parameters"));
    inner.append(table(["name", "where", "description"], spec.parameters.map((one) => [
      one.name, one.in + (one.required ? ", required" : ""), one.description || JSON.stringify(resolved(one.schema, all)),
    ])));
  }
  if (spec.requestBody) inner.append(shape("Body", spec.requestBody.content["application/json"].schema, all));
  const good = Object.keys(spec.responses).find((status) => status < "300");
  const answer = spec.responses[good].content;
  if (answer) inner.append(shape(`Answer ${good}`, answer["application/json"].schema, all));
  inner.append(element("h4", answer ? "Errors" : "Answers"), table(["status", "when"], Object.entries(spec.responses)
    .filter(([status]) => !answer || status >= "300").map(([status, one]) => [status, one.description])));
  const verb = element("span", method.toUpperCase());
  verb.className = "method";
  return element("details", "", element("summary", "", verb, ` ${path} · ${spec.summary}`), inner);
}

async function draw() {
  const spec = await (await fetch("openapi.json")).json();
  const all = spec.components.schemas;
  const groups = new Map();
  for (const [path, item] of [...Object.entries(spec.paths), ...Object.entries(spec.webhooks)])
    for (const [method, one] of Object.entries(item))
      if (one.responses) {
        const group = groups.get(one.tags[0]) || [];
        group.push(operation(method, path, item.servers?.[0].url, one, all));
        groups.set(one.tags[0], group);
      }
  document.getElementById("about").textContent = `Version ${spec.info.version}. ${spec.info.description}`;
  for (const [name, group] of groups)
    document.getElementById("operations").append(element("h2", name), ...group);
}

draw().catch(() => { document.getElementById("about").textContent = "The document could not be loaded."; });
