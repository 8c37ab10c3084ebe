// The grid: only the rows and columns in view are in the page, whatever the number of images.
"use strict";

Gallery.grid = (() => {
  const { state, paint, visibility, format, metric, unedited, HIT, ACCEPT, REASON } = Gallery;
  const grid = document.getElementById("grid");
  const heads = grid.querySelector(".heads");
  const canvas = grid.querySelector(".canvas");
  const nothing = grid.querySelector(".nothing");
  const HEADS = 58, MARGIN = 2;
  let model, at = { r: 0, c: 0 }, drawn = new Map(), headsDrawn = "", open = () => {};

  // Few columns are drawn larger, up to LARGEST times the usual size; the rest of the layout follows from --size.
  const LARGEST = 1.75;
  const number = (name) => parseFloat(getComputedStyle(document.documentElement).getPropertyValue(name));
  let size, gap, head;
  function measure() {
    const usual = number("--size"), edge = number("--edge"), columns = model.columns.length;
    gap = number("--gap");
    const fitting = Math.floor((grid.clientWidth - edge - gap * (columns + 2)) / (columns + 1));
    size = Math.round(Math.max(usual, Math.min(usual * LARGEST, fitting)));
    head = size + edge;
    grid.style.setProperty("--size", `${size}px`);
  }
  const left = (c) => head + c * (size + gap);
  const top = (r) => gap + r * (size + gap);

  function make(tag, className, text) {
    const element = document.createElement(tag);
    if (className) element.className = className;
    if (text !== undefined) element.textContent = text;
    return element;
  }

  function show(next, keep) {
    model = next;
    measure();
    const focused = canvas.contains(document.activeElement);
    const rows = model.rows.length, columns = model.columns.length;
    canvas.style.height = `${top(rows) + gap}px`;
    canvas.style.width = heads.style.width = `${left(columns) + gap}px`;
    grid.setAttribute("aria-rowcount", rows + 1);
    grid.setAttribute("aria-colcount", columns + 1);
    grid.setAttribute("aria-label", model.label);
    nothing.hidden = rows > 0 && columns > 0;
    if (!keep) { grid.scrollTo(0, 0); at = { r: 0, c: 0 }; }
    at = { r: Math.min(at.r, Math.max(rows - 1, 0)), c: Math.min(at.c, Math.max(columns - 1, 0)) };
    for (const row of drawn.values()) row.remove();
    drawn = new Map();
    headsDrawn = "";
    draw();
    if (focused) focus(at.r, at.c);
  }

  function inView() {
    const first = (offset, step) => Math.max(0, Math.floor(offset / step) - MARGIN);
    const step = size + gap;
    return {
      r0: first(grid.scrollTop, step), r1: Math.min(model.rows.length, Math.ceil((grid.scrollTop + grid.clientHeight) / step) + MARGIN),
      c0: first(grid.scrollLeft, step), c1: Math.min(model.columns.length, Math.ceil((grid.scrollLeft + grid.clientWidth - head) / step) + MARGIN),
    };
  }

  function draw() {
    const view = inView();
    const span = `${view.c0}-${view.c1}`;
    if (span !== headsDrawn) { drawHeads(view); for (const row of drawn.values()) row.remove(); drawn.clear(); headsDrawn = span; }
    for (const [r, row] of drawn) if (r < view.r0 || r >= view.r1) { row.remove(); drawn.delete(r); }
    for (let r = view.r0; r < view.r1; r++) if (!drawn.has(r)) { const row = drawRow(r, view); drawn.set(r, row); canvas.append(row); }
  }

  function drawHeads(view) {
    const corner = make("div", "corner", model.face ? "prompt" : "face");
    corner.setAttribute("role", "columnheader");
    const list = [corner];
    for (let c = view.c0; c < view.c1; c++) {
      const about = model.colHead(c);
      const element = make(about.href ? "a" : "div", "col");
      if (about.href) element.href = about.href;
      if (about.title) element.title = about.title;
      element.setAttribute("role", "columnheader");
      element.setAttribute("aria-colindex", c + 2);
      element.style.left = `${left(c)}px`;
      const [hit, mean] = about.sub, sub = make("small", "", hit || mean);
      if (hit && mean) sub.append(make("i", "", ` \u00b7 ${mean}`));
      element.append(make("b", "", about.label), sub);
      list.push(element);
    }
    heads.replaceChildren(...list);
  }

  function drawRow(r, view) {
    const row = make("div", "row");
    row.setAttribute("role", "row");
    row.setAttribute("aria-rowindex", r + 2);
    row.style.top = `${top(r)}px`;
    row.style.width = canvas.style.width;
    const about = model.rowHead(r);
    const who = make("a", about.text ? "who text" : "who");
    who.href = about.href;
    who.setAttribute("role", "rowheader");
    who.setAttribute("aria-label", about.label);
    who.title = about.label;
    if (!about.text) { const pic = make("span", "pic"); paint(pic, about.row, about.tile, size); who.append(pic); }
    who.append(make("span", "name", about.label));
    row.append(who);
    for (let c = view.c0; c < view.c1; c++) row.append(drawCell(r, c));
    return row;
  }

  function words(item) {
    const parts = [item.row.id, item.column.name];
    if (item.original) return [...parts, unedited].join(", ");
    parts.push(`strength ${item.step.strength}`);
    if (!item.values) return [...parts, "not rendered"].join(", ");
    parts.push(`${metric().label} ${format(item.values[metric().at])}`);
    if (item.values[HIT] !== null) parts.push(item.values[HIT] ? "hit" : "no hit");
    if (item.values[ACCEPT] !== 1) parts.push(`rejected: ${item.values[REASON]}`);
    return parts.join(", ");
  }

  function drawCell(r, c) {
    const item = model.cell(r, c);
    const cell = make("button", "cell");
    cell.type = "button";
    cell.setAttribute("role", "gridcell");
    cell.setAttribute("aria-colindex", c + 2);
    cell.style.left = `${left(c)}px`;
    cell.dataset.r = r;
    cell.dataset.c = c;
    cell.tabIndex = at.r === r && at.c === c ? 0 : -1;
    const how = item ? visibility(item) : "none";
    if (how === "none") { cell.classList.add("empty"); cell.setAttribute("aria-label", item ? words(item) : "nothing"); return cell; }
    cell.setAttribute("aria-label", words(item));
    if (how === "hollow") {
      cell.classList.add("hollow");
      const rejected = item.values && item.values[ACCEPT] !== 1;
      cell.textContent = rejected && state.accept === "accepted" ? "rejected" : "";
      if (rejected) cell.title = item.values[REASON];
      return cell;
    }
    const pic = make("span", "pic");
    paint(pic, item.row, item.original || state.original ? 0 : item.values[0], size);
    cell.append(pic);
    if (!item.original) {
      const rejected = item.values[ACCEPT] !== 1;
      cell.classList.toggle("rejected", rejected);
      cell.classList.toggle("missed", item.values[HIT] === 0);
      const tag = make("span", "tag", rejected ? "rejected" : format(item.values[metric().at]));
      tag.setAttribute("aria-hidden", "true");
      if (rejected) cell.title = item.values[REASON];
      cell.append(tag);
    }
    return cell;
  }

  function focus(r, c) {
    if (!model.rows.length || !model.columns.length) return;
    at = { r: Math.max(0, Math.min(model.rows.length - 1, r)), c: Math.max(0, Math.min(model.columns.length - 1, c)) };
    const x = left(at.c), y = top(at.r) + HEADS;
    if (x - head < grid.scrollLeft) grid.scrollLeft = x - head;
    else if (x + size + gap > grid.scrollLeft + grid.clientWidth) grid.scrollLeft = x + size + gap - grid.clientWidth;
    if (y - HEADS - gap < grid.scrollTop) grid.scrollTop = y - HEADS - gap;
    else if (y + size + gap > grid.scrollTop + grid.clientHeight) grid.scrollTop = y + size + gap - grid.clientHeight;
    draw();
    for (const cell of canvas.querySelectorAll('.cell[tabindex="0"]')) cell.tabIndex = -1;
    const cell = canvas.querySelector(`.cell[data-r="${at.r}"][data-c="${at.c}"]`);
    if (cell) { cell.tabIndex = 0; cell.focus({ preventScroll: true }); }
  }

  const MOVES = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0], PageUp: [-5, 0], PageDown: [5, 0] };
  grid.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    if (MOVES[event.key]) { event.preventDefault(); focus(at.r + MOVES[event.key][0], at.c + MOVES[event.key][1]); }
    else if (event.key === "Home") { event.preventDefault(); focus(at.r, 0); }
    else if (event.key === "End") { event.preventDefault(); focus(at.r, model.columns.length - 1); }
  });
  canvas.addEventListener("click", (event) => {
    const cell = event.target.closest(".cell");
    if (!cell) return;
    at = { r: +cell.dataset.r, c: +cell.dataset.c };
    const item = model.cell(at.r, at.c);
    if (item && (item.values || item.original)) open(item);
  });
  canvas.addEventListener("focusin", (event) => {
    const cell = event.target.closest(".cell");
    if (cell) at = { r: +cell.dataset.r, c: +cell.dataset.c };
  });
  let waiting = 0;
  grid.addEventListener("scroll", () => { if (!waiting) waiting = requestAnimationFrame(() => { waiting = 0; draw(); }); }, { passive: true });
  addEventListener("resize", () => show(model, true));

  return { show, focus, onOpen: (then) => { open = then; }, back: () => focus(at.r, at.c) };
})();
