// An answer: wait for it, copy it, and show which place belongs to which text.
const article = document.getElementById("answer");
const byId = (id) => document.getElementById(id);

async function wait() {
  let answer;
  try { answer = await fetch(`/ask/${article.dataset.name}/state`); }
  catch { setTimeout(wait, 2000); return; } // the connection broke, or a phone slept: it comes back
  if (!answer.ok) { location.reload(); return; }
  const { state, seconds } = await answer.json();
  if (state === "done" || state === "failed") { location.reload(); return; }
  byId("seconds").textContent = `${Math.round(seconds)} s`;
  const said = byId("waits").dataset[state];
  if (byId("waits").textContent !== said) byId("waits").textContent = said;
  setTimeout(wait, 700);
}

if (["reading", "blocked"].includes(article.dataset.state)) wait();

const copy = byId("copy");
if (copy && navigator.clipboard) {
  copy.hidden = false;
  copy.addEventListener("click", async () => {
    await navigator.clipboard.writeText(byId("text").innerText);
    copy.textContent = copy.dataset.done;
  });
}

function light(number, on) {
  article.querySelector(`rect[data-n="${number}"]`)?.classList.toggle("on", on);
}
for (const item of article.querySelectorAll("li[data-n]")) {
  for (const [kind, on] of [["mouseenter", true], ["mouseleave", false], ["focus", true], ["blur", false]]) {
    item.addEventListener(kind, () => light(item.dataset.n, on));
  }
}
for (const rect of article.querySelectorAll("rect[data-n]")) {
  rect.addEventListener("click", () => {
    byId("text").closest("article").querySelector(".places").open = true;
    article.querySelector(`li[data-n="${rect.dataset.n}"]`).focus();
  });
}
