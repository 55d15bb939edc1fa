// Files and whole folders on their way in: three at a time, with their progress; a broken connection is waited for.
import { byId, fill, keepWhile, said, words } from "./live.js";

const AT_ONCE = 3;
const PIECE = 8 << 20; // bytes with one checksum: what has to be sent again after a break, at most
const LONGEST_PAUSE = 8000; // milliseconds between two tries
const queue = [];
let running = 0;
let sent = 0;
let total = 0;

const busy = () => running > 0;
keepWhile(busy);
addEventListener("beforeunload", (event) => { if (busy()) event.preventDefault(); });

function line(name) {
  const item = document.createElement("li");
  const label = document.createElement("span");
  const bar = document.createElement("progress");
  const stop = document.createElement("button");
  const note = document.createElement("span");
  label.textContent = name;
  label.dir = "auto";
  bar.max = 1;
  bar.value = 0;
  bar.setAttribute("aria-label", fill(words.texts.upload, { name }));
  stop.type = "button";
  stop.textContent = words.texts.cancel;
  stop.setAttribute("aria-label", fill(words.texts.cancels, { name }));
  note.className = "note";
  item.append(label, bar, stop, note);
  byId("uploads").append(item);
  return { item, bar, stop, note };
}

function failed({ bar, stop, note }, text) {
  bar.remove();
  stop.remove();
  note.className = "problem";
  note.setAttribute("role", "alert"); // spoken: the line itself is not looked at by those who listen
  note.textContent = text;
}

// ---- one file, by the tus protocol: a piece at a time, each with its SHA-256; after a break it goes on where it was

class Refused extends Error {} // said for good: its message is for the person
class Broken extends Error { // worth another try
  constructor(status, message) { super(message); this.status = status; }
}
const PASSING = [401, 404, 408, 409, 429, 460, 502, 503, 504]; // a full disk (507) is told at once
const TOLD = [401, 429]; // in the service's own words

const TUS = { "Tus-Resumable": "1.0.0", Accept: "application/json" };
const base64 = (bytes) => btoa(String.fromCharCode(...new Uint8Array(bytes)));
const text64 = (text) => base64(new TextEncoder().encode(text));
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

function refusal(status, body) {
  let told = null;
  try { told = JSON.parse(body); } catch { /* not ours: a proxy's page, or none */ }
  const message = told?.message ? `${said(told.message)} ${said(told.hint)}` : "";
  return PASSING.includes(status) ? new Broken(status, message) : new Refused(message || `${status}`);
}

// A request whose body's progress is told; fetch tells none.
function request(method, address, headers, body, onProgress, signal) {
  return new Promise((resolve, reject) => {
    if (signal.aborted) { reject(new Broken(0, "")); return; }
    const sending = new XMLHttpRequest();
    sending.open(method, address);
    for (const [name, value] of Object.entries({ ...TUS, ...headers })) sending.setRequestHeader(name, value);
    if (onProgress) sending.upload.onprogress = (event) => onProgress(event.loaded);
    const abort = () => sending.abort();
    sending.onerror = sending.onabort = () => reject(new Broken(0, ""));
    sending.onloadend = () => signal.removeEventListener("abort", abort);
    sending.onload = () => {
      if (sending.status >= 200 && sending.status < 300) resolve((name) => sending.getResponseHeader(name));
      else reject(refusal(sending.status, sending.responseText));
    };
    signal.addEventListener("abort", abort);
    sending.send(body);
  });
}

function metadata(file, folder, wishes) {
  const pairs = new Map([["filename", file.name]]);
  if (folder) pairs.set("folder", folder);
  for (const name of new Set(wishes.keys())) pairs.set(name, wishes.getAll(name).join(","));
  return [...pairs].map(([name, value]) => `${name} ${text64(value)}`).join(",");
}

async function checksum(piece) {
  let bytes;
  try { bytes = await piece.arrayBuffer(); } catch { throw new Refused(words.texts.unreadable); }
  if (!globalThis.crypto?.subtle) return {};
  return { "Upload-Checksum": `sha256 ${base64(await crypto.subtle.digest("SHA-256", bytes))}` };
}

const ALWAYS = new AbortController().signal; // never aborted
const documentOf = (header) => header("Content-Location")?.split("/").pop() ?? null;

// The document's id. `at.address` is the upload's own, once it has one.
async function attempt({ file, folder, wishes }, shown, at, signal) {
  const begin = { "Upload-Length": String(file.size), "Upload-Metadata": metadata(file, folder, wishes) };
  let header = at.address
    ? await request("HEAD", at.address, {}, null, null, signal)
    : await request("POST", "/api/v1/uploads", begin, null, null, ALWAYS); // cut short, it would leave what nobody knows
  at.address ??= header("Location");
  while (documentOf(header) === null) {
    const offset = Number(header("Upload-Offset"));
    const piece = file.slice(offset, offset + PIECE);
    const headers = { "Upload-Offset": String(offset), "Content-Type": "application/offset+octet-stream" };
    shown.bar.value = offset / file.size;
    if (shown.note.textContent) shown.note.textContent = "";
    const onProgress = (loaded) => { shown.bar.value = (offset + loaded) / file.size; };
    header = await request("PATCH", at.address, { ...headers, ...(await checksum(piece)) }, piece, onProgress, signal);
    at.tries = 0;
  }
  return documentOf(header);
}

async function send(entry, shown) {
  const stopped = new AbortController();
  const at = { address: null, tries: 0 };
  shown.stop.onclick = () => stopped.abort();
  while (!stopped.signal.aborted) {
    try {
      const id = await attempt(entry, shown, at, stopped.signal);
      shown.item.remove();
      return id;
    } catch (error) {
      if (!(error instanceof Broken)) { failed(shown, error.message); return null; }
      if (error.status === 404) at.address = null; // forgotten meanwhile: it begins anew
      shown.note.textContent = TOLD.includes(error.status) ? error.message : words.texts.broken;
    }
    if (stopped.signal.aborted) break;
    at.tries += 1;
    await pause(Math.min(LONGEST_PAUSE, 250 * 2 ** at.tries));
  }
  if (at.address) fetch(at.address, { method: "DELETE", headers: TUS }).catch(() => {});
  shown.item.remove();
  return null;
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
    if (!id) continue; // stopped, or refused and told
    sent += 1;
    tell();
    onArrived(id);
  }
  running -= 1;
  if (!running) sent = total = 0;
}

// `files` are {file, folder}: folder is where it lay below what was chosen, without a slash at its end.
export function sendAll(files, wishes, onArrived) {
  for (const entry of files) queue.push({ ...entry, wishes }); // (a call takes only so many arguments)
  total += files.length;
  tell();
  while (running < AT_ONCE && queue.length > 0 && running < total) work(onArrived);
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

// What cannot be read is told, and keeps nothing else from being sent.
async function gather(entry, folder, found) {
  const inside = folder ? `${folder}/${entry.name}` : entry.name;
  try {
    if (entry.isFile) {
      const file = await new Promise((resolve, reject) => entry.file(resolve, reject));
      found.push({ file, folder });
      return;
    }
    const reader = entry.createReader();
    for (;;) { // in portions, until an empty one
      const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
      if (!some.length) return;
      for (const child of some) if (!child.name.startsWith(".")) await gather(child, inside, found);
    }
  } catch {
    failed(line(inside), words.texts.unreadable);
  }
}
