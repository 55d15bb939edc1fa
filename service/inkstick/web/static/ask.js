// The question's form: only the fields that belong to the choice, and the upload's progress. Without this it works too.
import { said, words } from "./live.js";

const form = document.getElementById("ask");
const problem = document.getElementById("problem");
const sending = document.getElementById("sending");

function choose() {
  const chosen = form.querySelector("input[name=task]:checked")?.value;
  for (const field of form.querySelectorAll("[data-for]")) field.hidden = field.dataset.for !== chosen;
}

function say(text) {
  problem.textContent = text;
  problem.hidden = !text;
  sending.hidden = true;
  form.querySelector("button").disabled = false;
}

form.addEventListener("change", choose);
choose();

form.addEventListener("submit", (event) => {
  event.preventDefault();
  const request = new XMLHttpRequest();
  const bar = document.getElementById("sent");
  problem.hidden = true;
  sending.hidden = false;
  form.querySelector("button").disabled = true;
  request.open("POST", form.action);
  request.setRequestHeader("Accept", "application/json");
  request.responseType = "json";
  request.upload.onprogress = (event) => { bar.value = event.total ? event.loaded / event.total : 1; };
  request.onerror = () => say(words.texts.lost);
  request.onload = () => {
    const told = request.response;
    if (request.status === 201) location.assign(told.address);
    else say(told ? `${said(told.message)} ${said(told.hint)}` : `${request.status}`);
  };
  request.send(new FormData(form));
});

addEventListener("pageshow", () => { sending.hidden = true; form.querySelector("button").disabled = false; });
