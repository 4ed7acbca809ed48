// Draws /openapi.json as a page. Everything is set as text: nothing of the document is run.
"use strict";

function element(name, text, ...children) {
  const made = document.createElement(name);
  if (text) made.textContent = text;
  made.append(...children);
  return made;
}

// A schema with its references put in their places, as far as they are no circle.
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
  return [element("h4", title), element("pre", JSON.stringify(resolved(schema, all), null, 2))];
}

function table(titles, rows) {
  const made = element("table", "", element("tr", "", ...titles.map((title) => element("th", title))));
  made.append(...rows.map((row) => element("tr", "", ...row.map((cell) => element("td", cell)))));
  return made;
}

function operation(method, path, told, all) {
  const inner = element("div");
  inner.className = "inner";
  if (told.parameters.length) {
    inner.append(element("h4", "Parameters"));
    inner.append(table(["name", "where", "what"], told.parameters.map((one) => [
      one.name, one.in + (one.required ? ", required" : ""), one.description || JSON.stringify(resolved(one.schema, all)),
    ])));
  }
  if (told.requestBody) inner.append(...shape("Body", told.requestBody.content["application/json"].schema, all));
  const good = Object.keys(told.responses).find((status) => status < "300");
  inner.append(...shape(`Answer ${good}`, told.responses[good].content["application/json"].schema, all));
  inner.append(element("h4", "Errors"), table(["status", "when"], Object.entries(told.responses)
    .filter(([status]) => status >= "300").map(([status, one]) => [status, one.description])));
  const verb = element("span", method.toUpperCase());
  verb.className = "method";
  return element("details", "", element("summary", "", verb, ` ${path} · ${told.summary}`), inner);
}

async function draw() {
  const told = await (await fetch("/openapi.json")).json();
  const all = told.components.schemas;
  const groups = new Map();
  for (const [path, item] of Object.entries(told.paths))
    for (const [method, one] of Object.entries(item))
      if (one.responses) {
        const group = groups.get(one.tags[0]) || [];
        group.push(operation(method, path, one, all));
        groups.set(one.tags[0], group);
      }
  document.getElementById("about").textContent = `Version ${told.info.version}. ${told.info.description}`;
  for (const [name, group] of groups)
    document.getElementById("operations").append(element("h2", name), ...group);
}

draw().catch(() => { document.getElementById("about").textContent = "The document could not be read."; });
