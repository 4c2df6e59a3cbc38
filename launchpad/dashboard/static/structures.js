// The table: a choice filters at once, empty fields stay out of the address, arrow keys go from row to row.
"use strict";

const filters = document.getElementById("filters");
if (filters) {
  filters.addEventListener("change", (event) => { if (event.target.matches("select")) filters.requestSubmit(); });
  filters.addEventListener("submit", () => {
    for (const field of filters.querySelectorAll("input, select")) field.disabled = field.value === "";
  });
  // back to this page by the browser's memory: fields are as they were sent
  addEventListener("pageshow", () => {
    for (const field of filters.querySelectorAll("input, select")) field.disabled = false;
  });
}

// the table is swapped while somebody looks: keys are heard by the page
document.addEventListener("keydown", (event) => {
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  const row = event.target.closest("#structures tbody tr");
  if (!step || !row) return;
  const other = step > 0 ? row.nextElementSibling : row.previousElementSibling;
  if (other) { other.querySelector("a").focus(); event.preventDefault(); }
});
