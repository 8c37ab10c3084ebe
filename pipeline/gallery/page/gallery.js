// Controls, the closer look at one edit, pages by address, keys and themes.
"use strict";

(() => {
  const { data, rows, state, metrics, ranges, metric, numSteps, numThresholds, variantOf, stepOf, entry, format, model, paint, unedited,
    METRICS, HIT, ACCEPT, REASON, CAPTION, VERDICT } = Gallery;
  const get = (id) => document.getElementById(id);
  const least = get("least");
  const STRIP = 46; // pixels of a picture in the strip of strengths, as in the style sheet

  function refresh(keep = true) {
    const shown = model();
    get("home").hidden = !shown.name;
    get("crumb").textContent = shown.name;
    get("title").textContent = shown.name || data.title;
    document.title = shown.name ? `${shown.name} - ${data.title}` : data.title;
    get("strength-control").hidden = numSteps < 2 || Boolean(shown.prompt || shown.face);
    get("threshold-control").hidden = numThresholds < 2;
    get("strength-value").textContent = strengthText();
    get("threshold-value").textContent = thresholdText();
    get("least-value").textContent = state.least === null ? "any" : format(state.least);
    get("flick").setAttribute("aria-pressed", state.original);
    get("facts").textContent = factsText(shown);
    get("why").textContent = whyText();
    Gallery.grid.show(shown, keep);
  }

  const unanimous = (values) => (new Set(values).size === 1 ? values[0] : null);
  function strengthText() {
    const value = unanimous(data.columns.map((c) => stepOf(variantOf(c)).strength));
    if (value === 0) return unedited;
    return value === null ? `${state.step + 1} of ${numSteps}` : String(value);
  }
  function thresholdText() {
    const values = data.columns.map((c) => variantOf(c).threshold);
    const value = unanimous(values.map((v) => (v === null ? "-" : v.toFixed(2))));
    return value === null ? `${state.threshold + 1} of ${numThresholds}` : value;
  }
  function whyText() {
    const parts = [];
    if (state.search) parts.push(`\u201c${state.search}\u201d`);
    if (state.least !== null) parts.push(`${metric().label} of at least ${format(state.least)}`);
    if (state.accept === "rejected") parts.push("rejected images only");
    return parts.length ? `No face has an image with ${parts.join(" and ")}.` : "This run has no image to show.";
  }
  function factsText(shown) {
    if (shown.prompt) return `\u201c${shown.prompt.target}\u201d \u00b7 ${shown.prompt.method} \u00b7 ${shown.rows.length} faces`;
    if (shown.face) return `${shown.rows.length} prompts at every strength`;
    const few = shown.rows.length < rows.length ? `${shown.rows.length} of ${rows.length}` : `${rows.length}`;
    const parts = [`${few} faces`, `${shown.columns.length} prompts`, `${data.edits.toLocaleString("en")} edits`];
    if (data.rejected) parts.push(`${data.rejected.toLocaleString("en")} rejected`);
    return parts.join(" \u00b7 ");
  }

  // --- controls
  const steps = get("strength");
  steps.max = numSteps - 1;
  const fullest = data.columns.map(variantOf).find((v) => v.steps.length === numSteps);
  state.step = numSteps - 1;
  if (fullest) {
    const preferred = fullest.steps.findIndex((s) => s.strength === data.strength);
    if (preferred >= 0) state.step = preferred;
  }
  steps.value = state.step;
  state.threshold = Math.floor(numThresholds / 2);
  get("threshold").max = numThresholds - 1;
  get("threshold").value = state.threshold;
  steps.addEventListener("input", () => { state.step = +steps.value; refresh(); });
  get("threshold").addEventListener("input", (event) => { state.threshold = +event.target.value; refresh(); });
  get("search").addEventListener("input", (event) => { state.search = event.target.value.trim(); refresh(false); });
  for (const { key, label } of metrics) get("metric").add(new Option(label, key));
  get("metric").addEventListener("change", (event) => { state.metric = event.target.value; state.least = null; least.value = 0; refresh(); });
  least.addEventListener("input", () => {
    const [low, high] = ranges[state.metric] || [0, 1];
    state.least = +least.value === 0 ? null : low + ((high - low) * least.value) / 100;
    refresh();
  });
  get("order").addEventListener("change", (event) => { state.order = event.target.value; refresh(false); });
  const accept = get("accept");
  accept.addEventListener("change", () => { state.accept = accept.value; refresh(); });
  get("reset").addEventListener("click", () => {
    Object.assign(state, { search: "", least: null, accept: "accepted" });
    get("search").value = ""; least.value = 0; accept.value = "accepted";
    refresh(false);
  });
  function flick(on) { if (state.original !== on) { state.original = on; refresh(); if (look) redrawBig(); } }
  // Beside photos, what an edit started from is no original but what was drawn of the photo.
  const flickButton = get("flick");
  flickButton.textContent = unedited[0].toUpperCase() + unedited.slice(1);
  flickButton.title = `Show the ${unedited}s (O)`;
  get("flick-key").textContent = `${unedited}s while held`;
  flickButton.addEventListener("click", () => flick(!state.original));
  get("more").addEventListener("click", (event) => {
    const open = document.querySelector(".bar").classList.toggle("open");
    event.target.setAttribute("aria-expanded", open);
    refresh();
  });

  // --- themes: the system's until one is chosen
  const root = document.documentElement;
  const remember = (theme) => { try { localStorage.setItem("gallery-theme", theme); } catch { /* a page may keep nothing */ } };
  try { root.dataset.theme = localStorage.getItem("gallery-theme") || ""; } catch { /* as above */ }
  function switchTheme() {
    const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
    remember(root.dataset.theme);
  }
  get("theme").addEventListener("click", switchTheme);

  // --- a closer look
  const detail = get("detail");
  let look = null;
  function showDetail(item) {
    look = item;
    const { row, column, step, values, variant } = item;
    get("detail-title").textContent = column.name;
    get("detail-text").textContent = values && values[CAPTION] ? values[CAPTION] : `\u201c${column.target}\u201d`;
    const verdict = get("detail-verdict");
    const parts = [];
    if (values && values[VERDICT]) parts.push(values[VERDICT]);
    if (values && values[ACCEPT] !== 1) parts.push(`Rejected: ${values[REASON]}`);
    verdict.textContent = parts.join(". ");
    verdict.className = values && values[ACCEPT] !== 1 ? "bad" : values && values[HIT] === 1 ? "good" : values && values[HIT] === 0 ? "bad" : "";
    const list = [];
    const pair = (name, value) => { const dt = document.createElement("dt"), dd = document.createElement("dd"); dt.textContent = name; dd.textContent = value; list.push(dt, dd); };
    pair("face", row.id);
    pair("strength", String(step.strength));
    if (variant.threshold !== null) pair("threshold", variant.threshold.toFixed(2));
    for (const m of METRICS) if (values && values[m.at] !== null) pair(m.label, format(values[m.at], m));
    get("detail-scores").replaceChildren(...list);
    get("detail-strip").replaceChildren(...variant.steps.map((s) => {
      const one = entry(row, column, variant, s);
      const button = document.createElement("button"), pic = document.createElement("span");
      button.type = "button";
      pic.className = "pic";
      paint(pic, row, one.values ? one.values[0] : 0, STRIP);
      button.append(pic, s.strength === 0 && unedited === "original" ? unedited : String(s.strength));
      button.setAttribute("aria-current", s === step);
      button.disabled = !one.values && !one.original;
      button.addEventListener("click", () => showDetail(one));
      return button;
    }));
    get("to-prompt").href = `#/prompt/${encodeURIComponent(column.id)}`;
    get("to-latent").href = `#/latent/${encodeURIComponent(row.id)}`;
    if (!detail.open) { detail.showModal(); detail.focus(); }
    redrawBig();
  }
  function redrawBig() {
    const { row, column, step, values } = look;
    const tile = state.original || !values ? 0 : values[0];
    get("after-caption").textContent = tile === 0 ? unedited : `${column.name}, strength ${step.strength}`;
    get("photo-figure").hidden = row.photo === undefined;
    if (row.photo !== undefined) picture(get("photo"), row, row.photo, `${row.id}, photo`);
    get("before-caption").textContent = unedited;
    picture(get("before"), row, 0, `${row.id}, ${unedited}`);
    picture(get("after"), row, tile, `${row.id}, ${get("after-caption").textContent}`);
  }
  function picture(element, row, tile, label) {
    element.setAttribute("aria-label", label);
    if (data.views) {
      element.style.background = `center / cover url("views/${encodeURIComponent(row.sprite.replace(/\.webp$/, ""))}/${tile}.webp")`;
    } else {
      paint(element, row, tile, element.clientWidth);
    }
  }
  Gallery.grid.onOpen(showDetail);
  detail.addEventListener("close", () => { look = null; Gallery.grid.back(); });
  detail.addEventListener("click", (event) => { if (event.target === detail) detail.close(); });
  for (const id of ["to-prompt", "to-latent"]) get(id).addEventListener("click", () => detail.close());
  get("keys").addEventListener("click", showHelp);
  function showHelp() { get("help").showModal(); get("help").focus(); }
  get("about").textContent = data.about;

  // --- keys
  function stronger(by) {
    if (look) {
      const list = look.variant.steps, next = list[list.indexOf(look.step) + by];
      if (next) showDetail(entry(look.row, look.column, look.variant, next));
    } else {
      state.step = Math.max(0, Math.min(numSteps - 1, state.step + by));
      steps.value = state.step;
      refresh();
    }
  }
  addEventListener("keydown", (event) => {
    const typing = event.target.matches && event.target.matches("input[type=search], select");
    if (typing || event.ctrlKey || event.altKey || event.metaKey) {
      if (event.key === "Escape" && typing) event.target.blur();
      return;
    }
    const key = event.key.toLowerCase();
    if (key === "o") flick(true);
    else if (key === "[") stronger(-1);
    else if (key === "]") stronger(1);
    else if (key === "t") switchTheme();
    else if (look) return;
    else if (key === "r") { state.accept = state.accept === "accepted" ? "all" : "accepted"; accept.value = state.accept; refresh(); }
    else if (key === "/") { event.preventDefault(); get("search").focus(); }
    else if (key === "?") showHelp();
    else if (key === "escape" && location.hash.length > 2 && !get("help").open) location.hash = "#/";
  });
  addEventListener("keyup", (event) => { if (event.key.toLowerCase() === "o" && !event.target.matches("input")) flick(false); });
  addEventListener("hashchange", () => refresh(false));

  refresh(false);
})();
