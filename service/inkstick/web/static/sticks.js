// Sticks come and go: the part of the page that tells of them is renewed, unless somebody is just using it.
const part = document.getElementById("sticks");

function element(name, values, ...children) {
  const made = Object.assign(document.createElement(name), values);
  made.append(...children);
  return made;
}

function offer(stick, { what, sentence, other }) {
  const hidden = (name, value) => element("input", { type: "hidden", name, value });
  const button = element("button", { textContent: sentence, className: other ? "other" : "" });
  const back = location.pathname.startsWith("/system") ? "/system" : "/"; // not the address of the self-test's answer
  return element("form", { method: "post", action: `/sticks/${what}` }, hidden("back", back), hidden("id", stick.id), button);
}

function item(stick) {
  const bar = stick.of ? [element("progress", { max: stick.of, value: stick.done, ariaLabel: stick.name })] : [];
  const made = element("li", {}, element("p", { dir: "auto", textContent: stick.text }), ...bar, ...stick.offers.map((one) => offer(stick, one)));
  made.dataset.state = stick.state;
  return made;
}

// Spoken to those who listen: what begins and ends, not each step between.
const heard = new Set([...part?.querySelectorAll("li") ?? []].map((one) => `${one.dataset.id} ${one.dataset.state}`));
function speak(sticks) {
  const fresh = sticks.filter(({ id, state }) => !heard.has(`${id} ${state}`));
  heard.clear();
  for (const { id, state } of sticks) heard.add(`${id} ${state}`);
  if (fresh.length) document.getElementById("stick-said").textContent = fresh.map(({ text }) => text).join(" ");
}

async function renew() {
  try {
    const answer = await fetch("/sticks", { headers: { Accept: "application/json" } });
    if (answer.status === 401) { addEventListener("focus", renew, { once: true }); return; } // each try is noted
    const told = answer.ok ? await answer.text() : null;
    if (told !== null) speak(JSON.parse(told).sticks);
    if (told !== null && told !== part.dataset.shown && !part.contains(document.activeElement)) {
      const { label, sticks } = JSON.parse(told);
      const list = element("ul", { className: "sticks", ariaLabel: label }, ...sticks.map(item));
      part.replaceChildren(...(sticks.length ? [list] : []));
      part.dataset.shown = told;
    }
  } catch { /* the service is started anew: it comes back */ }
  setTimeout(renew, 2000);
}
if (part) renew();
