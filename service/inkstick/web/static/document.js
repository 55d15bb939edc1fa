// One document, live: state and progress change in place; new text waits until the reader asks for it.
import { byId, calmly, follow, getJson, words } from "./live.js";

const article = byId("document");
const id = article.dataset.id;
const ended = (state) => ["done", "partial", "failed"].includes(state);

const refresh = calmly(500, async () => {
  const doc = await getJson(`/api/v1/documents/${id}`);
  byId("state").dataset.state = doc.state;
  byId("state").textContent = words.states[doc.state] ?? doc.state;
  byId("done").textContent = doc.pages ? `${doc.pages_done} of ${doc.pages} ${doc.pages === 1 ? "page" : "pages"}` : "";
  const bar = byId("bar");
  bar.max = doc.pages || 1;
  bar.value = doc.pages_done;
  bar.hidden = doc.state !== "reading";
  const changed = doc.state !== article.dataset.state;
  if (changed && ended(doc.state) && scrollY < 200) location.reload();
  else byId("note").hidden = false;
});

follow(article.dataset.lastEvent, (event) => { if (event.document === id) refresh(); });

// j and k: next and previous page with something to look at, or any page with the arrows' natural scrolling.
addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || !["j", "k"].includes(event.key)) return;
  const flagged = [...document.querySelectorAll(".page:has(h2 .flag)")];
  const next = flagged.filter((page) => page.getBoundingClientRect().top > 20);
  const before = flagged.filter((page) => page.getBoundingClientRect().top < -20);
  (event.key === "j" ? next[0] : before.at(-1))?.scrollIntoView();
});
