// The list of all documents: live rows, and choosing many.
import { byId, fill, follow, words } from "./live.js";
import { body, keys, touch } from "./rows.js";

const boxes = () => [...body.querySelectorAll("input[type=checkbox]")];

function count() {
  const chosen = boxes().filter((box) => box.checked).length;
  byId("chosen").textContent = chosen ? fill(words.texts.chosen, { n: chosen }) : "";
  for (const button of byId("bulk").querySelectorAll("button")) button.disabled = !chosen;
  byId("all").checked = chosen > 0 && chosen === boxes().length;
}

byId("all-line").hidden = false;
byId("all").addEventListener("change", () => {
  for (const box of boxes()) box.checked = byId("all").checked;
  count();
});
body.addEventListener("change", count);
addEventListener("pageshow", count);
count();

follow(byId("find").dataset.lastEvent, touch);
keys({ x: () => { document.activeElement.closest("tr")?.querySelector("input[type=checkbox]")?.click(); } });
