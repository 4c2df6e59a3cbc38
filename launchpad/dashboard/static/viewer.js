// One structure in three dimensions: cell, bonds, periodic copies, colours by what is known of each atom, and the frames
// of its relaxation one after the other.
"use strict";

(() => {
  const place = document.getElementById("viewer");
  if (!place) return;
  const controls = document.getElementById("controls");
  const player = document.getElementById("player");
  const legend = document.getElementById("legend");
  const field = (name) => document.querySelector(`[data-${name}]`);
  // cividis, told apart by everybody, also in grey
  const ramp = [[0, 34, 78], [65, 77, 107], [124, 123, 120], [188, 175, 111], [254, 232, 56]];
  const units = { local_energy: "eV", force_error: "eV/Å" };
  const names = { local_energy: "Local energy", force_error: "Force error" };

  let data = null, shown = 0, timer = null, values = null, asked = null;
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
  const point = (v) => ({ x: v[0], y: v[1], z: v[2] });

  function cellLines(cell) {
    const corners = [0, 1].flatMap((i) => [0, 1].flatMap((j) => [0, 1].map((k) => [i, j, k])));
    for (const a of corners) for (const axis of [0, 1, 2]) {
      if (a[axis]) continue;
      const b = a.slice(); b[axis] = 1;
      const at = (c) => point(add(...c.map((n, k) => times(n, cell[k]))));
      viewer.addCylinder({ start: at(a), end: at(b), radius: 0.03, color: ink() });
    }
  }

  function draw(keepView) {
    const frame = data.frames[shown];
    const copies = data.periodic ? Number(field("copies").value) : 1;
    const by = field("colour").value;
    const own = by !== "element" && values && values.frame === frame.number ? values[by] : null;
    const view = keepView ? viewer.getView() : null;
    viewer.removeAllModels(); viewer.removeAllShapes();
    const lines = [];
    for (let i = 0; i < copies; i += 1) for (let j = 0; j < copies; j += 1) for (let k = 0; k < copies; k += 1) {
      const shift = add(times(i, frame.cell[0]), times(j, frame.cell[1]), times(k, frame.cell[2]));
      frame.positions.forEach((p, n) => lines.push(`${data.symbols[n]} ${add(p, shift).map((x) => x.toFixed(5)).join(" ")}`));
    }
    const model = viewer.addModel(`${lines.length}\n\n${lines.join("\n")}\n`, "xyz");
    const low = own ? Math.min(...own) : 0, high = own ? Math.max(...own) : 1;
    const ball = { scale: 0.28 };
    const stick = { radius: 0.12 };
    if (own) {
      const of = (atom) => colour(high > low ? (own[atom.index % own.length] - low) / (high - low) : 0.5);
      ball.colorfunc = of; stick.colorfunc = of;
    } else { ball.colorscheme = "Jmol"; stick.colorscheme = "Jmol"; }
    model.setStyle({}, field("bonds").checked ? { sphere: ball, stick } : { sphere: ball });
    if (field("cell").checked && data.periodic) cellLines(frame.cell);
    tellColours(by, own, low, high);
    tellFrame(frame);
    if (view) viewer.setView(view); else viewer.zoomTo();
    viewer.render();
    place.dataset.drawn = String(lines.length);
  }

  function tellColours(by, own, low, high) {
    legend.textContent = "";
    if (by === "element") return;
    if (!own) { legend.textContent = values && values.problem ? values.problem : `${names[by]} is being computed …`; return; }
    const bar = document.createElement("span");
    bar.className = "ramp";
    bar.style.background = `linear-gradient(to right, ${[0, 0.25, 0.5, 0.75, 1].map(colour).join(", ")})`;
    bar.setAttribute("role", "presentation");
    legend.append(`${names[by]}: ${low.toPrecision(4)}`, bar, `${high.toPrecision(4)} ${units[by]}`);
    const note = document.createElement("small");
    note.textContent = values.note;
    legend.append(note);
  }

  function tellFrame(frame) {
    if (data.frames.length < 2) return;
    const number = (value, digits, unit) => (value === null || value === undefined ? "" : `, ${value.toFixed(digits)} ${unit}`);
    field("frame").value = String(shown);
    document.querySelector("[data-frame-text]").textContent =
      `frame ${frame.number}, step ${frame.step}${number(frame.enthalpy, 4, "eV/atom")}${number(frame.force, 3, "eV/Å")}`
      + (data.left_out ? ` (${data.left_out} frames in between are left out)` : "");
  }

  async function ask() {
    const by = field("colour").value;
    const frame = data.frames[shown].number;
    if (by === "element" || (values && values.frame === frame)) return;
    asked = frame;
    for (let tries = 0; tries < 240 && asked === frame; tries += 1) {
      const answer = await fetch(`${place.dataset.values}?frame=${data.frames.length > 1 ? frame : ""}`, { headers: { Accept: "application/json" } });
      const found = await answer.json();
      if (answer.status === 200 || !answer.ok) {
        values = answer.ok ? { ...found, frame } : { frame, problem: found.error.message };
        if (values[field("colour").value] === null) values.problem = values.note;
        if (asked === frame) draw(true);
        return;
      }
      await new Promise((done) => setTimeout(done, 700));
    }
  }

  function go(frame) {
    shown = (frame + data.frames.length) % data.frames.length;
    draw(true);
  }

  function play(on) {
    clearInterval(timer);
    timer = on ? setInterval(() => { if (shown === data.frames.length - 1) play(false); else go(shown + 1); }, 200) : null;
    field("play").textContent = on ? "Pause" : "Play";
    if (!on) ask();
  }

  controls.addEventListener("change", () => { draw(!event_changes_size()); ask(); });
  let lastCopies = "1";
  function event_changes_size() {
    const now = field("copies").value;
    const changed = now !== lastCopies;
    lastCopies = now;
    return changed;
  }
  field("reset").addEventListener("click", () => draw(false));
  field("play").addEventListener("click", () => {
    if (timer) { play(false); return; }
    if (shown === data.frames.length - 1) go(0);
    play(true);
  });
  field("frame").addEventListener("input", (event) => { play(false); go(Number(event.target.value)); });
  place.addEventListener("keydown", (event) => {
    const turn = { ArrowLeft: ["y", -10], ArrowRight: ["y", 10], ArrowUp: ["x", -10], ArrowDown: ["x", 10] }[event.key];
    if (turn) viewer.rotate(turn[1], turn[0]);
    else if (event.key === "+") viewer.zoom(1.2);
    else if (event.key === "-") viewer.zoom(1 / 1.2);
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
      data = found;
      shown = data.start;
      player.hidden = data.frames.length < 2;
      field("frame").max = String(data.frames.length - 1);
      draw(false);
    })
    .catch((error) => { legend.textContent = `The structure could not be fetched: ${error.message}`; });
})();
