// One structure in three dimensions: cell, bonds, periodic copies, colours by what is known of each atom; and the frames
// of its relaxation one after the other, beside their energies and volumes. Two structures may stand side by side: then both
// have the same colours for the same values, and no frames.
"use strict";

const together = []; // of each structure of the page: what its colours have to span, and how it is drawn again

for (const place of document.querySelectorAll(".viewer")) {
  const controls = document.getElementById("controls");
  const player = document.getElementById("player");
  const legend = place.nextElementSibling;
  const curve = document.getElementById("curve");
  const field = (name) => document.querySelector(`[data-${name}]`);
  // cividis, told apart by everybody, also in grey
  const ramp = [[0, 34, 78], [65, 77, 107], [124, 123, 120], [188, 175, 111], [254, 232, 56]];
  const units = { local_energy: "eV", force_error: "eV/Å" };
  const names = { local_energy: "Local energy", force_error: "Force error" };

  let data = null, shown = 0, timer = null, asked = null;
  const known = new Map(); // what is known of the atoms, by frame
  const neighbours = new Map(); // by frame
  const viewer = window.$3Dmol.createViewer(place, { backgroundColor: paper(), antialias: true });
  place.querySelector("canvas").setAttribute("aria-hidden", "true");

  function paper() { return getComputedStyle(document.documentElement).getPropertyValue("--paper").trim(); }
  function ink() { return getComputedStyle(document.documentElement).getPropertyValue("--ink").trim(); }

  function colour(share) {
    const at = Math.min(Math.max(share, 0), 1) * (ramp.length - 1);
    const low = Math.min(Math.floor(at), ramp.length - 2);
    const mix = ramp[low].map((c, k) => Math.round(c + (at - low) * (ramp[low + 1][k] - c)));
    return `#${mix.map((c) => c.toString(16).padStart(2, "0")).join("")}`;
  }

  const add = (...vectors) => vectors.reduce((sum, v) => sum.map((x, k) => x + v[k]), [0, 0, 0]);
  const times = (factor, v) => v.map((x) => factor * x);
  const cross = (a, b) => [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]];
  const dot = (a, b) => a.reduce((sum, x, k) => sum + x * b[k], 0);
  const size = (v) => Math.sqrt(dot(v, v));
  const point = (v) => ({ x: v[0], y: v[1], z: v[2] });
  const volume = (cell) => Math.abs(dot(cell[0], cross(cell[1], cell[2])));

  // ---- bonds ---------------------------------------------------------------------------------------------------

  // Atoms up to 1.15 times the sum of their covalent radii apart are bonded, through the faces of the cell as well. An atom
  // that has no such neighbour, in a stretched cell, is joined by thin sticks to those that are about as near as its nearest.
  const usual = 1.15, shell = 1.15, farthest = 3;

  function within(frame, reach) { // pairs [i, j, vector from i to j] up to a distance
    const found = frame.positions.map(() => []);
    const heights = data.periodic ? [0, 1, 2].map((k) => volume(frame.cell) / size(cross(frame.cell[(k + 1) % 3], frame.cell[(k + 2) % 3]))) : [];
    // positions need not lie inside the cell
    const span = [0, 1, 2].map((k) => {
      const inside = frame.positions.map((p) => p[k]);
      return Math.max(...inside) - Math.min(...inside);
    });
    const number = [0, 1, 2].map((k) => (data.periodic ? Math.min(Math.ceil((reach + size(span)) / heights[k]), 12) : 0));
    for (let a = -number[0]; a <= number[0]; a += 1) for (let b = -number[1]; b <= number[1]; b += 1) for (let c = -number[2]; c <= number[2]; c += 1) {
      const shift = add(times(a, frame.cell[0]), times(b, frame.cell[1]), times(c, frame.cell[2]));
      frame.positions.forEach((p, i) => frame.positions.forEach((q, j) => {
        const vector = add(q, shift, times(-1, p));
        const length = size(vector);
        if (length > 0.01 && length <= reach) found[i].push({ i, j, vector, length });
      }));
    }
    return found;
  }

  function bondsOf(number) {
    if (!neighbours.has(number)) {
      const frame = data.frames[number];
      const largest = 2 * Math.max(...data.radii);
      const near = within(frame, usual * largest);
      const bonds = near.flat().filter(({ i, j, length }) => length <= usual * (data.radii[i] + data.radii[j]));
      const joined = new Set(bonds.map(({ i }) => i));
      if (joined.size < data.symbols.length) {
        within(frame, farthest * largest).forEach((around, i) => {
          if (joined.has(i) || !around.length) return;
          const nearest = Math.min(...around.map(({ length }) => length));
          for (const pair of around) if (pair.length <= shell * nearest) {
            const back = { i: pair.j, j: i, vector: times(-1, pair.vector) };
            bonds.push({ ...pair, thin: true });
            if (joined.has(pair.j)) bonds.push({ ...back, thin: true });
          }
        });
      }
      neighbours.set(number, bonds);
    }
    return neighbours.get(number);
  }

  // ---- drawing -------------------------------------------------------------------------------------------------

  function cellLines(cell) {
    const corners = [0, 1].flatMap((i) => [0, 1].flatMap((j) => [0, 1].map((k) => [i, j, k])));
    for (const a of corners) for (const axis of [0, 1, 2]) {
      if (a[axis]) continue;
      const b = a.slice(); b[axis] = 1;
      const at = (c) => point(add(...c.map((n, k) => times(n, cell[k]))));
      viewer.addCylinder({ start: at(a), end: at(b), radius: 0.03, color: ink() });
    }
  }

  const atom = (n, v, bonds) => ({ elem: data.symbols[n], ...point(v), bonds, bondOrder: bonds.map(() => 1), properties: { n } });

  function draw(keepView) {
    const frame = data.frames[shown];
    const copies = data.periodic ? Number(field("copies").value) : 1;
    const by = field("colour").value;
    const values = known.get(frame.number);
    const own = by !== "element" && values ? values[by] : null;
    const view = keepView ? viewer.getView() : null;
    viewer.removeAllModels(); viewer.removeAllShapes();
    const balls = [], sticks = [], thin = [];
    const bonds = field("bonds").checked ? bondsOf(shown) : [];
    for (let i = 0; i < copies; i += 1) for (let j = 0; j < copies; j += 1) for (let k = 0; k < copies; k += 1) {
      const shift = add(times(i, frame.cell[0]), times(j, frame.cell[1]), times(k, frame.cell[2]));
      frame.positions.forEach((p, n) => balls.push(atom(n, add(p, shift), [])));
      for (const bond of bonds) { // each atom draws its half
        const list = bond.thin ? thin : sticks;
        const start = add(frame.positions[bond.i], shift);
        list.push(atom(bond.i, start, [list.length + 1]), atom(bond.i, add(start, times(0.5, bond.vector)), [list.length]));
      }
    }
    const finite = own ? together.flatMap((view) => view.values(by)) : [];
    const low = finite.length ? Math.min(...finite) : 0, high = finite.length ? Math.max(...finite) : 1;
    const paint = own
      ? { colorfunc: (one) => colour(high > low ? (own[one.properties.n] - low) / (high - low) : 0.5) }
      : { colorscheme: "Jmol" };
    for (const [atoms, style] of [
      [balls, { sphere: { scale: 0.28, ...paint } }],
      [sticks, { stick: { radius: 0.12, ...paint } }],
      [thin, { stick: { radius: 0.04, ...paint } }],
    ]) {
      if (!atoms.length) continue;
      const model = viewer.addModel();
      model.addAtoms(atoms);
      model.setStyle({}, style);
    }
    if (field("cell").checked && data.periodic) cellLines(frame.cell);
    tellColours(by, own, low, high, values);
    tellFrame(frame);
    if (view) viewer.setView(view);
    else { // from the side, somewhat turned: along an edge of the cell atoms would hide each other
      viewer.setView([0, 0, 0, 0, 0, 0, 0, 1]);
      viewer.rotate(20, "y");
      viewer.rotate(-75, "x");
      viewer.rotate(10, "y");
      viewer.zoomTo();
    }
    viewer.render();
    place.dataset.drawn = String(balls.length);
    place.dataset.sticks = String((sticks.length + thin.length) / 2);
  }

  function chip(background) {
    const mark = document.createElement("span");
    mark.className = "chip";
    mark.style.background = background;
    return mark;
  }

  function tellColours(by, own, low, high, values) {
    legend.textContent = "";
    if (by === "element") {
      for (const symbol of [...new Set(data.symbols)]) {
        const hue = window.$3Dmol.elementColors.Jmol[symbol];
        legend.append(chip(hue === undefined ? "#ff1493" : `#${hue.toString(16).padStart(6, "0")}`), symbol);
      }
      return;
    }
    if (!own) { legend.textContent = values ? values.problem || values.note : `${names[by]} is being computed …`; return; }
    const bar = document.createElement("span");
    bar.className = "ramp";
    bar.style.background = `linear-gradient(to right, ${[0, 0.25, 0.5, 0.75, 1].map(colour).join(", ")})`;
    bar.setAttribute("role", "presentation");
    legend.append(`${names[by]} (${units[by]}): ${low.toPrecision(4)}`, bar, high.toPrecision(4));
    const note = document.createElement("small");
    note.textContent = values.note;
    legend.append(note);
  }

  async function ask() {
    const by = field("colour").value;
    const frame = data.frames[shown].number;
    if (by === "element" || known.has(frame) || asked === frame) return;
    asked = frame;
    // the server ends what takes too long; one that is away for a while is asked again
    while (asked === frame && field("colour").value !== "element") {
      let answer = null, found = null;
      try {
        answer = await fetch(`${place.dataset.values}?frame=${data.frames.length > 1 ? frame : ""}`, { headers: { Accept: "application/json" } });
        found = await answer.json();
      } catch { answer = null; }
      const problem = answer && !answer.ok && found.error && found.error.message;
      if (problem || (answer && answer.status === 200)) {
        known.set(frame, problem ? { problem } : found);
        if (asked === frame) { asked = null; for (const view of together) view.draw(); }
        return;
      }
      await new Promise((done) => setTimeout(done, answer && answer.ok ? 700 : 3000));
    }
    if (asked === frame) asked = null;
  }

  // ---- frames --------------------------------------------------------------------------------------------------

  function tellFrame(frame) {
    if (data.frames.length < 2) return;
    const number = (name, value, digits, unit) => (value === null || value === undefined ? "" : `, ${name} ${value.toFixed(digits)} ${unit}`);
    field("frame").value = String(shown);
    document.querySelector("[data-frame-text]").textContent =
      `frame ${frame.number}, step ${frame.step}${number("enthalpy", frame.enthalpy, 4, "eV/atom")}${number("volume", volume(frame.cell) / data.symbols.length, 3, "Å³/atom")}${number("largest force", frame.force, 3, "eV/Å")}`
      + (data.left_out ? ` (${data.left_out} frames in between are left out)` : "");
    for (const mark of curve.querySelectorAll("[data-mark]")) {
      const spot = marks.get(mark)[shown];
      mark.setAttribute("visibility", spot ? "visible" : "hidden");
      if (spot) { mark.setAttribute("cx", spot[0]); mark.setAttribute("cy", spot[1]); }
    }
    // files are those of the frame that is shown
    for (const link of document.querySelectorAll("[data-file]")) {
      const key = `${data.relaxation}/frame/${String(frame.number).padStart(4, "0")}`;
      link.href = shown === data.start ? link.dataset.file : link.dataset.any.replace("KEY", key.split("/").map(encodeURIComponent).join("/"));
    }
  }

  const marks = new Map();

  function svg(name, attributes, parent, text) {
    const element = parent.appendChild(document.createElementNS("http://www.w3.org/2000/svg", name));
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    if (text !== undefined) element.textContent = text;
    return element;
  }

  function round(low, high) { // about three round numbers between two
    const step = (high - low) / 3;
    const decade = 10 ** Math.floor(Math.log10(step));
    const unit = [1, 2, 5, 10].map((n) => n * decade).find((n) => n >= step);
    const found = [];
    for (let k = Math.ceil(low / unit); k * unit <= high + 1e-12 * unit; k += 1) found.push(Number((k * unit).toPrecision(12)));
    return found;
  }

  function drawCurve() { // enthalpy above, volume below, over the step
    curve.replaceChildren();
    const steps = data.frames.map((frame) => frame.step);
    const first = Math.min(...steps), last = Math.max(...steps, first + 1);
    const across = (step) => 64 + (346 * (step - first)) / (last - first);
    const panels = [
      ["enthalpy (eV/atom)", data.frames.map((frame) => frame.enthalpy)],
      ["volume (Å³/atom)", data.frames.map((frame) => volume(frame.cell) / data.symbols.length)],
    ];
    panels.forEach(([title, values], row) => {
      const finite = values.filter((value) => value !== null && value !== undefined);
      if (!finite.length) return;
      const low = Math.min(...finite);
      const high = Math.max(...finite) > low ? Math.max(...finite) : low + 1e-3 * Math.max(Math.abs(low), 1);
      const top = 22 + 130 * row, height = 96;
      const up = (value) => top + height * (1 - (value - low) / (high - low));
      svg("text", { x: 4, y: top - 8 }, curve, title);
      for (const mark of round(low, high)) {
        svg("line", { x1: 64, x2: 410, y1: up(mark), y2: up(mark), class: "grid" }, curve);
        svg("text", { x: 58, y: up(mark) + 4, "text-anchor": "end" }, curve, String(mark));
      }
      const spots = values.map((value, k) => (value === null || value === undefined ? null : [across(steps[k]), up(value)]));
      svg("polyline", { points: spots.filter(Boolean).map((spot) => spot.join(",")).join(" "), class: "line" }, curve);
      marks.set(svg("circle", { r: 5, "data-mark": "", class: "mark" }, curve), spots);
    });
    for (const mark of round(first, last).filter(Number.isInteger)) svg("text", { x: across(mark), y: 266, "text-anchor": "middle" }, curve, String(mark));
    svg("text", { x: 237, y: 282, "text-anchor": "middle" }, curve, "step of the relaxation");
    curve.onclick = (event) => {
      const box = curve.getBoundingClientRect();
      const at = ((event.clientX - box.left) / box.width) * 420;
      const away = steps.map((step) => Math.abs(across(step) - at));
      play(false);
      go(away.indexOf(Math.min(...away)));
    };
  }

  function go(frame) {
    shown = Math.min(Math.max(frame, 0), data.frames.length - 1);
    draw(true);
    if (!timer) ask();
  }

  function play(on) {
    clearInterval(timer);
    timer = on ? setInterval(() => { if (shown === data.frames.length - 1) play(false); else go(shown + 1); }, 1000 / Number(field("speed").value)) : null;
    field("play").textContent = on ? "Pause" : "Play";
    if (!on) ask();
  }

  function turnOnOrOff() {
    if (timer) { play(false); return; }
    if (shown === data.frames.length - 1) go(0);
    play(true);
  }

  controls.addEventListener("change", () => { draw(!copiesChanged()); ask(); });
  let lastCopies = field("copies").value;
  function copiesChanged() {
    const now = field("copies").value;
    const changed = now !== lastCopies;
    lastCopies = now;
    return changed;
  }
  field("reset").addEventListener("click", () => draw(false));
  if (player) {
    field("play").addEventListener("click", turnOnOrOff);
    field("back").addEventListener("click", () => { play(false); go(shown - 1); });
    field("on").addEventListener("click", () => { play(false); go(shown + 1); });
    field("speed").addEventListener("change", () => { if (timer) play(true); });
    field("frame").addEventListener("input", (event) => { play(false); go(Number(event.target.value)); });
  }
  place.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || !data) return;
    const turn = { ArrowLeft: ["y", -10], ArrowRight: ["y", 10], ArrowUp: ["x", -10], ArrowDown: ["x", 10] }[event.key];
    const frames = data.frames.length > 1;
    if (turn) viewer.rotate(turn[1], turn[0]);
    else if (event.key === "+") viewer.zoom(1.2);
    else if (event.key === "-") viewer.zoom(1 / 1.2);
    else if (event.key === " " && frames) turnOnOrOff();
    else if (event.key === "," && frames) { play(false); go(shown - 1); }
    else if (event.key === "." && frames) { play(false); go(shown + 1); }
    else return;
    viewer.render();
    event.preventDefault();
  });
  const repaint = () => { viewer.setBackgroundColor(paper()); if (data) draw(true); };
  document.addEventListener("theme", repaint);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", repaint);
  addEventListener("resize", () => viewer.resize());

  fetch(place.dataset.frames, { headers: { Accept: "application/json" } })
    .then((answer) => { if (!answer.ok) throw new Error(`${answer.status}`); return answer.json(); })
    .then((found) => {
      data = player ? found : { ...found, frames: [found.frames[found.start]], start: 0 };
      shown = data.start;
      if (player) {
        player.hidden = data.frames.length < 2;
        field("frame").max = String(data.frames.length - 1);
        if (!player.hidden) drawCurve();
      }
      draw(false);
      ask(); // a browser that comes back has the choices of before
    })
    .catch((error) => { legend.textContent = `The structure could not be fetched: ${error.message}`; });

  together.push({
    values: (by) => {
      const of = data && known.get(data.frames[shown].number);
      return of && of[by] ? of[by].filter((value) => value !== null) : [];
    },
    draw: () => { if (data) draw(true); },
  });
}
