// Sticks come and go: the part of the page that tells of them is renewed, unless somebody is just using it.
const part = document.getElementById("sticks");

async function renew() {
  try {
    const answer = await fetch(`/sticks?back=${encodeURIComponent(location.pathname)}`);
    const text = answer.ok ? await answer.text() : null;
    if (text !== null && text !== part.dataset.shown && !part.contains(document.activeElement)) {
      // Our own template, its values escaped; what a document or a stick is called can be no markup in it.
      part.replaceChildren(...new DOMParser().parseFromString(text, "text/html").body.childNodes);
      part.dataset.shown = text;
    }
  } catch { /* the service is started anew: it comes back */ }
  setTimeout(renew, 2000);
}
if (part) setTimeout(renew, 2000);
