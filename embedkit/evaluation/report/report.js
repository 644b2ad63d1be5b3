"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const words = data.words;
  const $ = (id) => document.getElementById(id);
  const color = (name) => `var(--${name})`;  // of the theme, or of paper
  const percent = (x) => (100 * x).toFixed(2);
  const withInterval = (value, ci95) =>
    value === null ? "-" : percent(value) + (ci95 ? ` [${percent(ci95[0])}, ${percent(ci95[1])}]` : "");
  const order = new Map(data.ranking.map((recipe, rank) => [recipe, rank]));
  const ranked = (rows) => [...rows].sort((a, b) => order.get(a.recipe) - order.get(b.recipe));
  const set = () => data.datasets[$("dataset") ? Number($("dataset").value) : 0];
  const errors = () => set().diagnosis || set().queries;  // of pairs or of a retrieval set
  const diagnosed = () => errors() !== null && errors().recipes.length > 0;

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
    const element = $(id);
    const width = Math.max(220, Math.floor(element.clientWidth));
    const muted = color("muted"), line = color("line");
    const config = {
      background: "transparent",
      font: getComputedStyle(document.body).fontFamily,
      view: { stroke: "transparent" },
      axis: {
        labelColor: muted, titleColor: muted, gridColor: line, domainColor: line, tickColor: line,
        titleFontWeight: "normal", labelFontSize: 12, titleFontSize: 12,
        labelLimit: Math.min(190, 0.38 * width), titleLimit: 0.9 * width,
      },
      axisQuantitative: { labelFlush: false, labelOverlap: "greedy", labelSeparation: 6, tickCount: Math.max(3, Math.floor(width / 90)) },
      text: { color: color("ink") },
    };
    const whole = { description: words[id], width, autosize: { type: "fit-x", contains: "padding" }, config, ...spec };
    return vegaEmbed(element, whole, { mode: "vega-lite", renderer: "svg", actions: false, ast: true });
  }

  // Vega warns of a layer that no row has values for.
  const intervals = (rows, layer) => (rows.some((row) => row.low !== null) ? [layer] : []);

  // A point and an interval for each recipe, and a dashed line at the baseline.
  function drawForest(id, title, rows, line) {
    const values = rows.map((row) => ({
      recipe: row.recipe,
      value: 100 * row.value,
      low: row.ci95 && 100 * row.ci95[0],
      high: row.ci95 && 100 * row.ci95[1],
      shown: withInterval(row.value, row.ci95),
      color: color(row.standing),
    }));
    const x = (field) => ({ field, type: "quantitative", scale: { zero: false }, title, axis: { orient: "top" } });
    const long = (name) => name.length > 20 && name.includes("/");  // takes two lines
    const test = "length(datum.label) > 20 && indexof(datum.label, '/') > 0";
    const labelExpr = `${test} ? split(replace(datum.label, '/', '\\n/'), '\\n') : datum.label`;
    const labelOffset = { condition: { test, value: -6 }, value: 0 };
    const axis = { grid: true, labelLineHeight: 13, labelExpr, labelOffset };
    const hue = { field: "color", type: "nominal", scale: null };
    const rule = { data: { values: [{ value: line }] }, mark: { type: "rule", strokeDash: [4, 4], color: color("muted") } };
    return plot(id, {
      height: (values.some((row) => long(row.recipe)) ? 30 : 24) * values.length,
      data: { values },
      encoding: {
        y: { field: "recipe", type: "nominal", sort: values.map((row) => row.recipe), title: null, axis },
        tooltip: [
          { field: "recipe", type: "nominal", title: words.recipe },
          { field: "shown", type: "nominal", title },
        ],
      },
      layer: [
        ...(line === null ? [] : [{ ...rule, encoding: { x: x("value"), y: null, tooltip: null } }]),
        ...intervals(values, { mark: { type: "rule", strokeWidth: 2.5 }, encoding: { x: x("low"), x2: { field: "high" }, color: hue } }),
        { mark: { type: "point", filled: true, size: 75, opacity: 1 }, encoding: { x: x("value"), color: hue } },
      ],
    });
  }

  function drawComparison() {
    const { metric, scores } = set();
    const baseline = scores.find((row) => row.standing === "baseline");
    const differences = scores.filter((row) => row === baseline || row.difference !== null).map((row) => (
      { ...row, value: row === baseline ? 0 : row.difference, ci95: row.difference_ci95 }
    ));
    show("comparison", scores.length > 1);
    if (scores.length < 2) return [];
    $("of_baseline").hidden = differences.length < 2;
    const plots = [drawForest("scores", `${metric} x 100`, scores, baseline ? 100 * baseline.value : null)];
    if (differences.length > 1) {
      const title = words.differences_axis.replace("{metric}", () => metric).replace("{baseline}", () => data.baseline);
      plots.push(drawForest("differences", title, differences, 0));
    }
    return plots;
  }

  function drawScatter(recipe) {
    const points = set().points;
    const predictions = points.predictions[recipe];
    const shown = points.scores.length;
    $("drawn").textContent = shown < points.n
      ? words.drawn.replace("{shown}", shown.toLocaleString()).replace("{n}", points.n.toLocaleString()) : "";
    if (!predictions) return null;
    const values = predictions.map((prediction, row) => ({
      prediction, score: points.scores[row], sentence1: points.sentence1[row], sentence2: points.sentence2[row],
    }));
    const number = (field, title) => ({ field, type: "quantitative", title });
    const text = (field) => ({ field, type: "nominal", title: words[field] });
    const axes = [number("score", words.score), number("prediction", data.prediction)];
    return plot("scatter", {
      height: 320,
      data: { values },
      mark: { type: "point", filled: true, size: 24, opacity: 0.4, color: color("accent") },
      encoding: {
        x: { ...axes[0], scale: { zero: false } },
        y: { ...axes[1], scale: { zero: false } },
        tooltip: [...axes, text("sentence1"), text("sentence2")],
      },
    });
  }

  function drawBins(id, bins, digits) {
    const values = bins.map((bin) => ({
      name: `${bin.low.toFixed(digits)}–${bin.high.toFixed(digits)} (n = ${bin.n})`,
      value: bin.value === null ? null : 100 * bin.value,
      low: bin.ci95 && 100 * bin.ci95[0],
      high: bin.ci95 && 100 * bin.ci95[1],
      end: 100 * Math.max(0, bin.value, ...(bin.ci95 || [])),
      text: bin.value === null ? "-" : (100 * bin.value).toFixed(1),
      shown: withInterval(bin.value, bin.ci95),
    }));
    if (values.every((bin) => bin.value === null)) {
      $(id).textContent = words.no_value;
      return null;
    }
    const all = values.flatMap((bin) => [0, bin.value, bin.low, bin.end]);
    const [least, most] = [Math.min(...all), Math.max(...all) || 1];
    const domain = [least, most + 0.2 * (most - least)];  // room for the numbers
    const title = set().metric + " x 100";
    const axis = { labelExpr: "datum.value > 100 ? '' : datum.label" };
    const x = (field) => ({ field, type: "quantitative", title, axis, scale: { domain, nice: false } });
    return plot(id, {
      height: 28 * values.length,
      data: { values },
      encoding: {
        y: { field: "name", type: "nominal", sort: null, title: null },
        tooltip: [{ field: "shown", type: "nominal", title }],
      },
      layer: [
        { mark: { type: "bar", color: color("bar"), height: 16 }, encoding: { x: x("value") } },
        ...intervals(values, { mark: { type: "rule", color: color("ink"), strokeWidth: 1.5 }, encoding: { x: x("low"), x2: { field: "high" } } }),
        { mark: { type: "text", align: "left", dx: 6, fontSize: 12 }, encoding: { x: x("end"), text: { field: "text" } } },
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
      ...names.map((name, column) => {
        const value = one.geometry[name];
        return [value === null ? "-" : value.toFixed(digits[column]), value];
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
    fill($("worst"), [words.sentence1, words.sentence2, words.score, data.prediction, words.off], rows);
  }

  function showQueries(one) {
    const { queries, documents } = set().queries;
    const [query, document] = [queries, documents].map((texts) => new Map(texts.map((text) => [text.id, text.text])));
    const rank = (x) => [x === null ? "-" : x.toLocaleString(), x];
    const quote = (id) => `${id}: ${document.has(id) ? document.get(id) : "-"}`;
    const rows = one.worst.map((miss) => {
      const listed = miss.documents.map((missed) => `(${rank(missed.rank)[0]}) ${quote(missed.document)}`);
      if (miss.missed > listed.length) listed.push(`+${miss.missed - listed.length}`);
      const first = miss.first === null ? "-" : quote(miss.first);
      const texts = [query.get(miss.query), first, listed.join("\n")].map((text) => [text, text]);
      return [texts[0], [percent(miss.value), miss.value], rank(miss.first_relevant), texts[1], texts[2]];
    });
    fill($("worst_queries"), [words.query, set().metric, words.first_relevant, words.first, words.missed], rows);
    $("missed_count").textContent = words.missed_count
      .replace("{missed}", one.missed.toLocaleString()).replace("{relevant}", one.relevant.toLocaleString());
  }

  function ranks(values) {
    const order = values.map((value, row) => [value, row]).sort((a, b) => a[0] - b[0]);
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
    const differing = a.map((_, pair) => pair)
      .filter((pair) => a[pair] !== b[pair])
      .sort((x, y) => Math.abs(a[y] - b[y]) - Math.abs(a[x] - b[x])).slice(0, 20);
    const rows = differing.map((pair) => [
      [points.sentence1[pair], points.sentence1[pair]], [points.sentence2[pair], points.sentence2[pair]],
      [String(points.scores[pair]), points.scores[pair]],
      [one[pair].toFixed(3), one[pair]], [other[pair].toFixed(3), other[pair]],
      off((a[pair] - b[pair]) / span),
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
    const diagnosis = errors().recipes.find((one) => one.recipe === recipe);
    const plots = [];
    if (set().queries) {
      plots.push(drawBins("by_query_length", diagnosis.by_length, 0));
      showQueries(diagnosis);
    } else {
      plots.push(drawScatter(recipe));
      plots.push(drawBins("by_length", diagnosis.by_length, 1), drawBins("by_overlap", diagnosis.by_overlap, 2));
      showWorst(diagnosis);
    }
    mark(recipe);
    return Promise.all(plots);
  }

  function options(select, chosen) {
    const sorted = ranked(errors().recipes).map((one) => one.recipe).filter((recipe) => !data.equal[recipe]);
    select.replaceChildren(...sorted.map((recipe) => new Option(recipe, recipe)));
    if (sorted.includes(chosen)) select.value = chosen;
    return sorted;
  }

  // A section, and the link to it.
  function show(id, visible) {
    for (const element of document.querySelectorAll(`#${id}, nav a[href="#${id}"]`)) element.hidden = !visible;
  }

  // While something is drawn, the page says so.
  async function drawn(work) {
    document.body.setAttribute("aria-busy", "true");
    await work();
    document.body.removeAttribute("aria-busy");
  }

  function draw() {
    return drawn(() => Promise.all([...($("comparison") ? drawComparison() : []), diagnosed() && showRecipe()]));
  }

  function showErrors() {
    const sorted = options($("recipe"), data.best);
    $("of_recipe").hidden = $("disagreement").hidden = sorted.length < 2;
    $("of_queries").hidden = !set().queries;
    $("of_pairs").hidden = !set().diagnosis;
    if (set().queries) return;
    options($("one"), data.best);
    const values = (recipe) => JSON.stringify(ranks(set().points.predictions[recipe]));
    const differing = sorted.find((recipe) => values(recipe) !== values($("one").value));
    options($("other"), data.baseline !== $("one").value ? data.baseline : differing);
    showGeometry();
    showDisagreement();
  }

  function showDataset() {
    const chosen = $("dataset") ? $("dataset").value : "0";
    for (const element of document.querySelectorAll("[data-set]")) element.hidden = element.dataset.set !== chosen;
    if ($("heat")) show("heat", $("heat").querySelector(`[data-set="${chosen}"]`) !== null);
    if ($("diagnosis")) show("diagnosis", diagnosed());
    if (diagnosed()) showErrors();
    else mark(data.best);
    return draw();
  }

  if ($("dataset")) $("dataset").addEventListener("change", showDataset);
  if ($("recipe")) $("recipe").addEventListener("change", () => drawn(showRecipe));
  for (const id of ["one", "other"]) if ($(id)) $(id).addEventListener("change", showDisagreement);
  let width = innerWidth;
  addEventListener("resize", () => {
    if (innerWidth !== width) { width = innerWidth; draw(); }
  });
  showDataset();
})();
