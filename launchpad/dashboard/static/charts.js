// Charts: every [data-chart] fetches its figure, draws it, and looks for a newer one while somebody looks.
"use strict";

(() => {
  const config = { responsive: true, displaylogo: false, modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"] };
  const charts = new Map();
  const atOnce = 3;
  let running = 0;
  const waiting = [];

  // ---- colours of the page -------------------------------------------------------------------------------------

  const variable = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

  function withColours(value) {
    if (typeof value === "string") {
      const found = /^var\((--[a-z]+)\)$/.exec(value);
      return found ? variable(found[1]) : value;
    }
    if (Array.isArray(value)) return value.length && typeof value[0] === "number" ? value : value.map(withColours);
    if (value && typeof value === "object") {
      return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, withColours(inner)]));
    }
    return value;
  }

  // ---- axes that are linear up to a value and logarithmic above ------------------------------------------------

  const bend = (value, limit) => {
    if (value === null || Math.abs(value) <= limit) return value === null ? null : value / limit;
    return Math.sign(value) * (1 + Math.log10(Math.abs(value) / limit));
  };

  function bendTicks(values, limit) {
    const low = Math.min(0, ...values);
    const high = Math.max(limit, ...values);
    const marks = [0, limit / 2, limit];
    const decades = Math.ceil(Math.log10(Math.max(high, -low, limit) / limit));
    for (let decade = 0; decade <= decades; decade += 1) {
      for (const factor of decades > 2 ? [10] : [2, 5, 10]) marks.push(limit * factor * 10 ** decade);
    }
    const all = [...marks.slice(1).map((mark) => -mark), ...marks].filter((mark) => mark >= low * 1.3 && mark <= high * 1.3);
    const unique = [...new Set(all.map((mark) => Number(mark.toPrecision(6))))].sort((a, b) => a - b);
    return { tickmode: "array", tickvals: unique.map((mark) => bend(mark, limit)), ticktext: unique.map((mark) => String(mark)) };
  }

  // of a box whose numbers are given as such
  const counted = ["lowerfence", "q1", "median", "q3", "upperfence"];

  function bent(figure) {
    const { axes, linear_to: limit } = figure.layout.meta.bent;
    const layout = { ...figure.layout };
    const data = figure.data.map((trace) => ({ ...trace }));
    for (const axis of axes) {
      for (const name of Object.keys(layout).filter((key) => key.startsWith(`${axis}axis`))) {
        const reference = axis + name.slice(5);
        const mine = data.filter((trace) => (trace[`${axis}axis`] || axis) === reference);
        const values = mine.flatMap((trace) => (trace.q1 ? counted.flatMap((key) => trace[key]) : trace[axis] || [])).filter((value) => value !== null);
        layout[name] = { ...layout[name], ...bendTicks(values, limit), range: undefined, zeroline: true };
        for (const trace of mine.filter((one) => one.q1)) {
          for (const key of counted) trace[key] = trace[key].map((value) => bend(value, limit));
        }
        for (const trace of mine.filter((one) => !one.q1)) {
          // what is shown at the pointer are the numbers themselves
          const shown = trace[axis].map(short);
          trace[axis] = trace[axis].map((value) => bend(value, limit));
          trace.straight = { ...(trace.straight || {}), [axis]: shown };
        }
      }
    }
    for (const trace of data.filter((one) => one.straight && one.hoverinfo !== "skip" && one.type !== "box")) {
      const x = trace.straight.x || trace.x.map(short);
      const y = trace.straight.y || trace.y.map(short);
      const old = trace.customdata || [];
      // the chart's own words with the numbers in them, as they were before they were bent
      const words = (trace.hovertemplate || "%{x}, %{y}").replace(/<extra>.*/, "").replace(/%\{customdata\}(<br>)?/, "");
      const inside = /%\{customdata:[^}]*\}/; // a number among the words, else a name above them
      trace.text = x.map((_, k) => [inside.test(words) ? "" : old[k], words.replace(inside, () => short(old[k])).replace(/%\{x[^}]*\}/, x[k]).replace(/%\{y[^}]*\}/, y[k])].filter((part) => part !== undefined && part !== "").join("<br>"));
      trace.hovertemplate = hover(trace);
    }
    for (const trace of data.filter((one) => one.straight && one.type === "box")) {
      // of its own numbers, the quartiles, a bent box knows bent ones only
      Object.assign(trace, { hoveron: "points", text: trace.straight.y, hovertemplate: "%{text}<extra></extra>" });
    }
    for (const trace of data) delete trace.straight;
    return { data, layout };
  }

  const short = (value) => (value === null ? "" : Number(Number(value).toPrecision(5)).toString());
  const hover = (trace) => `%{text}<extra>${trace.name || ""}</extra>`;

  function straight(figure) {
    const layout = { ...figure.layout };
    for (const name of (layout.meta && layout.meta.logarithmic) || []) layout[name] = { ...layout[name], type: "linear", tickmode: "auto", range: undefined };
    return { data: figure.data, layout };
  }

  // ---- what colours mean ---------------------------------------------------------------------------------------

  function colouredBy(figure, name) { // a series says how its markers differ from the first way
    const data = figure.data.map((trace) => {
      const marker = trace.meta && trace.meta.by && trace.meta.by[name];
      return marker ? { ...trace, marker: { ...trace.marker, ...marker } } : trace;
    });
    return { data, layout: figure.layout };
  }

  function offerColours(section, ways) {
    const label = section.querySelector("[data-by]");
    label.hidden = !ways;
    const select = label.querySelector("select");
    if (!ways || select.options.length) return;
    for (const way of ways) select.add(new Option(way, way));
  }

  // ---- drawing -------------------------------------------------------------------------------------------------

  function themed(layout, mode, width) {
    const ink = variable("--ink");
    const line = variable("--line");
    const result = {
      ...layout,
      autosize: true,
      uirevision: mode,
      paper_bgcolor: "rgba(0,0,0,0)",
      plot_bgcolor: "rgba(0,0,0,0)",
      font: { color: ink, family: getComputedStyle(document.body).fontFamily, size: 13 },
      margin: { l: 10, r: 10, t: 30, b: 10 },
      legend: { orientation: "h", yanchor: "bottom", y: 1.02, x: 0, itemsizing: "constant" },
      hoverlabel: { bgcolor: variable("--panel"), bordercolor: line, font: { color: ink } },
      hovermode: "closest",
    };
    for (const name of Object.keys(layout).filter((key) => /^[xy]axis/.test(key))) {
      const title = layout[name].title;
      // on a phone the unit goes below the words
      if (width < 480 && name.startsWith("x") && title.text.length > 30) layout[name] = { ...layout[name], title: { ...title, text: title.text.replace(" (", "<br>(") } };
      result[name] = { zeroline: false, ...layout[name], gridcolor: line, zerolinecolor: line, linecolor: line, tickcolor: line };
    }
    return result;
  }

  async function draw(section) {
    const state = charts.get(section);
    const plot = section.querySelector(".plot");
    const chart = state.chart;
    section.querySelector("h2").textContent = chart.title;
    section.querySelector(".caption").textContent = chart.caption;
    section.querySelector(".note").textContent = chart.missing;
    for (const link of section.querySelectorAll("[data-picture]")) link.hidden = !chart.figure;
    section.querySelector("[data-table]").hidden = chart.n_rows === 0;
    fillTable(section.querySelector("details"), chart);
    const button = section.querySelector("[data-scale]");
    section.classList.toggle("bare", !chart.figure);
    // a table that goes with no figure is what there is to see
    if (!chart.figure && !state.told && chart.n_rows) section.querySelector("details").open = state.told = true;
    if (!chart.figure) {
      if (plot.hasChildNodes()) Plotly.purge(plot);
      plot.replaceChildren();
      plot.style.height = "";
      button.hidden = true;
      offerColours(section, null);
      return;
    }
    const meta = chart.figure.layout.meta || {};
    button.hidden = !(meta.bent || meta.logarithmic);
    button.textContent = state.linear ? "Logarithmic axes" : "Linear axes";
    offerColours(section, meta.by);
    let figure = chart.figure;
    if (meta.by) figure = colouredBy(figure, section.querySelector("[data-by] select").value);
    if (state.linear) figure = straight(figure);
    else if (meta.bent) figure = bent(figure);
    const mode = state.linear ? "linear" : "as drawn";
    // when the window changes its size, a chart takes the height of its place
    plot.style.height = `${figure.layout.height}px`;
    await Plotly.react(plot, withColours(figure.data), withColours(themed({ ...figure.layout }, mode, plot.clientWidth)), config);
    plot.setAttribute("data-drawn", String(Date.now()));
    if (!state.listening) {
      state.listening = true;
      plot.on("plotly_click", (event) => {
        const point = event.points[0];
        if (point && point.data.meta && point.data.meta.structures && point.customdata) location.href = page(section, point.customdata);
      });
      plot.on("plotly_hover", (event) => {
        const data = event.points[0] && event.points[0].data;
        plot.classList.toggle("leads", Boolean(data && data.meta && data.meta.structures));
      });
      plot.on("plotly_unhover", () => plot.classList.remove("leads"));
    }
  }

  const page = (section, id) => section.dataset.structures + String(id).split("/").map(encodeURIComponent).join("/");

  function fillTable(details, chart) {
    const section = details.closest("[data-chart]");
    const table = details.querySelector("table");
    details.hidden = chart.rows.length === 0;
    const caption = document.createElement("caption");
    caption.textContent = chart.rows.length < chart.n_rows
      ? `The first ${chart.rows.length} of ${chart.n_rows} rows; the CSV has all.` : `${chart.n_rows} rows`;
    const head = document.createElement("thead").appendChild(document.createElement("tr"));
    for (const name of chart.header) {
      const cell = head.appendChild(document.createElement("th"));
      cell.scope = "col";
      cell.textContent = name;
    }
    const body = document.createElement("tbody");
    for (const row of chart.rows) {
      const line = body.appendChild(document.createElement("tr"));
      for (const value of row) {
        const cell = line.appendChild(document.createElement("td"));
        if (value && chart.header[line.children.length - 1] === "structure") {
          const link = cell.appendChild(document.createElement("a"));
          link.href = page(section, value);
          link.textContent = value;
        } else cell.textContent = value === null ? "" : typeof value === "number" ? String(Number(value.toPrecision(7))) : value;
      }
    }
    const active = table.contains(document.activeElement) ? document.activeElement : null;
    const box = active && active.getBoundingClientRect();
    table.replaceChildren(caption, head.parentNode, body);
    if (!active) return;
    // whoever is at a structure stays at it, and sees it if it was in sight
    const same = [...table.querySelectorAll("a")].find((link) => link.href === active.href);
    (same || table.closest("[tabindex]"))?.focus({ preventScroll: box.bottom < 0 || box.top > innerHeight });
  }

  // ---- fetching ------------------------------------------------------------------------------------------------

  function next() {
    while (running < atOnce && waiting.length) {
      const section = waiting.shift();
      const state = charts.get(section);
      running += 1;
      state.busy = true;
      load(section).finally(() => { running -= 1; state.busy = false; next(); });
    }
  }

  function ask(section) {
    const state = charts.get(section);
    if (!state.busy && !state.timer && !waiting.includes(section)) waiting.push(section);
    next();
  }

  async function load(section) {
    const state = charts.get(section);
    const note = section.querySelector(".note");
    let answer;
    try {
      answer = await fetch(section.dataset.chart, { headers: { Accept: "application/json" }, credentials: "same-origin" });
    } catch {
      if (!state.chart) note.textContent = "The server does not answer.";
      return;
    }
    if (answer.status === 401) { location.reload(); return; }
    if (answer.status === 202) {
      const { text, done, total } = (await answer.json()).progress;
      note.textContent = text ? `Being worked out: ${text}${total ? ` (${done} of ${total})` : ""}` : "Being worked out…";
      state.timer = setTimeout(() => { state.timer = null; ask(section); }, 1000 * Number(answer.headers.get("Retry-After") || 1));
      return;
    }
    if (!answer.ok) {
      const problem = await answer.json().catch(() => null);
      if (!state.chart) note.textContent = (problem && problem.error && problem.error.message) || `The chart cannot be had (${answer.status}).`;
      return;
    }
    const tag = answer.headers.get("ETag");
    if (tag && tag === state.tag) return;
    state.tag = tag;
    state.chart = await answer.json();
    await draw(section);
  }

  // ---- start ---------------------------------------------------------------------------------------------------

  const seen = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (!entry.isIntersecting) continue;
      const state = charts.get(entry.target);
      state.near = true;
      if (!state.chart) ask(entry.target);
    }
  }, { rootMargin: "600px" });

  for (const section of document.querySelectorAll("[data-chart]")) {
    charts.set(section, { chart: null, tag: null, linear: false, near: false, listening: false, busy: false, timer: null });
    section.querySelector("[data-scale]").addEventListener("click", () => {
      const state = charts.get(section);
      state.linear = !state.linear;
      draw(section);
    });
    section.querySelector("[data-by] select").addEventListener("change", () => draw(section));
    seen.observe(section);
  }

  function redraw() {
    for (const [section, state] of charts) if (state.chart) draw(section);
  }
  document.addEventListener("theme", redraw);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);

  const every = 6000 * Number(document.documentElement.dataset.refresh || 5);
  setInterval(() => {
    if (document.hidden) return;
    for (const [section, state] of charts) if (state.near) ask(section);
  }, every);
})();
