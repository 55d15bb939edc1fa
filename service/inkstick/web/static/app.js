// The list of documents, live; uploads with progress; keys: / searches, u chooses files, j and k walk through the list.
import { byId, calmly, follow, getJson, words } from "./live.js";

const table = byId("documents");
const body = table.tBodies[0];
const growing = table.dataset.live === "yes"; // the newest page without a filter: new documents appear on top
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

function show(row, doc) {
  const part = (selector) => row.querySelector(selector);
  row.dataset.id = doc.id;
  row.dataset.state = doc.state;
  part(".title").textContent = doc.name;
  part(".title").href = `/documents/${doc.id}`;
  part(".path").textContent = doc.path === doc.name ? "" : doc.path;
  part(".problem").textContent = doc.error ? `${doc.error.message} ${doc.error.hint}` : "";
  part(".pill").dataset.state = doc.state;
  part(".pill").textContent = words.states[doc.state] ?? doc.state;
  part(".count").textContent = doc.pages ? `${doc.pages_done} of ${doc.pages}` : "";
  const bar = part("progress");
  bar.max = doc.pages || 1;
  bar.value = doc.pages_done;
  bar.hidden = doc.state !== "reading";
  part(".flags").replaceChildren(...doc.flags.map(chip));
  part(".formats").replaceChildren(...doc.formats.map((format) => link(doc.id, format)));
  if (!part("time")) part(".when").append(document.createElement("time"));
  part("time").dateTime = doc.received;
  part("time").textContent = doc.received.slice(0, 16).replace("T", " ");
}

function rowOf(id) {
  return body.querySelector(`tr[data-id="${CSS.escape(id)}"]`);
}

function insert() {
  const row = byId("row").content.firstElementChild.cloneNode(true);
  body.prepend(row);
  byId("empty").hidden = true;
  while (body.rows.length > 200) body.rows[body.rows.length - 1].remove();
  return row;
}

const refreshDocuments = calmly(300, async () => {
  const ids = [...waiting].slice(0, 20);
  for (const id of ids) {
    waiting.delete(id);
    if (!growing && !rowOf(id)) continue;
    const doc = await getJson(`/api/v1/documents/${id}`);
    show(rowOf(id) ?? insert(), doc);
  }
  if (waiting.size) refreshDocuments();
});

function say(id, { level, text }) {
  byId(id).dataset.level = level;
  const span = byId(id).querySelector("span");
  if (span.textContent !== text) span.textContent = text; // a screen reader speaks each change
}

const refreshStatus = calmly(1000, async () => {
  const status = await getJson("/api/v1/status");
  say("engine", status.says.engine);
  say("disk", status.says.disk);
  for (const a of byId("counts").querySelectorAll("a[data-state]")) {
    a.querySelector("b").textContent = status.documents[a.dataset.state] ?? 0;
  }
});

follow(
  byId("standing").dataset.lastEvent,
  (event) => {
    if (event.document) { waiting.add(event.document); refreshDocuments(); }
    refreshStatus();
  },
  (open) => { byId("live").hidden = !open; if (open) refreshStatus(); },
);
setInterval(refreshStatus, 15000);

// Uploads: each file is sent as it is, one after another, with its progress.

const form = byId("upload");
const chooser = byId("file");

function options() {
  const wishes = new URLSearchParams();
  for (const [name, value] of new FormData(form)) {
    if (typeof value === "string" && value) wishes.append(name, value);
  }
  return wishes;
}

function line(name) {
  const item = document.createElement("li");
  const label = document.createElement("span");
  const bar = document.createElement("progress");
  label.textContent = name;
  bar.max = 1;
  bar.value = 0;
  bar.setAttribute("aria-label", `Upload of ${name}`);
  item.append(label, bar);
  byId("uploads").append(item);
  return { item, bar };
}

function send(file, wishes) {
  const { item, bar } = line(file.name);
  return new Promise((resolve) => {
    const request = new XMLHttpRequest();
    const failed = (text) => {
      const problem = document.createElement("span");
      problem.className = "problem";
      problem.textContent = text;
      bar.remove();
      item.append(problem);
      resolve();
    };
    request.open("PUT", `/api/v1/documents/${encodeURIComponent(file.name)}?${wishes}`);
    request.responseType = "json";
    request.upload.onprogress = (event) => { bar.value = event.total ? event.loaded / event.total : 1; };
    request.onerror = () => failed("The service did not answer. Try again.");
    request.onload = () => {
      if (request.status === 201) {
        waiting.add(request.response.id);
        refreshDocuments();
        item.remove();
        resolve();
      } else {
        failed(request.response ? `${request.response.message} ${request.response.hint}` : `Error ${request.status}`);
      }
    };
    request.send(file);
  });
}

async function sendAll(files) {
  const wishes = options();
  for (const file of files) await send(file, wishes);
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  const files = [...chooser.files];
  chooser.value = "";
  sendAll(files);
});
form.addEventListener("dragover", (event) => { event.preventDefault(); form.classList.add("over"); });
form.addEventListener("dragleave", () => form.classList.remove("over"));
form.addEventListener("drop", (event) => {
  event.preventDefault();
  form.classList.remove("over");
  sendAll([...event.dataTransfer.files]);
});

function walk(step) {
  const links = [...body.querySelectorAll(".title")];
  const at = links.indexOf(document.activeElement);
  links[Math.min(Math.max(at + step, 0), links.length - 1)]?.focus();
}

addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, select, textarea")) return;
  const actions = { "/": () => byId("q").focus(), u: () => chooser.click(), j: () => walk(1), k: () => walk(-1) };
  if (event.key in actions) { event.preventDefault(); actions[event.key](); }
});
