// Rows of a list of documents: filled from the API's answers, kept live. All text goes in as text.
import { byId, calmly, fill, getJson, said, words } from "./live.js";

const MOST = 200; // rows
const SVG = "http://www.w3.org/2000/svg";
const table = byId("documents");
export const body = table.tBodies[0];
const growing = table.dataset.live === "yes"; // the newest ones without a filter: new documents appear on top
const waiting = new Set();
const coming = new Set(); // asked for just now
let oldest = table.dataset.more === "yes" ? Number(body.rows[body.rows.length - 1].dataset.seq) : 0; // those before have no row

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
  part("time").textContent = `${doc.received.slice(0, 16).replace("T", " ")} UTC`;
  const box = part("input[type=checkbox]");
  if (box) { box.value = doc.id; box.nextElementSibling.textContent = fill(words.texts.choose, { name: doc.name }); }
}

const rowOf = (id) => body.querySelector(`tr[data-id="${CSS.escape(id)}"]`);

// A row for a document that has none, at its place.
function insert(doc) {
  if (doc.seq < oldest) return null;
  const row = byId("row").content.firstElementChild.cloneNode(true);
  row.dataset.seq = doc.seq;
  body.insertBefore(row, [...body.rows].find((other) => Number(other.dataset.seq) < doc.seq) ?? null);
  const bulk = byId("bulk");
  if (bulk) bulk.hidden = false;
  while (body.rows.length > MOST) {
    body.rows[body.rows.length - 1].remove();
    oldest = Number(body.rows[body.rows.length - 1].dataset.seq);
  }
  return row;
}

function remove(id) {
  rowOf(id)?.remove();
  changed();
}

function changed() {
  byId("empty").hidden = body.rows.length > 0;
  body.dispatchEvent(new Event("change")); // how many are chosen
}

async function get(id) {
  try { return await getJson(`/api/v1/documents/${id}`); } catch (error) {
    if (error.status === 404) return null; // deleted meanwhile
    throw error;
  }
}

async function renew(ids) {
  const [strips, ...docs] = await Promise.all([
    getJson(`/api/v1/strips?${ids.map((id) => `id=${id}`).join("&")}`), ...ids.map(get),
  ]);
  docs.forEach((doc, n) => {
    if (!coming.has(ids[n])) return; // deleted a moment ago
    const row = rowOf(ids[n]) ?? (doc && insert(doc));
    if (!doc) row?.remove();
    else if (row) show(row, doc, strips.strips[doc.id]);
  });
  changed();
}

// Of thousands that arrive at once only the newest get a row: the others are not asked for.
function leaveOut() {
  if (waiting.size <= MOST) return;
  const unknown = [...waiting].filter((id) => !rowOf(id));
  for (const id of unknown.slice(0, -MOST)) waiting.delete(id);
}

const refresh = calmly(300, async () => {
  leaveOut();
  const ids = [...waiting].slice(0, 20);
  for (const id of ids) { waiting.delete(id); coming.add(id); }
  try {
    if (ids.length) await renew(ids);
  } catch (error) { // no answer now: what the rows say is old, and is asked for again
    for (const id of ids) waiting.add(id);
    setTimeout(refresh, 2000);
    throw error;
  } finally { coming.clear(); }
  if (waiting.size) refresh();
});

// Something happened to this document: its row is brought up to date, soon.
export function touch(event) {
  const id = event.document;
  if (!id) return;
  if (event.data?.state === "removed") { waiting.delete(id); coming.delete(id); remove(id); return; }
  const shown = rowOf(id) || waiting.has(id) || coming.has(id) || (growing && event.data?.state === "queued");
  if (!shown) return; // an older one
  waiting.add(id);
  refresh();
}

export const arrived = (id) => touch({ document: id, data: { state: "queued" } });

function walk(step) {
  const links = [...body.querySelectorAll(".title")];
  const at = links.indexOf(document.activeElement);
  links[Math.min(Math.max(at + step, 0), links.length - 1)]?.focus();
}

// Keys outside of fields: / searches, j and k walk through the list; and those of the page.
export function keys(more = {}) {
  const actions = { "/": () => byId("q").focus(), j: () => walk(1), k: () => walk(-1), ...more };
  addEventListener("keydown", (event) => {
    if (localStorage.getItem("inkstick-keys") === "off") return; // chosen on a document's page
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, select, textarea")) return;
    if (event.key in actions) { event.preventDefault(); actions[event.key](); }
  });
}
