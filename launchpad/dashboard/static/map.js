// The similarity map; a point leads to its structure.
"use strict";

(() => {
  // chemiscope reads its canvases back again and again and does not say so: the browser warns, and is slower
  const context = HTMLCanvasElement.prototype.getContext;
  HTMLCanvasElement.prototype.getContext = function getContext(kind, options) {
    return context.call(this, kind, kind === "2d" ? { ...options, willReadFrequently: true } : options);
  };

  // what chemiscope draws as icons gets names for those who do not see them
  const names = [
    [".chsp-info-number", "Number of the structure"],
    ["input[type=range]", "Structure by number"],
    [".chsp-viewer-button", "Settings"],
    ["button, [role=button]", "Button of the map"],
  ];
  function all(node, selector) {
    const found = [...node.querySelectorAll(selector)];
    for (const inner of node.querySelectorAll("*")) if (inner.shadowRoot) found.push(...all(inner.shadowRoot, selector));
    return found;
  }
  function giveNames(node) {
    for (const [selector, name] of names) for (const element of all(node, selector)) {
      if (!element.matches("button, input")) { element.setAttribute("role", "button"); element.tabIndex = 0; }
      // tooltips are there as text that nobody hears
      if (!element.ariaLabel) element.ariaLabel = element.title || element.textContent.trim() || name;
    }
    for (const element of all(node, "div[aria-expanded]:not([role])")) element.removeAttribute("aria-expanded");
    for (const input of all(node, "input:not([aria-label])")) if (!input.labels.length) input.ariaLabel = "Setting of the map";
  }

  const place = document.getElementById("map");
  if (!place) return;
  const chosen = document.getElementById("chosen");
  const get = async (address) => {
    const answer = await fetch(address, { headers: { Accept: "application/json" } });
    if (!answer.ok) throw new Error(`${address}: ${answer.status}`);
    return answer.json();
  };

  function tell(id) {
    const link = document.createElement("a");
    link.href = place.dataset.page.replace("KEY", id.split("/").map(encodeURIComponent).join("/"));
    link.textContent = id;
    chosen.textContent = "Chosen: ";
    chosen.append(link);
    const address = new URL(location.href);
    address.searchParams.set("point", id);
    history.replaceState(null, "", address);
  }

  (async () => {
    // chemiscope's script comes after this one
    if (document.readyState !== "complete") await new Promise((done) => { addEventListener("load", done, { once: true }); });
    const data = await get(place.dataset.map);
    const ids = data.properties.structure.values;
    delete data.properties.structure;
    const parts = {};
    for (const name of ["meta", "map", "info", "structure"]) {
      const part = document.createElement("div");
      part.id = `map-${name}`;
      parts[name] = part;
      place.append(part);
    }
    const visualizer = await window.Chemiscope.DefaultVisualizer.load(
      { ...parts, loadStructure: async (index, structure) => get(structure.data) }, data);
    const select = visualizer.map.onselect;
    visualizer.map.onselect = (indexes) => { select(indexes); tell(ids[indexes.structure]); };
    const wanted = ids.indexOf(new URL(location.href).searchParams.get("point") || "");
    if (wanted >= 0) { visualizer.select({ structure: wanted }); tell(ids[wanted]); }
    else tell(ids[0]);
    giveNames(place);
    place.dataset.drawn = String(ids.length);
  })().catch((error) => { chosen.textContent = `The map could not be drawn: ${error.message}`; });
})();
