// One tick for all rows of a table.
"use strict";

document.addEventListener("htmx:afterSwap", (event) => offerAll(event.detail.target));

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
