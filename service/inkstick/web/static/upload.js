// Files and whole folders on their way in: each sent as it is, three at a time, with its progress.
import { byId, fill, said, words } from "./live.js";

const AT_ONCE = 3;
const SHOWN = 8; // lines of files on their way; the rest are counted
const queue = [];
let running = 0;
let sent = 0;
let total = 0;

function line(name) {
  const item = document.createElement("li");
  const label = document.createElement("span");
  const bar = document.createElement("progress");
  label.textContent = name;
  label.dir = "auto";
  bar.max = 1;
  bar.value = 0;
  bar.setAttribute("aria-label", fill(words.texts.upload, { name }));
  item.append(label, bar);
  byId("uploads").append(item);
  return { item, bar };
}

function failed({ item, bar }, text) {
  const problem = document.createElement("span");
  problem.className = "problem";
  problem.textContent = text;
  bar.remove();
  item.append(problem);
}

function send({ file, folder, wishes }, shown) {
  const query = new URLSearchParams(wishes);
  if (folder) query.set("folder", folder);
  return new Promise((resolve) => {
    const request = new XMLHttpRequest();
    request.open("PUT", `/api/v1/documents/${encodeURIComponent(file.name)}?${query}`);
    request.responseType = "json";
    request.upload.onprogress = (event) => { shown.bar.value = event.total ? event.loaded / event.total : 1; };
    request.onerror = () => { failed(shown, words.texts.silent); resolve(null); };
    request.onload = () => {
      const { response, status } = request;
      if (status === 201) { shown.item.remove(); resolve(response.id); return; }
      failed(shown, response ? `${said(response.message)} ${said(response.hint)}` : `${status}`);
      resolve(null);
    };
    request.send(file);
  });
}

function tell() {
  byId("sent").textContent = total > 1 ? fill(words.texts.sent, { done: sent, of: total }) : "";
}

async function work(onArrived) {
  running += 1;
  while (queue.length) {
    const entry = queue.shift();
    const shown = line(entry.folder ? `${entry.folder}/${entry.file.name}` : entry.file.name);
    const id = await send(entry, shown);
    sent += 1;
    tell();
    if (id) onArrived(id);
  }
  running -= 1;
  if (!running) sent = total = 0;
}

// `files` are {file, folder}: folder is where it lay below what was chosen, without a slash at its end.
export function sendAll(files, wishes, onArrived) {
  queue.push(...files.map((entry) => ({ ...entry, wishes })));
  total += files.length;
  tell();
  while (running < Math.min(AT_ONCE, SHOWN) && queue.length > 0 && running < total) work(onArrived);
}

const parent = (path) => path.split("/").slice(0, -1).join("/");

// What a chooser holds; of a folder chooser, with the folders.
export const chosen = (input) => [...input.files].map((file) => ({ file, folder: parent(file.webkitRelativePath) }));

// What was dropped, folders gone through. Entries must be taken at once: the browser forgets them after the event.
export async function dropped(transfer) {
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  if (!entries.length) return [...transfer.files].map((file) => ({ file, folder: "" }));
  const found = [];
  for (const entry of entries) await gather(entry, "", found);
  return found;
}

async function gather(entry, folder, found) {
  if (entry.isFile) {
    const file = await new Promise((resolve, reject) => entry.file(resolve, reject));
    found.push({ file, folder });
    return;
  }
  const inside = folder ? `${folder}/${entry.name}` : entry.name;
  const reader = entry.createReader();
  for (;;) { // in portions, until an empty one
    const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (!some.length) return;
    for (const child of some) if (!child.name.startsWith(".")) await gather(child, inside, found);
  }
}
