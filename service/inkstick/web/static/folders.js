// Form and text follow each other: the service itself changes the one with the other, so that there is one truth.
import { answers } from "./live.js";

const form = document.getElementById("folder");
const toml = document.getElementById("toml");
const CHECK_MS = 300;
let turn = 0;
let timer = null;

function show(id, said) {
  const box = document.getElementById(id);
  box.querySelector("b").textContent = said ? said.message : "";
  box.querySelector("span").textContent = said ? said.hint : "";
  box.hidden = !said;
}

function fill(values) {
  for (const [key, value] of Object.entries(values)) {
    const field = document.getElementById(`f-${key}`);
    if (key === "formats") {
      for (const box of field.querySelectorAll("input")) box.checked = (value ?? []).includes(box.value);
    } else if (field) {
      field.value = Array.isArray(value) ? value.join("\n") : value ?? "";
    }
  }
}

async function check(side) {
  const mine = ++turn;
  const data = new FormData(form);
  data.delete("file");
  data.set("side", side);
  const answer = await fetch("/folders/check", { method: "POST", body: data, headers: { Accept: "application/json" } });
  if (mine !== turn || !answer.ok) return;
  const said = await answer.json();
  if (mine !== turn) return;
  show("problem", said.problem);
  show("warning", said.warning);
  toml.setAttribute("aria-invalid", said.problem ? "true" : "false");
  if (side === "form") toml.value = said.text;
  else if (!said.problem) fill(said.form);
  pending = null;
}

let pending = null; // the side that was changed and is not on the other yet

form.addEventListener("input", (event) => {
  const side = event.target === toml ? "text" : event.target.closest("#form") ? "form" : null;
  if (!side) return;
  turn++;
  pending = side;
  clearTimeout(timer);
  timer = setTimeout(() => check(side).catch(console.warn), CHECK_MS);
});

// A change that is not on both sides yet is brought there before it is sent, and it is sent only when somebody is there
// to take it: else what was written would be lost with the page.
let ready = false;
form.addEventListener("submit", async (event) => {
  if (ready) return;
  event.preventDefault();
  clearTimeout(timer);
  if (pending) await check(pending).catch(console.warn);
  ready = await answers();
  if (ready) form.requestSubmit(event.submitter);
});
addEventListener("pageshow", () => { ready = false; });
