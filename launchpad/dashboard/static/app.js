// What every page does: fetch its live parts again while somebody looks, say how long ago things happened, and say when
// the server does not answer.
"use strict";

(() => {
  const root = document.documentElement;
  const every = 1000 * Number(root.dataset.refresh || 5);

  // ---- times ---------------------------------------------------------------------------------------------------

  const steps = [[60, "s", 1], [3600, "min", 60], [172800, "h", 3600], [Infinity, "d", 86400]];

  function ago(seconds) {
    const size = Math.abs(seconds);
    const [, unit, length] = steps.find(([limit]) => size < limit);
    const text = `${Math.round(size / length)} ${unit}`;
    return seconds < 0 ? `in ${text}` : `${text} ago`;
  }

  function tellTimes(scope) {
    for (const element of scope.querySelectorAll("time[datetime]")) {
      let shown = element.querySelector(".ago");
      if (!shown) {
        const absolute = element.textContent.trim();
        shown = document.createElement("span");
        shown.className = "ago";
        const full = document.createElement("span");
        full.className = "at";
        full.textContent = absolute;
        element.replaceChildren(shown, " ", full);
      }
      const text = ago((Date.now() - Date.parse(element.dateTime)) / 1000);
      if (shown.textContent !== text) shown.textContent = text;
    }
  }

  // ---- wide tables ---------------------------------------------------------------------------------------------

  function reachable(box) { // what can be scrolled sideways can be scrolled with the keyboard
    if (box.scrollWidth > box.clientWidth + 1) {
      const title = box.closest("section, main").querySelector("h2, h1");
      box.tabIndex = 0;
      box.setAttribute("role", "region");
      box.setAttribute("aria-label", title ? title.textContent.trim() : "Table");
    } else if (box !== document.activeElement) {
      for (const name of ["tabindex", "role", "aria-label"]) box.removeAttribute(name);
    }
  }

  // the window, a letter, a figure in a cell: whatever makes a place narrower or what is in it wider
  const sizes = new ResizeObserver((changed) => {
    for (const box of new Set(changed.map((one) => one.target.closest(".wide")))) if (box) reachable(box);
  });

  function watchWidths() {
    for (const box of document.querySelectorAll(".wide:not([data-watched])")) {
      box.dataset.watched = "";
      if (box.hasAttribute("tabindex")) continue; // always reached, by a name of its own
      for (const one of [box, ...box.children]) sizes.observe(one);
      reachable(box);
    }
  }

  function dress(scope) {
    tellTimes(scope);
    watchWidths();
  }

  // ---- live parts ----------------------------------------------------------------------------------------------

  function connection(lost) {
    const news = document.getElementById("news");
    if (news.classList.contains("lost") === lost) return;
    news.textContent = lost ? "The server does not answer; what you see may be old." : "";
    news.classList.toggle("lost", lost);
  }

  const last = new WeakMap();
  const kept = new WeakMap();

  function inUse(part) { // whoever is typing, choosing or has marked text inside is not disturbed
    if (part.querySelector("input[type=checkbox]:checked, select:focus, input:focus, textarea:focus")) return true;
    const marked = document.getSelection();
    return marked && !marked.isCollapsed && part.contains(marked.anchorNode);
  }

  function refresh() {
    if (document.hidden) return;
    for (const part of document.querySelectorAll("[data-live]")) {
      if (!inUse(part)) part.dispatchEvent(new Event("refresh"));
    }
  }

  const stops = (part) => [...part.querySelectorAll("a[href], button:not(:disabled), summary, [tabindex]")].filter((one) => one.checkVisibility());

  function named(stop) { // the same before and after news: where a link leads stays though its words may count something
    return [stop.closest("[id]").id, stop.tagName, stop.getAttribute("href") ?? (stop.ariaLabel || stop.textContent)].join("\n");
  }

  function height(element) { // where it is on the screen, unless it is scrolled off
    const { top, bottom } = element.getBoundingClientRect();
    return element !== document.body && bottom > 0 && top < innerHeight ? top : null;
  }

  function place(part) { // what the reader would lose by a swap: focus and the sight of it, sideways scroll, what is unfolded
    const active = document.activeElement;
    const all = stops(part);
    const at = all.indexOf(active);
    return {
      focus: part.contains(active) ? { at, name: named(active), rank: all.slice(0, at).filter((one) => named(one) === named(active)).length } : null,
      height: height(active),
      scroll: [...part.querySelectorAll(".wide, pre")].map((box) => [box.scrollLeft, box.scrollTop]),
      open: new Map([...part.querySelectorAll("details")].map((box, n) => [box.id || n, box.open])),
    };
  }

  function restore(part, before) {
    part.querySelectorAll("details").forEach((box, n) => { box.open = before.open.get(box.id || n) ?? box.open; });
    part.querySelectorAll(".wide, pre").forEach((box, n) => { [box.scrollLeft, box.scrollTop] = before.scroll[n] || [0, 0]; });
    const gone = before.focus && refocus(part, before.focus);
    if (before.height === null) return;
    // what is worked at stays where it is on the screen, whatever has come or gone above it
    const active = document.activeElement;
    scrollBy({ top: active.getBoundingClientRect().top - before.height, behavior: "instant" });
    if (gone) active.scrollIntoView({ block: "nearest", inline: "nearest" });
  }

  function refocus(part, focus) { // returns whether what had the focus is gone: then its neighbour has it
    const all = stops(part);
    const same = all.filter((one) => named(one) === focus.name);
    if (!all.length) part.tabIndex = -1;
    (same[Math.min(focus.rank, same.length - 1)] || all[Math.min(Math.max(focus.at, 0), all.length - 1)] || part).focus({ preventScroll: true });
    return !same.length;
  }

  document.addEventListener("htmx:beforeSwap", (event) => {
    const part = event.detail.target;
    if (!part.matches || !part.matches("[data-live]")) return;
    const status = event.detail.xhr.status;
    if (status === 401) { location.reload(); return; }
    if (status >= 400) { event.detail.shouldSwap = false; return; }
    if (last.get(part) === event.detail.serverResponse || inUse(part)) { event.detail.shouldSwap = false; return; }
    last.set(part, event.detail.serverResponse);
    kept.set(part, place(part));
  });

  document.addEventListener("htmx:afterSwap", (event) => {
    const part = event.detail.target;
    dress(part);
    if (!kept.has(part)) return;
    restore(part, kept.get(part));
    kept.delete(part);
  });

  document.addEventListener("htmx:sendError", () => connection(true));
  document.addEventListener("htmx:afterRequest", (event) => { if (event.detail.successful) connection(false); });
  document.addEventListener("htmx:responseError", (event) => { if (event.detail.xhr.status >= 500) connection(true); });

  // ---- actions: asked in a dialog, answered by a short message; without this script both are pages ---------------

  function toast(text, bad) {
    const note = document.createElement("p");
    note.className = bad ? "toast bad" : "toast";
    const words = document.createElement("span");
    words.textContent = text;
    const close = document.createElement("button");
    close.type = "button";
    close.className = "plain";
    close.textContent = "×";
    close.setAttribute("aria-label", "Close this message");
    close.addEventListener("click", () => note.remove());
    note.append(words, close);
    if (dialog && dialog.open) { // what lies outside of an open question can be neither reached nor heard
      note.setAttribute("role", "alert");
      dialog.prepend(note);
      note.scrollIntoView({ block: "nearest" });
    } else document.getElementById("toasts").append(note);
    // what went wrong stays until somebody has read it
    if (!bad) setTimeout(() => { if (!note.matches(":hover, :focus-within")) note.remove(); }, 12000);
  }

  async function send(form, body) { // as the browser would send it, and the page that it would show
    const answer = await fetch(form.getAttribute("action"), { method: "POST", body, headers: { Accept: "text/html" }, credentials: "same-origin" });
    return { answer, page: new DOMParser().parseFromString(await answer.text(), "text/html") };
  }

  let dialog = null;
  let asker = null;

  function back() { // to the button that asked, or to the one in its place after news
    const same = (other) => ["textContent", "ariaLabel", "value"].every((name) => other[name] === asker[name]);
    (asker.isConnected ? asker : [...document.querySelectorAll("main button")].find(same))?.focus({ preventScroll: true });
  }

  function question() {
    if (dialog) return dialog;
    dialog = document.createElement("dialog");
    dialog.setAttribute("aria-labelledby", "question");
    dialog.addEventListener("close", () => { dialog.replaceChildren(); back(); });
    document.body.append(dialog);
    return dialog;
  }

  async function act(form, button) {
    const body = new URLSearchParams(new FormData(form, button)); // first: a disabled button does not say what it is for
    if (button) button.disabled = true;
    try {
      const { answer, page } = await send(form, body);
      if (answer.status === 401) { location.reload(); return; }
      const main = page.querySelector("main");
      if (!answer.ok) {
        const problem = page.querySelector(".problem");
        toast(problem ? problem.textContent.trim() : `The server answered ${answer.status}.`, true);
        return;
      }
      if (!answer.redirected) { // it wants to know whether that is meant, or a number for it
        const asked = question();
        asked.replaceChildren(...main.children);
        asked.querySelector("h1").id = "question";
        for (const inner of asked.querySelectorAll("form")) inner.dataset.dialog = "";
        dress(asked);
        if (!asked.open) { asker = button; asked.showModal(); }
        return;
      }
      const from = form.closest("dialog") ? asker && asker.form : form; // ticks of other forms are not done with
      if (dialog && dialog.open) dialog.close();
      for (const note of page.querySelectorAll("main .happened")) toast(note.textContent.trim(), note.classList.contains("bad"));
      if (from) for (const box of from.querySelectorAll("[data-live] input[type=checkbox]:checked")) box.checked = false;
      refresh();
    } catch {
      toast("The server does not answer; nothing was done as far as is known here.", true);
    } finally {
      if (button) button.disabled = false;
    }
  }

  document.addEventListener("submit", (event) => {
    const form = event.target;
    if (!form.matches("form[method=post][data-dialog]") || !window.HTMLDialogElement) return;
    event.preventDefault();
    act(form, event.submitter);
  });
  document.addEventListener("click", (event) => {
    const link = event.target.closest("dialog [data-close]");
    if (!link) return;
    event.preventDefault();
    dialog.close();
  });

  // ---- start ---------------------------------------------------------------------------------------------------

  document.addEventListener("click", (event) => {
    if (!event.target.closest("[data-theme-toggle]")) return;
    const dark = getComputedStyle(root).colorScheme === "dark";
    root.dataset.theme = dark ? "light" : "dark";
    localStorage.setItem("theme", root.dataset.theme);
    document.dispatchEvent(new CustomEvent("theme"));
  });
  document.addEventListener("visibilitychange", refresh);
  dress(document);
  setInterval(() => tellTimes(document), 1000);
  setInterval(refresh, every);
})();
