// What the pages share: the event stream, and small helpers. Text always goes in as text, never as markup.

export const byId = (id) => document.getElementById(id);

export const words = JSON.parse(byId("words").textContent);

export async function getJson(address) {
  const answer = await fetch(address, { headers: { Accept: "application/json" } });
  if (!answer.ok) throw new Error(`${answer.status} ${address}`);
  return answer.json();
}

// Calls onEvent with each event after `last`; the browser reconnects by itself and resumes where it was.
export function follow(last, onEvent, onOpen) {
  const source = new EventSource(`/api/v1/events?after=${encodeURIComponent(last)}`);
  source.onopen = () => onOpen?.(true);
  source.onerror = () => onOpen?.(false);
  source.onmessage = (message) => {
    const event = JSON.parse(message.data);
    if (event.kind === "reset") location.reload();
    else onEvent(event);
  };
  addEventListener("pagehide", () => source.close());
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

// An English sentence of the service in the language of the page, where the page knows it.
export const said = (text) => words.errors?.[text] ?? text;
