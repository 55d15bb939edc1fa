// The document screen: keys, zoom, turning, and the ties between picture and text. All of it works without, by links and forms.
import { answers, byId, calmly, follow, getJson, keepWhile, words } from "./live.js";

const article = byId("document");
const id = article.dataset.id;
const ended = (state) => ["done", "partial", "failed"].includes(state);

// ---- what happens meanwhile

// The page as the service shows it now. (A string made a document would need a policy of trusted types; this does not.)
const fetched = (address) => new Promise((resolve) => {
  const asking = new XMLHttpRequest();
  asking.responseType = "document";
  asking.onload = () => resolve(asking.status === 200 ? asking.responseXML : null);
  asking.onerror = () => resolve(null);
  asking.open("GET", address);
  asking.send();
});

const FIELDS = ":is(textarea, input:not([type=hidden], [type=checkbox]))";
// Whether something was written that is not sent yet, wherever the focus is now.
const written = () => all(`form[method=post] ${FIELDS}`, article).some((field) => field.value !== field.defaultValue);
const writes = () => help.open || document.activeElement?.matches(`${FIELDS}, select`) || pick(".change") || written();
keepWhile(() => writes());

// Puts the page as it is now in the place of the one that is shown, without a reload. Never under somebody who writes.
async function renew() {
  const fresh = (await fetched(location.href))?.getElementById("document");
  if (!fresh || writes()) { byId("note").hidden = false; return; }
  const focus = document.activeElement?.id;
  for (const [name, value] of Object.entries(fresh.dataset)) article.dataset[name] = value;
  article.replaceChildren(...fresh.childNodes);
  bind();
  if (focus) byId(focus)?.focus();
}

// Whether the page that is looked at was not read when it was shown, and is now.
async function nowRead() {
  if (!byId("unread")) return false;
  const { pages } = await getJson(`/api/v1/documents/${id}/pages?after=${article.dataset.page - 1}&limit=1`);
  return Boolean(pages.length) && pages[0].state !== "waiting";
}

const refresh = calmly(500, async () => {
  const doc = await getJson(`/api/v1/documents/${id}`);
  byId("state").dataset.state = doc.state;
  byId("state").textContent = words.states[doc.state] ?? doc.state;
  byId("done").textContent = doc.pages ? words.pages.replace("{done}", doc.pages_done).replace("{pages}", doc.pages) : "";
  byId("done").hidden = ["done", "failed"].includes(doc.state);
  const bar = byId("bar");
  bar.max = doc.pages || 1;
  bar.value = doc.pages_done;
  bar.hidden = doc.state !== "reading";
  if (doc.state === article.dataset.state && ended(doc.state)) return;
  if (doc.state !== article.dataset.state || !byId("scan") || (await nowRead())) await renew();
  else byId("note").hidden = false;
});

follow(article.dataset.lastEvent, (event) => {
  if (event.kind === "reset") { refresh(); return; }
  if (event.document !== id) return;
  if (event.data?.exported) byId("following").hidden = true;
  else if (event.data?.state === "removed") byId("gone").hidden = false;
  else refresh();
});

// ---- what is written is not lost

let leaving = false; // on purpose
let sending = null;
article.addEventListener("submit", async (event) => {
  const { target: form, submitter } = event;
  if (form.method !== "post" || leaving) return;
  event.preventDefault();
  if (sending) return; // pressed twice
  sending = form;
  leaving = await answers();
  sending = null;
  if (leaving) form.requestSubmit(submitter);
});
article.addEventListener("click", (event) => { if (event.target.closest(".cancel")) leaving = true; });
addEventListener("beforeunload", (event) => { if (!leaving && written()) event.preventDefault(); });
addEventListener("pageshow", () => { leaving = false; });

// ---- the picture

let stage = null;
let sheet = null;
const steps = [0.5, 0.75, 1, 1.25, 1.5, 2, 3, 4];
const remembered = (name, otherwise) => sessionStorage.getItem(`inkstick-${name}`) ?? otherwise;
const remember = (name, value) => sessionStorage.setItem(`inkstick-${name}`, value);
let zoom = Number(remembered("zoom", 1)) || 1;

function showZoom() {
  sheet.style.setProperty("--zoom", zoom);
  byId("zoom").textContent = `${Math.round(zoom * 100)} %`;
  remember("zoom", zoom);
}
function zoomBy(direction) {
  const next = direction > 0 ? steps.find((step) => step > zoom) : steps.findLast((step) => step < zoom);
  if (next) zoom = next;
  showZoom();
}
function turn() {
  sheet.dataset.turn = (Number(sheet.dataset.turn) + 90) % 360;
}
function toggleBoxes() {
  const on = byId("boxes").getAttribute("aria-pressed") !== "true";
  byId("boxes").setAttribute("aria-pressed", String(on));
  sheet.classList.toggle("bare", !on);
  remember("boxes", on ? "yes" : "no");
}
function bindPicture() {
  stage = byId("stage");
  sheet = byId("sheet");
  if (!sheet) return;
  byId("tools").hidden = false;
  byId("help-open").hidden = false;
  byId("help-open").onclick = () => help.showModal();
  byId("larger").onclick = () => zoomBy(1);
  byId("smaller").onclick = () => zoomBy(-1);
  byId("turn").onclick = turn;
  byId("boxes").onclick = toggleBoxes;
  showZoom();
  if (remembered("boxes", "yes") === "no") toggleBoxes();
}

// ---- picture and text, tied

const all = (selector, root = document) => [...root.querySelectorAll(selector)];
const pick = (selector) => document.querySelector(selector);
let lit = [];
let quiet = 0; // until then, scrolling is our own doing

function light(...elements) {
  for (const element of lit) element.classList.remove("on");
  lit = elements.filter(Boolean);
  for (const element of lit) element.classList.add("on");
}
function reveal(pane, element) {
  if (!pane || !element || pane.scrollHeight <= pane.clientHeight + 1 && pane.scrollWidth <= pane.clientWidth + 1) return;
  const outer = pane.getBoundingClientRect();
  const inner = element.getBoundingClientRect();
  quiet = performance.now() + 200;
  if (inner.top < outer.top || inner.bottom > outer.bottom) pane.scrollTop += inner.top - outer.top - Math.max(0, (outer.height - inner.height) / 3);
  if (inner.left < outer.left || inner.right > outer.right) pane.scrollLeft += inner.left - outer.left - 20;
}
const rectOf = (order) => pick(`rect[data-order="${CSS.escape(order)}"]`);
const blockOf = (order) => byId(`b${order}`);

function lightBlock(order, { text = false, picture = false } = {}) {
  light(blockOf(order), rectOf(order));
  if (text) reveal(byId("text"), blockOf(order));
  if (picture) reveal(stage, rectOf(order));
}
function lightDoubt(key, { text = true, picture = true } = {}) {
  const card = byId(`d-${key}`);
  const mark = byId(`m-${key}`);
  const rect = pick(`rect[data-doubt="${CSS.escape(key)}"]`) ?? rectOf(card?.dataset.block ?? "");
  light(card, mark, rect);
  if (text) reveal(byId("text"), mark ?? blockOf(card?.dataset.block ?? ""));
  if (picture) reveal(stage, rect);
}
// Scrolling one of the two brings the other along: what stands at the top of the one is shown in the other.
function leads(pane, parts, show) {
  pane?.addEventListener("scroll", () => {
    if (performance.now() < quiet) return;
    const top = pane.getBoundingClientRect().top + 8;
    const first = parts().find((part) => part.getBoundingClientRect().bottom > top);
    if (first) show(first.dataset.order);
  }, { passive: true });
}
function bindTies() {
  for (const block of all(".block")) {
    block.addEventListener("pointerenter", () => lightBlock(block.dataset.order, { picture: true }));
    block.addEventListener("focusin", () => lightBlock(block.dataset.order, { picture: true }));
  }
  for (const card of all(".card")) {
    card.addEventListener("pointerenter", () => lightDoubt(card.dataset.doubt));
    card.addEventListener("focusin", () => lightDoubt(card.dataset.doubt));
  }
  for (const rect of all("rect[data-order]")) {
    rect.addEventListener("pointerenter", () => lightBlock(rect.dataset.order, { text: true }));
    rect.addEventListener("click", () => blockOf(rect.dataset.order)?.querySelector(".edit")?.focus());
  }
  for (const rect of all("rect[data-doubt]")) {
    rect.addEventListener("pointerenter", () => lightDoubt(rect.dataset.doubt, { picture: false }));
    rect.addEventListener("click", () => focusCard(byId(`d-${rect.dataset.doubt}`)));
  }
  leads(byId("text"), () => all(".block"), (order) => reveal(stage, rectOf(order)));
  leads(stage, () => all("rect[data-order]"), (order) => reveal(byId("text"), blockOf(order)));
  reveal(pick(".strip"), pick(".strip [aria-current]"));
}

// Everything that hangs on the elements of the page that is shown.
function bind() {
  bindPicture();
  bindTies();
}

// ---- keys

const cards = () => all(".card");
function focusCard(card) {
  const first = card?.querySelector("button, input:not([type=hidden])");
  first?.focus();
  if (first) card.scrollIntoView({ block: "nearest" });
  return Boolean(first);
}
function nextDoubt(direction) {
  const list = cards();
  const at = list.findIndex((card) => card.contains(document.activeElement));
  const next = at < 0 ? (direction > 0 ? 0 : -1) : at + direction;
  if (list[next] && focusCard(list[next])) return;
  (direction > 0 ? byId("next-doubt") : byId("previous-doubt"))?.click();
}
function nextBlock(direction) {
  const list = all(".block .edit");
  const at = list.findIndex((link) => link.closest(".block").contains(document.activeElement));
  list[at < 0 ? (direction > 0 ? 0 : list.length - 1) : at + direction]?.focus();
}
function answer(key) {
  const card = document.activeElement?.closest(".card") ?? cards()[0];
  const control = card?.querySelector(`[data-key="${key}"]`);
  if (!control) return false;
  if (control.matches("input")) { control.focus(); control.select(); } else control.click();
  return true;
}
function changeBlock() {
  (document.activeElement?.closest(".block") ?? pick(".block.on"))?.querySelector(".edit")?.click();
}
const help = byId("help");
const keysOn = byId("keys-on");
keysOn.checked = localStorage.getItem("inkstick-keys") !== "off";
keysOn.onchange = () => localStorage.setItem("inkstick-keys", keysOn.checked ? "on" : "off");

const actions = {
  n: () => nextDoubt(1), p: () => nextDoubt(-1), j: () => nextBlock(1), k: () => nextBlock(-1),
  1: () => answer("1"), 2: () => answer("2"), 3: () => answer("3"),
  ArrowRight: () => byId("next-page")?.click(), ArrowLeft: () => byId("previous-page")?.click(),
  g: () => { byId("goto")?.focus(); byId("goto")?.select(); }, e: changeBlock,
  "+": () => zoomBy(1), "=": () => zoomBy(1), "-": () => zoomBy(-1), 0: () => { zoom = 1; showZoom(); },
  r: turn, b: toggleBoxes, "?": () => help.showModal(),
};
addEventListener("keydown", (event) => {
  if (event.isComposing || event.keyCode === 229) return; // Enter and Escape belong to the input method then
  const writing = event.target.matches("textarea, input:not([type=hidden], [type=checkbox]), select");
  if (writing && event.key === "Enter" && (event.ctrlKey || event.metaKey)) { event.target.form?.requestSubmit(); return; }
  if (event.key === "Escape" && !help.open) {
    const cancel = event.target.closest("form")?.querySelector(".cancel");
    if (cancel) cancel.click();
    else if (writing) event.target.blur();
    return;
  }
  if (writing || help.open || event.ctrlKey || event.metaKey || event.altKey) return;
  const scrolls = event.key.startsWith("Arrow") && event.target.closest(".stage, .text, .scroll");
  if (!keysOn.checked && event.key !== "?" || scrolls || !Object.hasOwn(actions, event.key)) return;
  event.preventDefault();
  actions[event.key]();
});

article.classList.add("scripted");
bind();
const focused = document.activeElement?.closest(".card");
if (focused) lightDoubt(focused.dataset.doubt);
