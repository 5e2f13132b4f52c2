// The pairs of two rows: read when they are asked for, clips when they are seen.

const asked = new Map(), arrived = new Map();
let cards = [];

/** Every run's script calls this. */
function loaded(run, data) {
  arrived.set(run, data);
}

function read(run) {
  if (!asked.has(run)) {
    asked.set(run, new Promise((resolve, reject) => {
      const script = document.createElement("script"), file = `runs/${String(run).padStart(4, "0")}.js`;
      script.src = file;
      script.onload = () => resolve(arrived.get(run));
      script.onerror = () => reject(new Error(`${file} does not lie beside this page: keep its folder together.`));
      document.head.append(script);
    }));
  }
  return asked.get(run);
}

/** What stands against comparing the clips of two rows, as the gate has it. */
function refusals(a, b) {
  const fields = ["height", "width", "frames a clip", "frames a second", "encoding"], [ours, theirs] = [runOf(a).shape, runOf(b).shape];
  if (!ours || !theirs) return [];
  return fields.map((f, i) => [f, ours[i], theirs[i]]).filter(([, x, y]) => x !== y).map(([f, x, y]) => `Not comparable: ${f} ${x} in A, ${y} in B.`);
}

function differing(a, b) {
  const [old, now] = [a, b].map((row) => new Map([["model", runOf(row).model], ["guidance", row.signature], ...runOf(row).about]));
  return [...new Set([...old.keys(), ...now.keys()])].filter((k) => old.get(k) !== now.get(k)).map((k) => `${k} ${old.get(k) ?? "—"} → ${now.get(k) ?? "—"}`);
}

/** Clips of the same case, prompt and seed. */
function join(a, b) {
  const key = ([id, seed, prompt]) => JSON.stringify([id, seed, prompt]);
  const partners = new Map(a.map((clip) => [key(clip), clip]));
  return b.filter((clip) => partners.has(key(clip))).map((clip) => ({ id: clip[0], seed: clip[1], prompt: clip[2], a: partners.get(key(clip)), b: clip }));
}

/** Scores of one metric of the pairs that have both, and what is drawn together. */
function scoresOf(pairs, ours, theirs, metric) {
  const [i, j] = [ours, theirs].map((run) => run.metrics.indexOf(metric));
  const out = { a: [], b: [], clusters: [] };
  if (i < 0 || j < 0) return out;
  if (!theirs.byCase.includes(metric)) {
    for (const pair of pairs) {
      const [x, y] = [pair.a[4][i], pair.b[4][j]];
      if (x === null || y === null) continue;
      out.a.push(x);
      out.b.push(y);
      out.clusters.push(theirs.cluster === "case" ? pair.id : `${pair.id}/${pair.seed}`);
    }
    return out;
  }
  const cases = new Map(); // a filter picks clips of a case anew: its mean is what is paired
  for (const pair of pairs) {
    const of = cases.get(pair.id) ?? cases.set(pair.id, { a: [], b: [] }).get(pair.id);
    if (pair.a[4][i] !== null) of.a.push(pair.a[4][i]);
    if (pair.b[4][j] !== null) of.b.push(pair.b[4][j]);
  }
  for (const [id, { a, b }] of cases) {
    if (!a.length || !b.length) continue;
    out.a.push(a.reduce((s, v) => s + v, 0) / a.length);
    out.b.push(b.reduce((s, v) => s + v, 0) / b.length);
    out.clusters.push(id);
  }
  return out;
}

function print(c, value, signed = false) {
  if (!Number.isFinite(value)) return "—";
  const text = value.toFixed(c.digits);
  if (Number(text) === 0) return text.replace("-", "");
  return (signed && value > 0 ? "+" : "") + text.replace("-", "−");
}

const judge = (c, low, high) => (c.higher === null || !(low > 0 || high < 0) ? "" : low > 0 === c.higher ? "better" : "worse");

let turn = 0;
async function showPairs() {
  const mine = ++turn, a = board.rows[state.a], b = board.rows[state.b], sides = $("#sides");
  for (const card of cards) leave(card);
  cards = [];
  near.disconnect();
  $("#grid").replaceChildren();
  $("#differences").replaceChildren();
  $("#differs").textContent = "";
  $("#refused").hidden = $("#pair-bar").hidden = true;
  sides.replaceChildren(...["a", "b"].flatMap((side) => {
    const row = board.rows[state[side]];
    return [element("b", side, side.toUpperCase()), row ? ` ${runOf(row).name}, ${name(row)} ` : " — "];
  }));
  if (!a || !b) return sides.append("Choose two rows of the leaderboard, by their buttons A and B.");
  const against = refusals(a, b);
  try {
    const [ours, theirs] = against.length ? [] : await Promise.all([read(a.run), read(b.run)]);
    if (mine !== turn) return;
    if (against.length) return refuse(against);
    const left = ours.variants[a.variant], right = theirs.variants[b.variant], pairs = join(left, right);
    if (!pairs.length) return refuse(["Not comparable: no case, prompt and seed that both have."]);
    const lost = left.length + right.length - 2 * pairs.length;
    const told = differing(a, b);
    $("#differs").textContent = `${pairs.length} pairs of the same case, prompt and seed${lost ? `; ${lost} clips have no partner` : ""}. ${told.length ? `Different: ${told.join(", ")}.` : "Nothing else is known to differ."}`;
    fillDifferences(pairs, ours, theirs);
    fillCards(pairs, ours, theirs);
  } catch (error) {
    if (mine === turn) refuse([error.message]);
  }
}

function refuse(lines) {
  $("#refused").replaceChildren(...lines.map((line) => element("li", "", line)));
  $("#refused").hidden = false;
}

function fillDifferences(pairs, ours, theirs) {
  const table = $("#differences"), head = element("tr");
  head.append(element("th", "label", "Score"), ...["A", "B", "B − A, 95 % interval", "pairs"].map((text) => element("th", "", text)));
  table.append(element("thead"), element("tbody"));
  table.tHead.append(head);
  for (const c of board.columns) {
    const cells = [state.a, state.b].map((i) => c.cells[i]);
    if (!cells[0] || !cells[1]) continue;
    const line = element("tr");
    line.append(element("th", "label", c.title + arrow(c)));
    const same = cells[0][7] === cells[1][7], scores = c.kind === "clip" && same ? scoresOf(pairs, ours, theirs, c.name) : { a: [] };
    if (scores.a.length) {
      const d = pairedDifference(scores.a, scores.b, scores.clusters, c.scale), last = element("td", judge(c, d.low, d.high), print(c, d.difference, true));
      last.append(element("small", "", `[${print(c, d.low, true)}, ${print(c, d.high, true)}]`));
      line.append(element("td", "", print(c, d.a)), element("td", "", print(c, d.b)), last, element("td", "", d.n));
    } else {
      const why = same ? "of the set: stg-eval compare has its interval" : "scored in different ways";
      line.append(...cells.map((v) => element("td", "", minus(v[3]))), element("td", "", same ? print(c, cells[1][0] - cells[0][0], true) : "—"), element("td", "", why));
    }
    table.tBodies[0].append(line);
  }
}

const near = new IntersectionObserver(
  (entries) => {
    for (const { target, isIntersecting } of entries) (isIntersecting ? enter : leave)(target);
  },
  { rootMargin: "400px 0px" },
);

function enter(card) {
  if (!card.views) fillCard(card);
  for (const view of card.views) if (!clock.views.has(view)) view.resume();
}

function leave(card) {
  for (const view of card.views ?? []) view.release();
}

function fillCards(pairs, ours, theirs) {
  const c = column(), [i, j] = [ours, theirs].map((run) => run.metrics.indexOf(c?.name));
  const gain = (p) => (p.a[4][i] == null || p.b[4][j] == null ? NaN : p.b[4][j] - p.a[4][i]);
  let order = pairs;
  if (state.order !== "case" && c) {
    const best = (c.higher === false ? 1 : -1) * (state.order === "gain" ? 1 : -1);
    order = pairs.map((p) => [gain(p), p]).sort(([x], [y]) => (Number.isFinite(x) && Number.isFinite(y) ? best * (x - y) : Number.isFinite(y) - Number.isFinite(x))).map(([, p]) => p);
  }
  const first = pairs.map((p) => p.b[3]).find((clip) => clip.w), grid = $("#grid");
  document.body.style.setProperty("--shape", first ? first.w / first.h : 1);
  grid.style.setProperty("--tile", "150px");
  grid.style.setProperty("--n", 2);
  grid.style.setProperty("--tiles", `${Math.round(first ? (150 * first.h) / first.w + 40 : 190)}px`);
  cards = order.map((pair) => {
    const card = element("article", "card"), head = element("header");
    card.tabIndex = 0;
    head.append(element("h3", "", pair.prompt || pair.id), element("p", "", pair.prompt ? `${pair.id} · seed ${pair.seed}` : `seed ${pair.seed}`));
    head.title = pair.prompt;
    card.append(head, element("div", "tiles"));
    card.pair = pair;
    card.scores = [pair.a[4][i], pair.b[4][j], gain(pair)];
    near.observe(card);
    return card;
  });
  grid.replaceChildren(...cards);
  $("#pair-bar").hidden = false;
  $("#pair-count").textContent = `${cards.length} pairs`;
}

function fillCard(card) {
  const c = column();
  card.views = [];
  for (const side of ["a", "b"]) {
    const clip = card.pair[side][3], tile = element("figure", `tile ${side}`);
    if (clip.file === undefined) tile.append(note(clip.problem));
    else {
      const view = new Film(clip);
      if (clip.w <= 128) view.element.className = "pixels";
      card.views.push(view);
      tile.append(view.element);
    }
    const caption = element("figcaption"), out = element("span", "score");
    caption.append(element("span", "name", side.toUpperCase()), out);
    if (c && c.kind === "clip") out.append(element("b", "", print(c, card.scores[side === "a" ? 0 : 1] ?? NaN)));
    if (c && side === "b" && Number.isFinite(card.scores[2])) out.append(element("i", judge(c, card.scores[2], card.scores[2]), print(c, card.scores[2], true)));
    tile.append(caption);
    $(".tiles", card).append(tile);
  }
}
