// The inbox, live: how things stand, what is being read, the newest documents, uploads.
import { byId, calmly, fill, follow, getJson, words } from "./live.js";
import { arrived, keys, touch } from "./rows.js";
import { chosen, dropped, sendAll } from "./upload.js";

function say(id, { level, text }) {
  const place = byId(id);
  if (place.dataset.level) place.dataset.level = level;
  const span = place.querySelector("span");
  if (span.textContent !== text) span.textContent = text; // a screen reader speaks each change
}

function working(doc) {
  const item = document.createElement("li");
  const link = document.createElement("a");
  const count = document.createElement("span");
  item.dataset.id = doc.id;
  link.href = `/documents/${doc.id}`;
  link.dir = "auto";
  link.textContent = doc.name;
  count.className = "soft";
  const bar = document.createElement("progress");
  bar.setAttribute("aria-label", doc.name);
  item.append(link, " ", bar, " ", count);
  return item;
}

// Brought up to date where they stand: a link that is put there anew each second cannot be pressed for certain.
function showWorking(docs) {
  const list = byId("at-work");
  const known = new Map([...list.children].map((item) => [item.dataset.id, item]));
  const items = docs.map((doc) => {
    const item = known.get(doc.id) ?? working(doc);
    const bar = item.querySelector("progress");
    bar.max = doc.pages || 1;
    bar.value = doc.pages_done;
    item.querySelector("span").textContent = doc.pages ? fill(words.texts.of, { done: doc.pages_done, of: doc.pages }) : "";
    return item;
  });
  const same = items.length === list.children.length && items.every((item, n) => item === list.children[n]);
  const focused = list.contains(document.activeElement);
  if (!same && !focused) list.replaceChildren(...items);
  byId("working").hidden = !items.length && !focused;
}

const refreshStatus = calmly(1000, async () => {
  const [status, reading] = await Promise.all([
    getJson("/api/v1/status"), getJson("/api/v1/documents?state=reading&limit=6"),
  ]);
  for (const name of ["engine", "disk", "pace", "left"]) say(name, status.says[name]);
  for (const a of byId("counts").querySelectorAll("a[data-state]")) {
    a.querySelector("b").textContent = status.documents[a.dataset.state] ?? 0;
  }
  showWorking(reading.documents);
});

follow(
  byId("standing").dataset.lastEvent,
  (event) => { touch(event); refreshStatus(); },
  (open) => { byId("live").hidden = !open; if (open) refreshStatus(); },
);
setInterval(() => { if (document.visibilityState === "visible" && !byId("live").hidden) refreshStatus(); }, 15000);

const form = byId("upload");

function options() {
  const wishes = new URLSearchParams();
  for (const [name, value] of new FormData(form)) {
    if (typeof value === "string" && value) wishes.append(name, value);
  }
  return wishes;
}

function takeFiles() {
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const files = [...chosen(byId("file")), ...chosen(byId("folder"))];
    byId("file").value = byId("folder").value = "";
    if (files.length) sendAll(files, options(), arrived);
    else byId("file").focus();
  });
  // Wherever on the page they are let go: beside the box the browser would open them, and leave the page.
  const files = (event) => event.dataTransfer?.types.includes("Files");
  addEventListener("dragover", (event) => { if (files(event)) { event.preventDefault(); form.classList.add("over"); } });
  addEventListener("dragleave", (event) => { if (!event.relatedTarget) form.classList.remove("over"); });
  addEventListener("drop", async (event) => {
    if (!files(event)) return;
    event.preventDefault();
    form.classList.remove("over");
    const wishes = options();
    sendAll(await dropped(event.dataTransfer), wishes, arrived);
  });
}

if (form) takeFiles(); // not for those who may only look
keys(form ? { u: () => byId("file").click() } : {});
