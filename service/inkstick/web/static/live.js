// What the pages share: the event stream, and small helpers. Text always goes in as text, never as markup.

export const byId = (id) => document.getElementById(id);

export const words = JSON.parse(byId("words")?.textContent ?? "{}");

const JSON_SOON = () => ({ headers: { Accept: "application/json" }, signal: AbortSignal.timeout(20_000) }); // or it counts as lost

export async function getJson(address) {
  const answer = await fetch(address, JSON_SOON());
  if (!answer.ok) throw Object.assign(new Error(`${answer.status} ${address}`), { status: answer.status });
  return answer.json();
}

const TRIES = [0, 1000, 2000, 4000, 8000]; // milliseconds before the next try to follow again

// What must outlive a reload: text that is being written, uploads that are under way.
const unfinished = [];
export const keepWhile = (is) => unfinished.push(is);

// Says at the top of the page why it stands still: "lost", "unpaired", or nothing.
function tell(why) {
  for (const part of document.querySelectorAll("#away > *")) part.hidden = part.dataset.why !== why;
}

async function whyAway() {
  try {
    const { ok, status } = await fetch("/api/v1/status", JSON_SOON());
    return ok ? null : status === 401 ? "unpaired" : "lost";
  } catch { return "lost"; }
}

// Whether there is somebody to take what is sent now; says so at the top if not.
export async function answers() {
  const why = await whyAway();
  tell(why);
  return !why;
}

// Calls onEvent with each event after `last`, for as long as the page is looked at: a browser holds only six connections
// to a machine, and a page in the background that kept one would leave none for the page in front. Whatever breaks it,
// it is tried again, and resumes where it was.
export function follow(last, onEvent, onOpen) {
  let source = null;
  let timer = null;
  let failures = 0;
  let ended = false; // the pairing
  const close = () => { clearTimeout(timer); source?.close(); source = null; };
  const open = () => {
    close();
    ended = false;
    const mine = source = new EventSource(`/api/v1/events?after=${encodeURIComponent(last)}`);
    source.onopen = () => { failures = 0; tell(null); onOpen?.(true); };
    source.onmessage = (message) => {
      const event = JSON.parse(message.data);
      last = message.lastEventId;
      if (event.kind === "reset" && !unfinished.some((is) => is())) location.reload();
      else onEvent(event);
    };
    source.onerror = async () => { // the browser itself gives up for good when it is refused
      mine.close();
      onOpen?.(false);
      const why = await whyAway();
      if (source !== mine) return;
      if (failures > 0 || why === "unpaired") tell(why);
      if (why === "unpaired") { source = null; ended = true; return; } // until its person comes back: each try is noted
      timer = setTimeout(open, TRIES[failures]);
      failures = Math.min(failures + 1, TRIES.length - 1);
    };
  };
  const see = () => (document.visibilityState === "hidden" ? close() : open());
  addEventListener("pagehide", close);
  addEventListener("pageshow", (event) => { if (event.persisted) see(); }); // back to it, as it was left
  document.addEventListener("visibilitychange", see);
  addEventListener("focus", () => { if (!source) see(); });
  setInterval(async () => { // a cable that was pulled ends no connection: nothing comes any more, and nobody says so
    const mine = source;
    if (mine?.readyState === EventSource.OPEN && (await whyAway()) && source === mine) mine.onerror();
  }, 30_000);
  setInterval(async () => { // a page that is open is in use, also in the background
    if (!source && !ended && document.visibilityState === "hidden") ended = (await whyAway()) === "unpaired";
  }, 600_000);
  see();
}

// Many calls become one, at most every `pause` milliseconds, and the last one is never lost.
export function calmly(pause, action) {
  let timer = null;
  let again = false;
  const run = async () => {
    again = false;
    try { await action(); } catch (error) { console.warn(error); }
    timer = setTimeout(() => { timer = null; if (again) call(); }, pause);
  };
  const call = () => {
    if (timer !== null) { again = true; return; }
    timer = setTimeout(run, 0);
  };
  return call;
}

// "{done} of {of}" with its places filled.
export const fill = (text, values) => text.replace(/\{(\w+)\}/g, (_, name) => values[name] ?? "");

const HOLE = /\{(\w+)\}/;
// A sentence that holds values, as it looks with them.
function pattern(sentence) {
  const parts = sentence.split(HOLE); // texts, and between them the names of values
  const looks = parts.map((part, n) => (n % 2 ? `(?<${part}>[^]+?)` : part.replace(/[.*+?^${}()|[\]\\]/g, "\\$&")));
  const says = parts.filter((_, n) => n % 2 === 0).join("").length;
  return { says, looks: new RegExp(`^${looks.join("")}$`), sentence };
}
let patterns = null; // those that say most first

// An English sentence of the service in the language of the page, where the page knows it.
export function said(text) {
  const errors = words.errors ?? {};
  const one = (english) => (Object.hasOwn(errors, english) ? errors[english] : english);
  if (Object.hasOwn(errors, text)) return errors[text];
  patterns ??= Object.keys(errors).filter((sentence) => HOLE.test(sentence)).map(pattern).sort((a, b) => b.says - a.says);
  for (const { looks, sentence } of patterns) {
    const values = looks.exec(text)?.groups;
    if (values) return fill(errors[sentence], Object.fromEntries(Object.keys(values).map((name) => [name, one(values[name])])));
  }
  return text;
}
