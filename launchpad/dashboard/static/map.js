// The similarity map: waits until it has been computed, then draws it; a point leads to its structure.
"use strict";

(() => {
  const waiting = document.getElementById("waiting");
  if (waiting) {
    const look = async () => {
      if (document.hidden) return;
      const answer = await fetch(waiting.dataset.state, { headers: { Accept: "application/json" } });
      if (answer.ok && (await answer.json()).state !== "computing") location.reload();
    };
    setInterval(look, 2000);
    return;
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
    place.dataset.drawn = String(ids.length);
  })().catch((error) => { chosen.textContent = `The map could not be drawn: ${error.message}`; });
})();
