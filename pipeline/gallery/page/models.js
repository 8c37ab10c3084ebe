// What the grid shows: all edits, one prompt, or one face. A model answers how many rows and columns there are, what
// their heads say and which cell stands where; the grid draws whichever model it is given.
"use strict";

window.Gallery = (() => {
  const data = window.GALLERY;
  const rows = window.GALLERY_ROWS;
  const METRICS = [
    { key: "gain", label: "CLIP gain", at: 1, digits: 2, sign: true },
    { key: "kept", label: "kept", at: 2, digits: 2 },
    { key: "identity", label: "identity", at: 3, digits: 2 },
    { key: "judge", label: "judge", at: 4, digits: 2 },
  ];
  const HIT = 5, ACCEPT = 6, REASON = 7, CAPTION = 8, VERDICT = 9;
  const state = {
    step: 0, threshold: 0, search: "", metric: "gain", least: null, order: "name", accept: "accepted", original: false,
  };

  // Every prompt's strengths in order, 0 among them: there the original is shown.
  for (const column of data.columns) {
    for (const variant of column.variants) {
      const steps = variant.strengths.map((strength, index) => ({ strength, index }));
      if (!steps.some((step) => step.strength === 0)) steps.push({ strength: 0, index: -1 });
      variant.steps = steps.sort((a, b) => a.strength - b.strength);
    }
  }
  const most = (values) => values.reduce((a, b) => Math.max(a, b), 1);
  const unedited = rows.some((row) => row.photo !== undefined) ? "reconstruction" : "original";
  const numSteps = most(data.columns.map((c) => most(c.variants.map((v) => v.steps.length))));
  const numThresholds = most(data.columns.map((c) => c.variants.length));
  const metrics = METRICS.filter((m) => rows.some((row) => row.cells.some((cell) => cell && cell[m.at] !== null)));
  const ranges = Object.fromEntries(metrics.map((m) => {
    let low = Infinity, high = -Infinity;
    for (const row of rows) for (const cell of row.cells) {
      if (cell && cell[m.at] !== null) { low = Math.min(low, cell[m.at]); high = Math.max(high, cell[m.at]); }
    }
    return [m.key, [low, high]];
  }));
  state.metric = metrics.length ? metrics[0].key : "gain";
  const metric = () => METRICS.find((m) => m.key === state.metric);

  const scaled = (position, count, of) => (of < 2 ? 0 : Math.round((position * (count - 1)) / (of - 1)));
  const variantOf = (column) => column.variants[scaled(state.threshold, column.variants.length, numThresholds)];
  const stepOf = (variant, position = state.step) => variant.steps[scaled(position, variant.steps.length, numSteps)];

  function entry(row, column, variant, step) {
    const values = step.index < 0 ? null : row.cells[variant.first + step.index];
    return { row, column, variant, step, values, original: step.index < 0 };
  }

  // shown: in full; hollow: there, but filtered out or rejected; none: never rendered
  function visibility(item) {
    if (item.original) return state.accept === "rejected" ? "hollow" : "shown";
    if (!item.values) return "none";
    const accepted = item.values[ACCEPT] === 1;
    if (state.accept === "accepted" && !accepted) return "hollow";
    if (state.accept === "rejected" && accepted) return "hollow";
    if (state.least !== null) {
      const value = item.values[metric().at];
      if (value === null || value < state.least) return "hollow";
    }
    return "shown";
  }

  const matches = (text) => !state.search || text.toLowerCase().includes(state.search.toLowerCase());
  const format = (value, m = metric()) =>
    value === null || value === undefined ? "-" : (m.sign && value > 0 ? "+" : "") + value.toFixed(m.digits);
  const average = (values) => {
    const there = values.filter((v) => v !== null && v !== undefined);
    return there.length ? there.reduce((a, b) => a + b, 0) / there.length : null;
  };

  function ordered(list, scoreOf) {
    if (state.order === "name") return list;
    const sign = state.order === "best" ? -1 : 1;
    const known = list.map((item) => [item, scoreOf(item)]);
    const value = (score) => (score === null ? sign * -Infinity : score);
    return known.sort((a, b) => sign * (value(a[1]) - value(b[1])) || 0).map(([item]) => item);
  }

  function summary(items) {
    const there = items.filter((item) => item.values);
    if (!there.length) return ["", ""];
    const hits = there.map((item) => item.values[HIT]).filter((hit) => hit !== null);
    const mean = average(there.map((item) => item.values[metric().at]));
    const hit = hits.length ? `${Math.round((100 * hits.reduce((a, b) => a + b, 0)) / hits.length)} % hit` : "";
    return [hit, mean === null ? "" : format(mean)];
  }

  const head = (row) => ({ row, label: row.id, href: `#/latent/${encodeURIComponent(row.id)}`, tile: row.photo ?? 0 });

  function allEdits() {
    const found = data.columns.filter((c) => matches(`${c.name} ${c.target}`));
    const byPrompt = state.search && found.length;
    const columns = byPrompt ? found : data.columns;
    const at = (row, column) => { const v = variantOf(column); return entry(row, column, v, stepOf(v)); };
    const wanted = byPrompt ? rows : rows.filter((row) => matches(row.id));
    const filtered = state.least !== null || state.accept === "rejected";
    const list = ordered(
      filtered ? wanted.filter((row) => columns.some((c) => visibility(at(row, c)) === "shown")) : wanted,
      (row) => average(columns.map((c) => at(row, c).values).map((values) => (values ? values[metric().at] : null))),
    );
    return {
      name: "", label: "Edits: a row per face, a column per prompt",
      rows: list, columns,
      rowHead: (r) => head(list[r]),
      colHead: (c) => ({
        label: columns[c].name, sub: summary(rows.map((row) => at(row, columns[c]))), title: columns[c].target,
        href: `#/prompt/${encodeURIComponent(columns[c].id)}`,
      }),
      cell: (r, c) => at(list[r], columns[c]),
    };
  }

  function promptPage(id) {
    const column = data.columns.find((c) => c.id === id);
    if (!column) return allEdits();
    const variant = variantOf(column);
    const wanted = rows.filter((row) => matches(row.id));
    const filtered = state.least !== null || state.accept === "rejected";
    const items = (row) => variant.steps.filter((s) => s.index >= 0).map((s) => entry(row, column, variant, s));
    const kept = filtered ? wanted.filter((row) => items(row).some((i) => visibility(i) === "shown")) : wanted;
    const list = ordered(kept, (row) => average(items(row).map((i) => i.values && i.values[metric().at])));
    const steps = variant.steps.filter((s) => s.index >= 0);
    return {
      name: column.name, label: `Prompt ${column.name}: a row per face, a column per strength`,
      rows: list, columns: steps, prompt: column,
      rowHead: (r) => head(list[r]),
      colHead: (c) => ({ label: `strength ${steps[c].strength}`, sub: summary(rows.map((row) => entry(row, column, variant, steps[c]))) }),
      cell: (r, c) => entry(list[r], column, variant, steps[c]),
    };
  }

  function facePage(id) {
    const row = rows.find((one) => one.id === id);
    if (!row) return allEdits();
    const all = data.columns.filter((c) => matches(`${c.name} ${c.target}`));
    const list = ordered(all, (c) => average(variantOf(c).steps.map((s) => { const v = entry(row, c, variantOf(c), s).values; return v ? v[metric().at] : null; })));
    const width = most(list.map((c) => variantOf(c).steps.length));
    const shared = list.every((c) => String(variantOf(c).steps.map((s) => s.strength)) === String(variantOf(list[0]).steps.map((s) => s.strength)));
    return {
      name: row.id, label: `Face ${row.id}: a row per prompt, a column per strength`,
      rows: list, columns: Array.from({ length: width }), face: row,
      rowHead: (r) => ({ label: list[r].name, href: `#/prompt/${encodeURIComponent(list[r].id)}`, text: true }),
      colHead: (c) => ({ label: shared && list.length ? (variantOf(list[0]).steps[c].strength === 0 ? unedited : `strength ${variantOf(list[0]).steps[c].strength}`) : `step ${c + 1}`, sub: ["", ""] }),
      cell: (r, c) => { const v = variantOf(list[r]); return c < v.steps.length ? entry(row, list[r], v, v.steps[c]) : null; },
    };
  }

  function model() {
    const [, kind, name] = location.hash.match(/^#\/(prompt|latent)\/(.*)$/) || [];
    const id = name && decodeURIComponent(name);
    if (kind === "prompt") return promptPage(id);
    return kind === "latent" ? facePage(id) : allEdits();
  }

  // One tile of a face's sprite as a background, at a size in pixels.
  function paint(element, row, tile, size) {
    const down = Math.floor(tile / row.across);
    element.style.backgroundImage = `url("sprites/${encodeURIComponent(row.sprite)}")`;
    element.style.backgroundSize = `${row.across * size}px auto`;
    element.style.backgroundPosition = `${-(tile % row.across) * size}px ${-down * size}px`;
  }

  return { data, rows, state, metrics, ranges, metric, numSteps, numThresholds, variantOf, stepOf, entry, visibility,
    format, model, paint, unedited, METRICS, HIT, ACCEPT, REASON, CAPTION, VERDICT };
})();
