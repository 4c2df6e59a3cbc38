// Ticks and opened logs survive the refresh of the part that they are in; one tick for all rows of a table.
"use strict";

const kept = new WeakMap();

document.addEventListener("htmx:beforeSwap", (event) => {
  const part = event.detail.target;
  kept.set(part, {
    ticked: new Set(Array.from(part.querySelectorAll("input[type=checkbox]:checked"), (box) => box.value)),
    details: new Map(Array.from(part.querySelectorAll("details[id]"), (item) => [item.id, item.open])),
  });
});

document.addEventListener("htmx:afterSwap", (event) => {
  const part = event.detail.target;
  const before = kept.get(part);
  if (before) {
    for (const box of part.querySelectorAll("input[type=checkbox]")) box.checked = before.ticked.has(box.value);
    for (const item of part.querySelectorAll("details[id]")) {
      if (before.details.has(item.id)) item.open = before.details.get(item.id);
    }
  }
  offerAll(part);
});

function offerAll(scope) {
  for (const head of scope.querySelectorAll("[data-tick-all]")) {
    const all = document.createElement("input");
    all.type = "checkbox";
    all.setAttribute("aria-label", "Tick every task of this page");
    all.addEventListener("change", () => {
      for (const box of head.closest("table").querySelectorAll("tbody input[type=checkbox]")) box.checked = all.checked;
    });
    head.replaceChildren(all);
  }
}

offerAll(document);
