// State, address, filters, and the leaderboard.

const $ = (selector, root = document) => root.querySelector(selector);
const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];
const state = {};
let board, shown, ranks;

function element(tag, className, text) {
  const e = document.createElement(tag);
  if (className) e.className = className;
  if (text !== undefined) e.textContent = text;
  return e;
}
const minus = (text) => text.replace(/-(?=\d)/g, "−");
const arrow = (c) => (c.higher === null ? "" : c.higher ? " ↑" : " ↓");
const column = (name = state.metric) => board.columns.find((c) => c.name === name);
const runOf = (row) => DATA.runs[row.run];
const name = (row) => `${runOf(row).model} ${row.signature}`;

function defaults(b) {
  const directed = b.columns.filter((c) => c.higher !== null);
  const up = directed.find((c) => c.name.startsWith("fvd")) ?? directed[1] ?? b.columns[1] ?? b.columns[0];
  const across = directed.find((c) => c.name === "imaging_quality") ?? directed.find((c) => c !== up) ?? up;
  return {
    board: "0", model: "", family: "", metric: (directed[0] ?? b.columns[0])?.name ?? "", q: "", all: "",
    x: across?.name ?? "", y: up?.name ?? "", series: "", a: "", b: "", order: "case", theme: "",
  };
}

function readAddress() {
  const given = Object.fromEntries(new URLSearchParams(location.hash.slice(1)));
  board = DATA.boards[given.board] ?? DATA.boards[0];
  const base = defaults(board);
  for (const key of Object.keys(base)) state[key] = given[key] ?? base[key];
  if (!DATA.boards[state.board]) state.board = "0";
  for (const key of ["metric", "x", "y"]) if (!column(state[key])) state[key] = base[key];
  for (const key of ["a", "b"]) if (!board.rows[state[key]]) state[key] = "";
}

let written = 0, waiting;
/** The address follows the view, at most five times a second: browsers refuse more. */
function writeAddress() {
  clearTimeout(waiting);
  const wait = written + 200 - performance.now();
  if (wait > 0) {
    waiting = setTimeout(writeAddress, wait);
    return;
  }
  written = performance.now();
  const base = defaults(board);
  const hash = new URLSearchParams(Object.entries(state).filter(([key, value]) => value !== base[key])).toString();
  if (hash !== location.hash.slice(1)) history.replaceState(null, "", "#" + hash);
}

function matches(row) {
  if (state.model && runOf(row).model !== state.model) return false;
  if (state.family && row.family !== state.family) return false;
  if (!state.all && !row.latest) return false;
  return !state.q || `${runOf(row).name} ${name(row)} ${row.variant} ${runOf(row).weights}`.toLowerCase().includes(state.q.toLowerCase());
}

/** Does row j reliably beat row i? */
function beats(c, j, i) {
  c.order ??= new Map(c.ranked.map((row, k) => [row, k]));
  const [k, l] = [c.order.get(j), c.order.get(i)];
  return k === undefined || l === undefined ? 0 : (Number.parseInt(c.beaten[l].slice((k >> 3) * 2, (k >> 3) * 2 + 2) || "0", 16) >> (k & 7)) & 1;
}

/** The rows that are shown, best first, and the places that each may have among them. */
function list() {
  const c = column(), rows = board.rows.map((_, i) => i).filter((i) => matches(board.rows[i]));
  ranks = new Map();
  if (!c) return rows;
  const ranked = rows.filter((i) => c.ranked.includes(i)), sign = c.higher ? -1 : 1;
  for (const i of ranked) {
    let above = 0, below = 0;
    if (ranked.length > 1) for (const j of ranked) { above += beats(c, j, i); below += beats(c, i, j); }
    ranks.set(i, [1 + above, ranked.length - below]);
  }
  const value = (i) => (c.cells[i] ? sign * c.cells[i][0] : Infinity);
  const fits = (i) => c.cells[i]?.[7] === 0;
  return rows.sort((i, j) => fits(j) - fits(i) || value(i) - value(j) || i - j);
}

function fillBoard() {
  const before = shown?.join(), top = $("#board").scrollTop, drawn = $$("#board tbody tr").length;
  shown = list();
  const c = column(), held = document.activeElement?.closest?.("tr")?.dataset.row, table = element("table"), head = element("tr");
  for (const text of ["", "Rank", "Model, run", "Guidance"]) head.append(element("th", "label", text));
  for (const one of board.columns) {
    const th = element("th"), button = element("button", "sort", `${one.short}${arrow(one)}`);
    button.type = "button";
    button.dataset.metric = one.name;
    button.title = one.title;
    if (one === c) th.setAttribute("aria-sort", c.higher ? "descending" : "ascending");
    th.append(button);
    head.append(th);
  }
  table.append(element("thead"), element("tbody"));
  table.tHead.append(head);
  leader = undefined;
  $("#board").replaceChildren(table);
  addRows();
  if (shown.join() === before) {
    while ($("#board tbody").rows.length < drawn) addRows();
    $("#board").scrollTop = top;
  }
  if (held) $(`tr[data-row="${held}"]`)?.focus({ preventScroll: true });
  $("#count").textContent = `${shown.length} of ${board.rows.length} rows`;
  $("#empty").hidden = shown.length > 0;
  $("#told").textContent = c && c.higher !== null ? `Rank by ${c.title}: the places that a row may have at 95 % confidence (Holm over all pairs of the last runs of the suite, paired by case and seed where both have them; earlier runs are not ranked). A line stands above the first row that the first row of its group reliably beats. ${c.note} ${c.signature}` : "";
}

const SLICE = 40;
let leader;
/** The next rows: those far below come when they are near. */
function addRows() {
  const c = column(), body = $("#board tbody");
  for (const i of shown.slice(body.rows.length, body.rows.length + SLICE)) {
    const row = board.rows[i], line = element("tr"), range = ranks.get(i);
    line.dataset.row = i;
    line.tabIndex = 0;
    line.className = [range && leader !== undefined && beats(c, leader, i) ? "rule" : "", i === Number(state.a || -1) ? "a" : "", i === Number(state.b || -1) ? "b" : ""].join(" ");
    if (range && (leader === undefined || beats(c, leader, i))) leader = i;
    const sides = element("td", "sides");
    for (const side of ["a", "b"]) {
      const button = element("button", side, side.toUpperCase());
      button.type = "button";
      button.dataset.side = side;
      button.setAttribute("aria-pressed", state[side] === String(i));
      button.setAttribute("aria-label", `Compare ${runOf(row).name} ${row.variant} as ${side.toUpperCase()}`);
      sides.append(button);
    }
    const [label, guidance] = [element("th", "label", runOf(row).model), element("th", "label")];
    label.scope = "row";
    label.append(element("small", "", runOf(row).name));
    guidance.append(element("code", "", row.signature));
    line.append(sides, element("td", "rank", range ? [...new Set(range)].join("–") : "—"));
    line.append(label, guidance);
    for (const one of board.columns) line.append(cell(one, i, one === c));
    body.append(line);
  }
}
$("#board").addEventListener("scroll", ({ target }) => {
  if (target.scrollHeight - target.scrollTop < 2 * target.clientHeight && $("#board tbody").rows.length < shown.length) addRows();
});

function cell(c, i, chosen) {
  const values = c.cells[i], td = element("td", chosen ? "chosen" : "");
  if (!values) {
    td.textContent = "—";
    return td;
  }
  td.append(minus(values[3]));
  if (values[7]) {
    td.classList.add("other");
    td.title = "Scored in another way, or on another number of clips: not ranked with the others";
  }
  if (values[1] !== null) td.append(element("small", "", minus(`[${values[4]}, ${values[5]}]`)));
  return td;
}
