// What is shown of which pairs, in which order: state, address, cards.

const $ = (selector, root = document) => root.querySelector(selector);
const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];
const grid = $("#grid");
let run, cards, listed;

const state = {};
function defaults(r) {
  return {
    run: "0", a: r.variants[r.baseline].name, b: (r.variants.find((v, i) => i !== r.baseline) ?? r.variants[0]).name,
    metric: r.metrics[0]?.name ?? "", order: "case", show: "all", least: "", tag: "", q: "", size: "m", only: "",
    pair: "", mode: "side", wipe: "50", gain: "4", frame: "", speed: "1", theme: "",
  };
}

function readAddress() {
  const given = Object.fromEntries(new URLSearchParams(location.hash.slice(1)));
  run = DATA.runs[given.run] ?? DATA.runs[0];
  const base = defaults(run);
  for (const key of Object.keys(base)) state[key] = given[key] ?? base[key];
  if (!DATA.runs[state.run]) state.run = "0";
  for (const key of ["a", "b"]) if (index(state[key]) < 0) state[key] = base[key];
  if (!run.metrics.some((m) => m.name === state.metric)) state.metric = base.metric;
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
  state.frame = clock.playing ? "" : String(frameAt(run.timing, clock.time));
  const base = defaults(run);
  const changed = Object.entries(state).filter(([key, value]) => value !== base[key]);
  const hash = new URLSearchParams(changed).toString();
  if (hash !== location.hash.slice(1)) history.replaceState(null, "", "#" + hash);
}

const index = (name) => run.variants.findIndex((v) => v.name === name);
const metric = () => run.metrics.find((m) => m.name === state.metric);
const metricIndex = () => run.metrics.indexOf(metric());

function score(pair, name, m = metricIndex()) {
  const value = pair.cells[index(name)]?.scores?.[m];
  return value ?? NaN;
}
const difference = (pair, m = metricIndex()) => score(pair, state.b, m) - score(pair, state.a, m);

function print(m, value, signed = false) {
  if (!Number.isFinite(value)) return "—";
  const text = value.toFixed(m.digits);
  if (Number(text) === 0) return text.replace("-", "");
  return (signed && value > 0 ? "+" : "") + text.replace("-", "−");
}

/** "better", "worse" or "" to the printed digit. */
function judge(m, value) {
  const printed = Number(Number.isFinite(value) ? value.toFixed(m.digits) : 0);
  return printed === 0 || m.higher === null ? "" : (printed > 0) === m.higher ? "better" : "worse";
}

function matches(pair) {
  if (state.q && !(pair.prompt + " " + pair.case).toLowerCase().includes(state.q.toLowerCase())) return false;
  if (state.tag && !pair.tags.includes(state.tag)) return false;
  const m = metric(), d = m ? difference(pair) : NaN;
  if (Number(state.least) > 0 && !(Math.abs(d) >= Number(state.least))) return false;
  if (state.show === "missing")
    return pair.cells.some((c) => c.clip === undefined || pair.wanted.some((i) => c.scores[i] === null));
  if (state.show === "equal") return Number.isFinite(d) && judge(m, d) === "";
  return state.show === "all" || (m !== undefined && judge(m, d) === state.show);
}

function sorted(pairs) {
  if (state.order === "case" || !metric()) return pairs;
  const best = (metric().higher ? -1 : 1) * (state.order === "gain" || state.order === "high" ? 1 : -1);
  const value = state.order === "gain" || state.order === "loss" ? difference : (pair) => score(pair, state.b);
  const keyed = pairs.map((pair) => [value(pair), pair]);
  keyed.sort(([x], [y]) => (Number.isFinite(x) && Number.isFinite(y) ? best * (x - y) : Number.isFinite(y) - Number.isFinite(x)));
  return keyed.map(([, pair]) => pair);
}

function element(tag, className, text) {
  const e = document.createElement(tag);
  if (className) e.className = className;
  if (text !== undefined) e.textContent = text;
  return e;
}

/** Cards come into being empty, and are filled when they come near the window. */
function makeCards() {
  cards?.forEach(leave);
  cards = new Map();
  for (const pair of run.pairs) {
    const card = element("article", "card");
    card.tabIndex = 0;
    card.dataset.pair = pair.id;
    const head = element("header");
    head.append(element("h3", "", pair.prompt || pair.case));
    head.append(element("p", "", pair.prompt ? `${pair.case} · seed ${pair.seed}` : `seed ${pair.seed}`));
    head.title = pair.prompt;
    card.append(head, element("div", "tiles"));
    cards.set(pair, card);
    card.pair = pair;
  }
}

const near = new IntersectionObserver(
  (entries) => {
    for (const { target, isIntersecting } of entries) (isIntersecting ? enter : leave)(target);
  },
  { rootMargin: "400px 0px" },
);

function enter(card) {
  if (!card.views) fill(card);
  for (const view of card.views) if (!clock.views.has(view)) view.resume();
}

function leave(card) {
  for (const view of card.views ?? []) view.release();
}

function fill(card) {
  const tiles = $(".tiles", card);
  card.views = [];
  run.variants.forEach((variant, i) => {
    const cell = card.pair.cells[i], tile = element("figure", "tile");
    tile.dataset.variant = variant.name;
    if (cell.clip === undefined) tile.append(note(cell.problem));
    else {
      const view = makeView(cell.clip);
      card.views.push(view);
      tile.append(view.element);
    }
    const caption = element("figcaption");
    caption.append(element("span", "name", variant.name), element("span", "score"));
    tile.append(caption);
    tiles.append(tile);
  });
  label(card);
  grid.style.setProperty("--tiles", `${tiles.offsetHeight}px`); // what cards that are still empty keep free
}

/** Scores and roles under the clips of a filled card. */
function label(card) {
  const m = metric();
  for (const tile of $$(".tile", card)) {
    const name = tile.dataset.variant, out = $(".score", tile);
    tile.classList.toggle("a", name === state.a);
    tile.classList.toggle("b", name === state.b);
    tile.hidden = state.only === "1" && name !== state.a && name !== state.b;
    out.replaceChildren();
    if (!m) continue;
    out.append(element("b", "", print(m, score(card.pair, name))));
    const d = score(card.pair, name) - score(card.pair, state.a);
    if (name !== state.a && Number.isFinite(d)) out.append(element("i", judge(m, d), print(m, d, true)));
  }
}

function layout() {
  const shown = state.only === "1" ? 2 : run.variants.length;
  const tile = ({ s: 72, m: 132, l: 232 }[state.size] ?? 132) * (run.timing.w > 64 ? 1.8 : 1);
  document.body.style.setProperty("--shape", run.timing.w / run.timing.h);
  grid.style.setProperty("--tile", `${tile}px`);
  grid.style.setProperty("--n", shown);
  grid.style.setProperty("--tiles", `${Math.round((tile * run.timing.h) / run.timing.w + 40)}px`);
}

function refresh() {
  const held = document.activeElement?.pair, place = listed?.indexOf(held);
  layout();
  listed = sorted(run.pairs.filter(matches));
  grid.replaceChildren(...listed.map((pair) => cards.get(pair))); // takes the focus from a card, even from one that stays
  if (held) cards.get(listed.includes(held) ? held : listed[Math.min(place, listed.length - 1)])?.focus({ preventScroll: true });
  near.disconnect();
  for (const pair of run.pairs) {
    const card = cards.get(pair);
    if (!card.isConnected) leave(card);
    else {
      near.observe(card);
      if (card.views) label(card);
    }
  }
  $("#count").textContent = `${listed.length} of ${run.pairs.length} pairs`;
  $("#empty").hidden = listed.length > 0;
}
