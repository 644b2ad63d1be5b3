"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const words = data.words;
  const $ = (id) => document.getElementById(id);
  const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
  const percent = (x) => (x === null ? "-" : (100 * x).toFixed(2));
  const order = new Map(data.ranking.map((recipe, place) => [recipe, place]));
  const ranked = (rows) => [...rows].sort((a, b) => order.get(a.recipe) - order.get(b.recipe));
  const set = () => data.datasets[$("dataset") ? Number($("dataset").value) : 0];

  // Tables

  function sortBy(table, column) {
    const headings = [...table.tHead.rows[0].cells];
    const now = headings[column].getAttribute("aria-sort");
    const numeric = [...table.tBodies[0].rows].every((row) => !row.cells[column].classList.contains("text"));
    const first = numeric ? "descending" : "ascending";
    const next = now === null ? first : now === "ascending" ? "descending" : "ascending";
    headings.forEach((cell) => cell.removeAttribute("aria-sort"));
    headings[column].setAttribute("aria-sort", next);
    const sign = next === "ascending" ? 1 : -1;
    const rows = [...table.tBodies[0].rows].map((row) => [row, row.cells[column].dataset.value]);
    rows.sort(([, a], [, b]) => {
      if (a === undefined || b === undefined) return (a === undefined) - (b === undefined);
      return sign * (numeric ? Number(a) - Number(b) : a.localeCompare(b));
    });
    table.tBodies[0].append(...rows.map(([row]) => row));
  }

  document.addEventListener("click", (event) => {
    const button = event.target.closest("th button");
    if (button) sortBy(button.closest("table"), button.parentElement.cellIndex);
  });

  // Texts only ever become text nodes.
  function fill(table, headings, rows) {
    const head = document.createElement("tr");
    for (const [column, heading] of headings.entries()) {
      const cell = document.createElement("th");
      const button = document.createElement("button");
      cell.scope = "col";
      if (rows.length && typeof rows[0][column][1] === "string") cell.className = "text";
      button.type = "button";
      button.textContent = heading;
      cell.append(button);
      head.append(cell);
    }
    const body = document.createElement("tbody");
    for (const cells of rows) {
      const row = body.insertRow();
      for (const [text, value] of cells) {
        const cell = row.insertCell();
        cell.textContent = text;
        if (value !== null) cell.dataset.value = value;
        if (typeof value === "string") cell.className = "text";
      }
    }
    const top = document.createElement("thead");
    top.append(head);
    table.replaceChildren(top, body);
  }

  // Plots

  function plot(id, spec) {
    const place = $(id);
    const width = Math.max(220, Math.floor(place.clientWidth));
    const ink = color("ink"), muted = color("muted"), line = color("line");
    const config = {
      background: "transparent",
      font: getComputedStyle(document.body).fontFamily,
      view: { stroke: "transparent" },
      axis: {
        labelColor: muted, titleColor: muted, gridColor: line, domainColor: line, tickColor: line,
        titleFontWeight: "normal", labelFontSize: 12, titleFontSize: 12, labelLimit: 170,
      },
      legend: { labelColor: muted, titleColor: muted },
      text: { color: ink },
    };
    const whole = { description: words[id], width, autosize: { type: "fit-x", contains: "padding" }, config, ...spec };
    return vegaEmbed(place, whole, { mode: "vega-lite", renderer: "svg", actions: false, ast: true });
  }

  function drawForest() {
    $("forest_help").textContent = words.forest_help.replace("{metric}", set().metric);
    const rows = ranked(set().scores).filter((row) => row.value !== null && !data.equal[row.recipe]).map((row) => ({
      recipe: row.recipe,
      value: 100 * row.value,
      low: row.ci95 && 100 * row.ci95[0],
      high: row.ci95 && 100 * row.ci95[1],
      shown: row.ci95 ? `${percent(row.value)} [${percent(row.ci95[0])}, ${percent(row.ci95[1])}]` : percent(row.value),
      chosen: row.recipe === data.best,
    }));
    if (!rows.length) {
      $("forest").textContent = "-";
      return null;
    }
    const baseline = rows.filter((row) => row.recipe === data.baseline);
    const metric = set().metric;
    const y = { field: "recipe", type: "nominal", sort: null, title: null };
    const x = { type: "quantitative", scale: { zero: false }, title: metric + " x 100" };
    const hue = { condition: { test: "datum.chosen", value: color("second") }, value: color("accent") };
    const tooltip = [
      { field: "recipe", type: "nominal", title: words.recipe },
      { field: "shown", type: "nominal", title: metric },
    ];
    return plot("forest", {
      height: 22 * rows.length,
      data: { values: rows },
      encoding: { y, tooltip },
      layer: [
        ...(baseline.length ? [{ data: { values: baseline }, mark: { type: "rule", strokeDash: [4, 4], color: color("muted") }, encoding: { x: { ...x, field: "value" }, y: null } }] : []),
        { mark: { type: "rule", strokeWidth: 2 }, encoding: { x: { ...x, field: "low" }, x2: { field: "high" }, color: hue } },
        { mark: { type: "point", filled: true, size: 60, opacity: 1 }, encoding: { x: { ...x, field: "value" }, color: hue } },
      ],
    });
  }

  function drawHeat() {
    const cells = set().scores.filter((row) => row.value !== null && data.layers[row.recipe]).map((row) => ({
      pooling: data.layers[row.recipe][0], layer: data.layers[row.recipe][1], value: 100 * row.value,
    }));
    if (new Set(cells.map((cell) => cell.layer)).size < 2) {
      $("heat").textContent = words.all_layers;
      $("heat").className = "help";
      return null;
    }
    const values = cells.map((cell) => cell.value);
    const middle = (Math.min(...values) + Math.max(...values)) / 2;
    return plot("heat", {
      height: 26 * new Set(cells.map((cell) => cell.layer)).size,
      data: { values: cells },
      encoding: {
        x: { field: "pooling", type: "nominal", title: words.pooling, axis: { labelAngle: -35 } },
        y: { field: "layer", type: "ordinal", sort: "descending", title: words.layer },
      },
      layer: [
        { mark: "rect", encoding: { color: { field: "value", type: "quantitative", legend: null, scale: { range: [color("low"), color("high")], interpolate: "lab" } } } },
        { mark: { type: "text", fontSize: 11 }, encoding: {
          text: { field: "value", type: "quantitative", format: ".1f" },
          color: { condition: { test: `datum.value > ${middle}`, value: color("high-ink") }, value: color("low-ink") },
        } },
      ],
    });
  }

  function drawScatter(recipe) {
    const points = set().points;
    const predictions = points.predictions[recipe];
    const shown = points.scores.length;
    $("drawn").textContent = shown < points.n
      ? words.drawn.replace("{shown}", shown.toLocaleString()).replace("{n}", points.n.toLocaleString()) : "";
    if (!predictions) return null;
    const values = predictions.map((prediction, place) => ({
      prediction, score: points.scores[place],
      sentence1: points.sentence1[place], sentence2: points.sentence2[place],
    }));
    const names = ["score", "prediction", "sentence1", "sentence2"];
    return plot("scatter", {
      height: 320,
      data: { values },
      mark: { type: "point", filled: true, size: 24, opacity: 0.4, color: color("accent") },
      encoding: {
        x: { field: "score", type: "quantitative", title: words.score, scale: { zero: false } },
        y: { field: "prediction", type: "quantitative", title: words.prediction, scale: { zero: false } },
        tooltip: names.map((field) => ({ field, type: field.startsWith("s") && field !== "score" ? "nominal" : "quantitative", title: words[field] })),
      },
    });
  }

  function drawBins(id, bins, digits) {
    const values = bins.map((bin) => ({
      name: `${bin.low.toFixed(digits)}–${bin.high.toFixed(digits)} (n = ${bin.n})`,
      value: bin.value === null ? null : 100 * bin.value,
      shown: bin.value === null ? "-" : percent(bin.value),
    }));
    const all = [0, ...values.map((bin) => bin.value)];
    const domain = [1.2 * Math.min(...all), 1.2 * Math.max(...all) || 1];  // room for the numbers
    return plot(id, {
      height: 26 * values.length,
      data: { values },
      encoding: {
        y: { field: "name", type: "nominal", sort: null, title: null },
        x: { field: "value", type: "quantitative", title: words.spearman + " x 100", scale: { domain, nice: false } },
      },
      layer: [
        { mark: { type: "bar", color: color("accent"), height: 14 } },
        { mark: { type: "text", align: "left", dx: 5, fontSize: 12 }, encoding: { text: { field: "shown" } } },
      ],
    });
  }

  // Diagnosis

  const off = (x) => [(x > 0 ? "+" : "") + (100 * x).toFixed(0) + " %", Math.abs(x)];

  function showGeometry() {
    const names = ["mean_cosine", "top_share", "effective_rank"];
    const digits = [3, 3, 1];
    const shaped = ranked(set().diagnosis.recipes).filter((one) => one.geometry);
    $("shape").hidden = !shaped.length;
    const rows = shaped.map((one) => [
      [one.recipe, one.recipe],
      ...names.map((name, place) => {
        const value = one.geometry[name];
        return [value === null ? "-" : value.toFixed(digits[place]), value];
      }),
    ]);
    fill($("geometry"), [words.recipe, ...names.map((name) => words[name])], rows);
  }

  function showWorst(diagnosis) {
    const quoted = new Map(set().diagnosis.quoted.map((pair) => [pair.pair, pair]));
    const rows = diagnosis.worst.map((miss) => {
      const pair = quoted.get(miss.pair);
      return [
        [pair.sentence1, pair.sentence1], [pair.sentence2, pair.sentence2],
        [String(pair.score), pair.score], [miss.prediction.toFixed(3), miss.prediction], off(miss.off),
      ];
    });
    fill($("worst"), [words.sentence1, words.sentence2, words.score, words.prediction, words.off], rows);
  }

  function ranks(values) {
    const order = values.map((value, place) => [value, place]).sort((a, b) => a[0] - b[0]);
    const found = new Array(values.length);
    for (let start = 0, end; start < order.length; start = end) {
      for (end = start; end < order.length && order[end][0] === order[start][0];) end++;
      for (let k = start; k < end; k++) found[order[k][1]] = (start + end + 1) / 2;
    }
    return found;
  }

  function showDisagreement() {
    const points = set().points;
    const one = points.predictions[$("one").value], other = points.predictions[$("other").value];
    if (!one || !other) return;
    const [a, b] = [ranks(one), ranks(other)];
    const span = Math.max(1, a.length - 1);
    const places = a.map((_, place) => place)
      .filter((place) => a[place] !== b[place])
      .sort((x, y) => Math.abs(a[y] - b[y]) - Math.abs(a[x] - b[x])).slice(0, 20);
    const rows = places.map((place) => [
      [points.sentence1[place], points.sentence1[place]], [points.sentence2[place], points.sentence2[place]],
      [String(points.scores[place]), points.scores[place]],
      [one[place].toFixed(3), one[place]], [other[place].toFixed(3), other[place]],
      off((a[place] - b[place]) / span),
    ]);
    fill($("disagree"), [words.sentence1, words.sentence2, words.score, $("one").value, $("other").value, words.off], rows);
  }

  function mark(recipe) {
    for (const cell of document.querySelectorAll(".results tbody td:first-child")) {
      cell.parentElement.classList.toggle("chosen", cell.dataset.value === recipe);
    }
  }

  function showRecipe() {
    const recipe = $("recipe").value;
    const diagnosis = set().diagnosis.recipes.find((one) => one.recipe === recipe);
    const plots = [drawScatter(recipe)];
    if (diagnosis) {
      plots.push(drawBins("by_length", diagnosis.by_length, 1), drawBins("by_overlap", diagnosis.by_overlap, 2));
      showWorst(diagnosis);
    }
    mark(recipe);
    return Promise.all(plots);
  }

  function options(select, chosen) {
    const sorted = ranked(set().diagnosis.recipes).map((one) => one.recipe).filter((recipe) => !data.equal[recipe]);
    select.replaceChildren(...sorted.map((recipe) => new Option(recipe, recipe)));
    if (sorted.includes(chosen)) select.value = chosen;
    return sorted;
  }

  // While something is drawn, the page says so.
  async function drawn(work) {
    document.body.setAttribute("aria-busy", "true");
    await work();
    document.body.removeAttribute("aria-busy");
  }

  function draw() {
    return drawn(() => Promise.all([drawForest(), drawHeat(), set().diagnosis && showRecipe()]));
  }

  function showDataset() {
    const chosen = $("dataset") ? Number($("dataset").value) : 0;
    document.querySelectorAll(".of-dataset").forEach((table, place) => { table.hidden = place !== chosen; });
    $("of_pairs").hidden = !set().diagnosis;
    if (!set().diagnosis) {
      mark(data.best);
      return draw();
    }
    options($("recipe"), data.best);
    const sorted = options($("one"), data.best);
    $("disagreement").hidden = sorted.length < 2;
    const values = (recipe) => JSON.stringify(ranks(set().points.predictions[recipe]));
    const differing = sorted.find((recipe) => values(recipe) !== values($("one").value));
    options($("other"), data.baseline !== $("one").value ? data.baseline : differing);
    showGeometry();
    showDisagreement();
    return draw();
  }

  if ($("dataset")) $("dataset").addEventListener("change", showDataset);
  $("recipe").addEventListener("change", () => drawn(showRecipe));
  for (const id of ["one", "other"]) $(id).addEventListener("change", showDisagreement);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  let width = innerWidth;
  addEventListener("resize", () => {
    if (innerWidth !== width) { width = innerWidth; draw(); }
  });
  showDataset();
})();
