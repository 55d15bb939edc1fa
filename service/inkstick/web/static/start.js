// The first start's question: when there is another one, answered here or at the console, it is shown.
const start = document.getElementById("start");
const asked = Number(start.dataset.number);

async function look() {
  try {
    const answer = await fetch("/start/state", { headers: { Accept: "application/json" } });
    if (answer.status === 401) { location.reload(); return; }
    const { number, waiting } = await answer.json();
    if (number !== asked || (start.dataset.waiting === "no" && waiting)) { location.assign("/start"); return; }
  } catch { /* the service is started anew on the volume: it comes back */ }
  setTimeout(look, 1000);
}
setTimeout(look, 1000);
