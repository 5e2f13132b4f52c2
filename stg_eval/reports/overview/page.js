// What the reader does: filters, rows, keys.

function fillSelect(key, options, value = state[key]) {
  const select = $(`select[data-state=${key}]`);
  select.replaceChildren(...options.map(([v, text]) => new Option(text, v)));
  select.value = value ?? "";
  select.closest("label").hidden = options.length < 2;
}

function startBoard() {
  board = DATA.boards[state.board];
  const all = (values) => [["", "all"], ...[...new Set(values)].sort((x, y) => x.localeCompare(y, "en", { numeric: true })).map((v) => [v, v])];
  const some = (list) => (list.length > 2 ? list : list.slice(0, 1));
  fillSelect("board", DATA.boards.map((b, i) => [String(i), b.title]));
  fillSelect("model", some(all(board.rows.map((r) => runOf(r).model))));
  fillSelect("family", some(all(board.rows.map((r) => r.family))));
  for (const key of ["metric", "x", "y"]) fillSelect(key, board.columns.map((c) => [c.name, `${c.title}${arrow(c)}`]));
  $("[data-state=all]").closest("label").hidden = board.rows.every((r) => r.latest);
}

function showControls() {
  for (const control of $$("[data-state]")) {
    if (control.type === "checkbox") control.checked = state[control.dataset.state] === "1";
    else if (control.dataset.state !== "series" && control.value !== state[control.dataset.state]) control.value = state[control.dataset.state];
  }
  const dark = matchMedia("(prefers-color-scheme: dark)").matches;
  document.documentElement.dataset.theme = state.theme || (dark ? "dark" : "light");
}

/** Everything follows from the state. */
function apply(pairs = true) {
  showControls();
  fillBoard();
  drawTrade();
  drawHistory();
  if (pairs) showPairs();
  writeAddress();
}

function set(key, value) {
  state[key] = value;
  if (key === "theme") {
    showControls();
    writeAddress();
  } else if (key === "board") {
    Object.assign(state, { ...defaults(DATA.boards[value]), board: value, theme: state.theme });
    startBoard();
    apply();
  } else apply(["a", "b", "order", "metric"].includes(key));
}

function choose(row, side) {
  const chosen = side ?? (state.a === "" || state.b !== "" ? "a" : "b");
  if (!side && chosen === "a") state.b = "";
  set(chosen, state[chosen] === row ? "" : row);
}

function step(by) {
  const rows = $$("#board tbody tr"), at = rows.indexOf(document.activeElement?.closest("tr"));
  if (at + by >= rows.length && rows.length < shown.length) {
    addRows();
    rows.push(...$$("#board tbody tr").slice(rows.length));
  }
  const row = rows[Math.max(0, Math.min(rows.length - 1, at + by))];
  row?.focus();
  row?.scrollIntoView({ block: "nearest" });
}

const held = () => document.activeElement?.closest?.("#board tr[data-row]")?.dataset.row;
const acts = {
  theme: () => set("theme", document.documentElement.dataset.theme === "dark" ? "light" : "dark"),
  help: () => $("#help").showModal(),
  reset: () => { Object.assign(state, { q: "", model: "", family: "" }); apply(false); },
  swap: () => { [state.a, state.b] = [state.b, state.a]; apply(); },
  play: () => { clock.playing = !clock.playing; },
};

let typing;
document.addEventListener("input", ({ target }) => {
  const key = target.dataset?.state;
  if (!key) return;
  const value = target.type === "checkbox" ? (target.checked ? "1" : "") : target.value;
  clearTimeout(typing);
  if (key === "q") typing = setTimeout(() => set(key, value), 120);
  else set(key, value);
});

document.addEventListener("click", ({ target }) => {
  const button = target.closest("button");
  if (button?.dataset.act) return acts[button.dataset.act]();
  if (button?.dataset.metric) return set("metric", button.dataset.metric);
  if (button?.dataset.side) return choose(button.closest("tr").dataset.row, button.dataset.side);
  if (button?.dataset.pair) {
    [state.a, state.b] = button.dataset.pair.split(" ");
    apply();
    return $("#pairs").scrollIntoView();
  }
  const point = target.closest("circle[data-row]");
  if (point) choose(point.dataset.row);
});

const keys = {
  ArrowUp: () => step(-1), ArrowDown: () => step(1), "?": acts.help, t: acts.theme, x: acts.swap, " ": acts.play,
  "/": () => $("[data-state=q]").focus(), p: () => { $("#pairs").scrollIntoView(); ($("#grid .card") ?? $("#board")).focus({ preventScroll: true }); },
  a: () => held() && choose(held(), "a"), b: () => held() && choose(held(), "b"),
};
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || $("#help").open) return;
  const field = event.target.closest("input, select, textarea");
  if (field) return event.key === "Escape" && field.blur();
  if (event.target.closest("button, a") && (event.key === " " || event.key === "Enter")) return;
  if (event.key.startsWith("Arrow") && !event.target.closest("#board")) return;
  if (!keys[event.key]) return;
  event.preventDefault();
  keys[event.key]();
});

window.addEventListener("hashchange", () => {
  readAddress();
  startBoard();
  apply();
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", showControls);

readAddress();
startBoard();
apply();
requestAnimationFrame(tick);
