// Trade-off and history, drawn as SVG.

const WIDE = 560, HIGH = 360, LEFT = 62, BELOW = 46, TOP = 14, RIGHT = 14;

function svg(tag, attributes, ...children) {
  const e = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [key, value] of Object.entries(attributes)) e.setAttribute(key, value);
  e.append(...children);
  return e;
}

/** Round steps that cut [low, high] into four or so. */
function ticks(low, high) {
  const raw = (high - low) / 4 || Math.abs(low) || 1, power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((f) => f * power).find((s) => s >= raw * 0.8), out = [];
  for (let t = Math.ceil(low / step) * step; t <= high + step * 1e-9; t += step) out.push(t);
  return [out, Math.max(0, -Math.floor(Math.log10(step) + 1e-9))];
}

function scale(values, from, to) {
  let low = Math.min(...values), high = Math.max(...values);
  const pad = (high - low) * 0.06 || Math.abs(low) * 0.01 || 0.5;
  [low, high] = [low - pad, high + pad];
  return Object.assign((v) => from + ((v - low) / (high - low)) * (to - from), { low, high });
}

function axis(frame, at, title, vertical) {
  const [places, digits] = ticks(at.low, at.high);
  for (const t of places) {
    const p = at(t), text = minus(t.toFixed(digits));
    if (vertical) frame.append(svg("path", { class: "grid", d: `M${LEFT} ${p}H${WIDE - RIGHT}` }), svg("text", { x: LEFT - 6, y: p + 4, "text-anchor": "end" }, text));
    else frame.append(svg("path", { class: "grid", d: `M${p} ${TOP}V${HIGH - BELOW}` }), svg("text", { x: p, y: HIGH - BELOW + 17, "text-anchor": "middle" }, text));
  }
  if (vertical) frame.append(svg("text", { class: "title", transform: `translate(13 ${(TOP + HIGH - BELOW) / 2}) rotate(-90)`, "text-anchor": "middle" }, title));
  else frame.append(svg("text", { class: "title", x: (LEFT + WIDE - RIGHT) / 2, y: HIGH - 8, "text-anchor": "middle" }, title));
}

const canvas = (label) => svg("svg", { class: "plot", viewBox: `0 0 ${WIDE} ${HIGH}`, role: "img", "aria-label": label });

/** What no other point beats in both. */
function paretoFront(points, x, y) {
  const good = (c, v) => (c.higher === false ? -v : v);
  const order = [...points].sort((p, q) => good(x, q.x) - good(x, p.x) || good(y, q.y) - good(y, p.y));
  let best = -Infinity;
  return order.filter((p) => good(y, p.y) > best && ((best = good(y, p.y)), true));
}

function drawTrade() {
  const x = column(state.x), y = column(state.y), home = $("#trade");
  const points = (x && y ? shown : []).filter((i) => x.cells[i]?.[7] === 0 && y.cells[i]?.[7] === 0).map((i) => ({ i, x: x.cells[i][0], y: y.cells[i][0] }));
  if (!points.length || x === y) return home.replaceChildren(note("Two scores of the same rows make a trade-off."));
  const frame = canvas(`${y.title} against ${x.title}, ${points.length} rows`);
  const across = scale(points.map((p) => p.x), LEFT, WIDE - RIGHT), up = scale(points.map((p) => p.y), HIGH - BELOW, TOP);
  axis(frame, across, x.title + arrow(x), false);
  axis(frame, up, y.title + arrow(y), true);
  const front = paretoFront(points, x, y), on = new Set(front.map((p) => p.i));
  const limit = (at, v) => at(Math.max(at.low, Math.min(at.high, v)));
  for (const p of points.length > 60 ? front : points) {
    const [, xl, xh] = x.cells[p.i], [, yl, yh] = y.cells[p.i];
    if (xl !== null) frame.append(svg("path", { class: "range", d: `M${limit(across, xl)} ${up(p.y)}H${limit(across, xh)}` }));
    if (yl !== null) frame.append(svg("path", { class: "range", d: `M${across(p.x)} ${limit(up, yl)}V${limit(up, yh)}` }));
  }
  if (front.length > 1) frame.append(svg("path", { class: "front", d: "M" + front.map((p) => `${across(p.x)} ${up(p.y)}`).join("L") }));
  for (const p of points) {
    const side = String(p.i) === state.a ? "a" : String(p.i) === state.b ? "b" : "", row = board.rows[p.i];
    const text = `${name(row)}, ${runOf(row).name}: ${x.short} ${x.cells[p.i][3]}, ${y.short} ${y.cells[p.i][3]}`;
    frame.append(svg("circle", { class: `point ${on.has(p.i) ? "best" : ""} ${side}`, cx: across(p.x), cy: up(p.y), r: side ? 7 : 4.5, "data-row": p.i }, svg("title", {}, text)));
  }
  front.slice(0, 8).forEach((p, k) => {
    const right = across(p.x) > WIDE * 0.6;
    frame.append(svg("text", { class: "name", x: across(p.x) + (right ? -8 : 8), y: up(p.y) + (k % 2 ? 14 : -7), "text-anchor": right ? "end" : "start" }, name(board.rows[p.i]).slice(0, 34)));
  });
  home.replaceChildren(frame);
}

/** Histories of the chosen score among the filtered models and guidances; the one in `state.series` is drawn. */
function drawHistory() {
  const at = board.columns.indexOf(column());
  const fits = (row) => (!state.model || runOf(row).model === state.model) && (!state.family || row.family === state.family);
  const found = board.histories.filter((h) => h.column === at && fits(board.rows[h.rows[0]]));
  const order = [...found].sort((g, h) => h.changes.length - g.changes.length || h.rows.length - g.rows.length);
  const chosen = found.find((h) => String(h.rows[0]) === state.series) ?? order[0];
  fillSelect("series", found.map((h) => [String(h.rows[0]), `${name(board.rows[h.rows[0]])} (${h.rows.length} runs)`]), chosen && String(chosen.rows[0]));
  const home = $("#history");
  fillChanges();
  if (!chosen) return home.replaceChildren(note("A history needs two runs of one model and guidance, in the order of their names."));
  const c = column(), cells = chosen.rows.map((i) => c.cells[i]), frame = canvas(`${c.title} over ${cells.length} runs, ${chosen.changes.length} changes`);
  const across = Object.assign((k) => LEFT + 12 + (k / Math.max(1, cells.length - 1)) * (WIDE - RIGHT - LEFT - 24), {});
  const up = scale(cells.flatMap((v) => [v[0], v[1] ?? v[0], v[2] ?? v[0]]), HIGH - BELOW, TOP);
  axis(frame, up, c.title + arrow(c), true);
  for (const k of new Set([0, cells.length - 1])) {
    const run = runOf(board.rows[chosen.rows[k]]);
    frame.append(svg("text", { x: across(k), y: HIGH - BELOW + 17, "text-anchor": k ? "end" : "start" }, run.name.slice(0, 30)));
  }
  frame.append(svg("text", { class: "title", x: (LEFT + WIDE - RIGHT) / 2, y: HIGH - 8, "text-anchor": "middle" }, "run"));
  for (const change of chosen.changes) {
    const p = (across(change.at - 1) + across(change.at)) / 2;
    frame.append(svg("path", { class: `change ${change.word}`, d: `M${p} ${TOP}V${HIGH - BELOW}` }), svg("text", { class: `name ${change.word}`, x: p + (p > WIDE * 0.7 ? -5 : 5), y: TOP + 10, "text-anchor": p > WIDE * 0.7 ? "end" : "start" }, minus(`${change.text} ${change.word}`)));
  }
  cells.forEach((v, k) => v[1] !== null && frame.append(svg("path", { class: "range", d: `M${across(k)} ${up(v[1])}V${up(v[2])}` })));
  frame.append(svg("path", { class: "line", d: "M" + cells.map((v, k) => `${across(k)} ${up(v[0])}`).join("L") }));
  chosen.rows.forEach((i, k) => {
    const run = runOf(board.rows[i]), side = String(i) === state.a ? "a" : String(i) === state.b ? "b" : "";
    frame.append(svg("circle", { class: `point ${side}`, cx: across(k), cy: up(cells[k][0]), r: side ? 6 : 3.5, "data-row": i }, svg("title", {}, `${run.name}${run.commit && ` (${run.commit})`}: ${cells[k][3]}`)));
  });
  home.replaceChildren(frame);
}

function fillChanges() {
  const lines = board.histories.flatMap((h) => h.changes.map((change) => ({ h, change })));
  $("#changes").replaceChildren(
    ...lines.map(({ h, change }) => {
      const c = board.columns[h.column], line = element("li"), [before, after] = [h.rows[change.at - 1], h.rows[change.at]];
      line.append(`${name(board.rows[after])}, ${runOf(board.rows[after]).name}: ${c.short} `, element("b", change.word, minus(change.text)));
      line.append(minus(` [${change.low}, ${change.high}] ${change.word}, found after ${change.found - change.at + 1} run${change.found > change.at ? "s" : ""}. `));
      line.append(change.with.length ? `With it: ${change.with.slice(0, 4).join(", ")}${change.with.length > 4 ? ", …" : ""}. ` : "");
      const button = element("button", "", "compare");
      button.type = "button";
      button.dataset.pair = `${before} ${after}`;
      line.append(button);
      return line;
    }),
  );
}
