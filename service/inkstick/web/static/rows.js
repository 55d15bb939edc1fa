// Rows of a list of documents: filled from the API's answers, kept live. All text goes in as text.
import { byId, calmly, fill, getJson, said, words } from "./live.js";

const SVG = "http://www.w3.org/2000/svg";
const table = byId("documents");
export const body = table.tBodies[0];
const growing = table.dataset.live === "yes"; // the newest ones without a filter: new documents appear on top
const waiting = new Set();

function chip(word) {
  const [name, meaning] = words.flags[word] ?? [word, ""];
  const span = document.createElement("span");
  span.className = words.warn.includes(word) ? "flag warn" : "flag";
  span.title = meaning;
  span.textContent = name;
  return span;
}

function link(id, format) {
  const a = document.createElement("a");
  a.href = `/api/v1/documents/${id}/results/${format}`;
  a.download = "";
  a.textContent = format;
  return a;
}

function segment({ level, start, length }) {
  const rect = document.createElementNS(SVG, "rect");
  rect.setAttribute("class", `is-${level}`);
  rect.setAttribute("x", start);
  rect.setAttribute("width", length);
  rect.setAttribute("height", 1);
  return rect;
}

function colour(svg, strip) {
  svg.toggleAttribute("hidden", !strip);
  if (!strip) return;
  svg.setAttribute("viewBox", `0 0 ${strip.segments} 1`);
  const { read = 0, note = 0, warn = 0, failed = 0, waiting: unread = 0 } = strip.counts;
  svg.setAttribute("aria-label", fill(words.texts.strip, { read: read + note + warn, warn, failed, waiting: unread }));
  svg.replaceChildren(...strip.runs.map(segment));
}

function show(row, doc, strip) {
  const part = (selector) => row.querySelector(selector);
  row.dataset.id = doc.id;
  row.dataset.state = doc.state;
  part(".title").textContent = doc.name;
  part(".title").href = `/documents/${doc.id}`;
  part(".path").textContent = doc.path === doc.name ? "" : doc.path;
  part(".problem").textContent = doc.error ? `${said(doc.error.message)} ${said(doc.error.hint)}` : "";
  part(".pill").dataset.state = doc.state;
  part(".pill").textContent = words.states[doc.state] ?? doc.state;
  part(".count").textContent = doc.pages ? fill(words.texts.of, { done: doc.pages_done, of: doc.pages }) : "";
  const bar = part("progress");
  bar.max = doc.pages || 1;
  bar.value = doc.pages_done;
  bar.hidden = doc.state !== "reading";
  colour(part(".strip"), strip);
  part(".flags").replaceChildren(...doc.flags.map(chip));
  part(".formats").replaceChildren(...doc.formats.map((format) => link(doc.id, format)));
  if (!part("time")) part(".when").append(document.createElement("time"));
  part("time").dateTime = doc.received;
  part("time").textContent = doc.received.slice(0, 16).replace("T", " ");
  const box = part("input[type=checkbox]");
  if (box) { box.value = doc.id; box.nextElementSibling.textContent = fill(words.texts.choose, { name: doc.name }); }
}

const rowOf = (id) => body.querySelector(`tr[data-id="${CSS.escape(id)}"]`);

function insert() {
  const row = byId("row").content.firstElementChild.cloneNode(true);
  body.prepend(row);
  byId("empty").hidden = true;
  const bulk = byId("bulk");
  if (bulk) bulk.hidden = false;
  while (body.rows.length > 200) body.rows[body.rows.length - 1].remove();
  return row;
}

async function get(id) {
  try { return await getJson(`/api/v1/documents/${id}`); } catch { return null; } // deleted meanwhile
}

const refresh = calmly(300, async () => {
  const ids = [...waiting].slice(0, 20).filter((id) => { waiting.delete(id); return growing || rowOf(id); });
  if (ids.length) {
    const [strips, ...docs] = await Promise.all([
      getJson(`/api/v1/strips?${ids.map((id) => `id=${id}`).join("&")}`), ...ids.map(get),
    ]);
    docs.forEach((doc, n) => {
      if (doc) show(rowOf(doc.id) ?? insert(), doc, strips.strips[doc.id]);
      else rowOf(ids[n])?.remove();
    });
  }
  if (waiting.size) refresh();
});

// Something happened to this document: its row is brought up to date, soon.
export function touch(event) {
  if (!event.document) return;
  if (event.data?.state === "removed") { waiting.delete(event.document); rowOf(event.document)?.remove(); return; }
  waiting.add(event.document);
  refresh();
}

export const arrived = (id) => touch({ document: id });

function walk(step) {
  const links = [...body.querySelectorAll(".title")];
  const at = links.indexOf(document.activeElement);
  links[Math.min(Math.max(at + step, 0), links.length - 1)]?.focus();
}

// Keys outside of fields: / searches, j and k walk through the list; and those of the page.
export function keys(more = {}) {
  const actions = { "/": () => byId("q").focus(), j: () => walk(1), k: () => walk(-1), ...more };
  addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, select, textarea")) return;
    if (event.key in actions) { event.preventDefault(); actions[event.key](); }
  });
}
