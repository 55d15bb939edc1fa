// Where the focus is, and whether it can be seen; null when nothing has it.
() => {
  const e = document.activeElement;
  if (!e || e === document.body) return null;
  const style = getComputedStyle(e), ring = parseFloat(style.outlineWidth) >= 2 && style.outlineStyle !== "none";
  const shown = e.matches(".skip") || e.checkVisibility({ visibilityProperty: true });
  return { what: `${e.tagName.toLowerCase()} ${(e.textContent || e.name || "").trim().slice(0, 30)}`, good: ring && shown };
}
