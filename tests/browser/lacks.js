// What a page lacks, a sentence each; see accessible.py.
() => {
  const found = [];
  const visible = (e) => e.checkVisibility({ visibilityProperty: true }) && e.getClientRects().length > 0;
  const path = (e) => e.tagName.toLowerCase() + (e.id ? "#" + e.id : "") + (e.className.baseVal ?? e.className ? "." + (e.className.baseVal ?? e.className) : "");
  const text = (id) => document.getElementById(id)?.textContent ?? "";
  const name = (e) => (
    e.getAttribute("aria-label") || (e.getAttribute("aria-labelledby") || "").split(/\s+/).map(text).join(" ").trim()
    || [...(e.labels ?? [])].map((l) => l.textContent).join(" ") || e.getAttribute("alt") || e.textContent || ""
  ).trim();
  if (!document.documentElement.lang) found.push("the page says no language");
  if (!document.title.trim()) found.push("the page has no title");
  if (!document.querySelector("main")) found.push("there is no main part");
  const headings = [...document.querySelectorAll("h1, h2, h3, h4, h5, h6")].filter(visible);
  if (headings.filter((h) => h.tagName === "H1").length !== 1) found.push("there is not exactly one h1");
  headings.reduce((before, h) => {
    const level = Number(h.tagName[1]);
    if (level > before + 1) found.push(`heading "${h.textContent.trim()}" skips a level`);
    return level;
  }, 0);
  for (const e of document.querySelectorAll("a[href], button, input:not([type=hidden]), select, textarea, summary")) {
    if (visible(e) && !name(e)) found.push(`${path(e)} has no name`);
  }
  for (const e of document.querySelectorAll("img")) if (!e.hasAttribute("alt")) found.push(`${path(e)} has no alt`);
  for (const e of document.querySelectorAll("[role=img], nav, section, progress, [role=group]")) {
    if (visible(e) && !name(e)) found.push(`${path(e)} has no name`);
  }
  for (const e of document.querySelectorAll("th")) if (!e.scope && !e.closest(".text")) found.push(`${path(e)} has no scope`);
  const ids = [...document.querySelectorAll("[id]")].map((e) => e.id);
  for (const id of new Set(ids)) if (ids.filter((i) => i === id).length > 1) found.push(`id ${id} is there twice`);
  const pen = Object.assign(document.createElement("canvas"), { width: 1, height: 1 }).getContext("2d", { willReadFrequently: true });
  const rgba = (colour) => { pen.clearRect(0, 0, 1, 1); pen.fillStyle = colour; pen.fillRect(0, 0, 1, 1); return [...pen.getImageData(0, 0, 1, 1).data]; };
  const over = (top, under) => top.slice(0, 3).map((c, i) => c * top[3] / 255 + under[i] * (1 - top[3] / 255));
  const ground = (e) => {
    const layers = [];
    for (let at = e; at; at = at.parentElement) layers.push(rgba(getComputedStyle(at).backgroundColor));
    return layers.reverse().reduce((under, layer) => over(layer, under), [255, 255, 255]);
  };
  const light = (c) => { const [r, g, b] = c.map((v) => { v /= 255; return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; }); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const seen = new Set();
  while (walker.nextNode()) {
    const e = walker.currentNode.parentElement;
    if (!walker.currentNode.textContent.trim() || seen.has(e) || !visible(e) || e.closest("script, template, :disabled, .hidden, option")) continue;
    seen.add(e);
    const style = getComputedStyle(e), under = ground(e), pair = [light(over(rgba(style.color), under)), light(under)].sort((a, b) => b - a);
    const ratio = (pair[0] + 0.05) / (pair[1] + 0.05), size = parseFloat(style.fontSize);
    const needed = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700) ? 3 : 4.5;
    if (ratio < needed) found.push(`${path(e)} "${e.textContent.trim().slice(0, 30)}" has a contrast of ${ratio.toFixed(2)}, needs ${needed}`);
  }
  return found;
}
