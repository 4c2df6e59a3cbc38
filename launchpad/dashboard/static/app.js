// What every page does: fetch its live parts again while somebody looks, and say how long ago things happened.
"use strict";

const root = document.documentElement;
const every = 1000 * Number(root.dataset.refresh || 5);

// ---- times -----------------------------------------------------------------------------------------------------

const steps = [[60, "s", 1], [3600, "min", 60], [172800, "h", 3600], [Infinity, "d", 86400]];

function ago(seconds) {
  const size = Math.abs(seconds);
  const [, unit, length] = steps.find(([limit]) => size < limit);
  const text = `${Math.round(size / length)} ${unit}`;
  return seconds < 0 ? `in ${text}` : `${text} ago`;
}

function tellTimes(scope) {
  for (const element of scope.querySelectorAll("time[datetime]")) {
    const seconds = (Date.now() - Date.parse(element.dateTime)) / 1000;
    let shown = element.querySelector(".ago");
    if (!shown) {
      const absolute = element.textContent.trim();
      element.title = absolute;
      element.innerHTML = "";
      shown = document.createElement("span");
      shown.className = "ago";
      const full = document.createElement("span");
      full.className = "at";
      full.textContent = absolute;
      element.append(shown, full);
    }
    shown.textContent = ago(seconds);
  }
}

// ---- live parts ------------------------------------------------------------------------------------------------

const last = new WeakMap();

function refresh() {
  if (document.hidden) return;
  for (const part of document.querySelectorAll("[data-live]")) {
    // whoever is typing or has something selected inside is not disturbed
    const busy = part.contains(document.activeElement) && document.activeElement.matches("input, select, textarea");
    if (!busy) part.dispatchEvent(new Event("refresh"));
  }
}

document.addEventListener("htmx:beforeSwap", (event) => {
  const part = event.detail.target;
  if (!part.matches || !part.matches("[data-live]")) return;
  const status = event.detail.xhr.status;
  if (status === 401) { location.reload(); return; }
  if (status >= 400) { event.detail.shouldSwap = false; return; }
  if (last.get(part) === event.detail.serverResponse) event.detail.shouldSwap = false;
  last.set(part, event.detail.serverResponse);
});

document.addEventListener("htmx:afterSwap", (event) => tellTimes(event.detail.target));

function connection(lost) {
  const news = document.getElementById("news");
  news.textContent = lost ? "The server does not answer; what you see may be old." : "";
  news.classList.toggle("lost", lost);
}
document.addEventListener("htmx:sendError", () => connection(true));
document.addEventListener("htmx:afterRequest", (event) => { if (event.detail.successful) connection(false); });

// ---- start -----------------------------------------------------------------------------------------------------

document.addEventListener("click", (event) => {
  if (!event.target.closest("[data-theme-toggle]")) return;
  const dark = getComputedStyle(root).colorScheme === "dark";
  root.dataset.theme = dark ? "light" : "dark";
  localStorage.setItem("theme", root.dataset.theme);
  document.dispatchEvent(new CustomEvent("theme"));
});
document.addEventListener("visibilitychange", refresh);
tellTimes(document);
setInterval(() => tellTimes(document), 1000);
setInterval(refresh, every);
