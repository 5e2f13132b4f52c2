// One pair large, playback, keys: what the reader does.

const viewer = $("#viewer"), stage = $("#stage"), scrub = $("#scrub");
let opened, stageViews = [];

function arrow(m) {
  return m.higher === null ? "" : m.higher ? " ↑" : " ↓";
}

function fillSelect(key, options) {
  for (const select of $$(`select[data-state=${key}]`)) {
    select.replaceChildren(...options.map(([value, text]) => new Option(text, value)));
    select.closest("label").hidden = options.length < 2;
  }
}

function startRun() {
  document.querySelectorAll("section.run").forEach((s) => (s.hidden = s.dataset.run !== state.run));
  const variants = run.variants.map((v) => [v.name, v.name]);
  fillSelect("a", variants);
  fillSelect("b", variants);
  fillSelect("metric", run.metrics.map((m) => [m.name, `${m.short}${arrow(m)}`]));
  const tags = [...new Set(run.pairs.flatMap((p) => p.tags))].sort((x, y) => x.localeCompare(y, "en", { numeric: true }));
  fillSelect("tag", [["", "all"], ...tags.map((t) => [t, t.replaceAll("_", " ")])]);
  $("[data-state=only]").closest("label").hidden = run.variants.length < 3;
  for (const key of ["order", "show", "least"])
    $(`[data-state=${key}]`).closest("label").hidden = !run.metrics.length || run.variants.length < 2;
  scrub.max = run.timing.n - 1;
  makeCards();
}

function showControls() {
  for (const control of $$("[data-state]")) {
    if (control.type === "checkbox") control.checked = state[control.dataset.state] === "1";
    else if (control.value !== state[control.dataset.state]) control.value = state[control.dataset.state];
  }
  const dark = matchMedia("(prefers-color-scheme: dark)").matches;
  document.documentElement.dataset.theme = state.theme || (dark ? "dark" : "light");
  clock.speed = Number(state.speed) || 1;
}

/** Everything follows from the state. */
function apply() {
  showControls();
  refresh();
  showViewer();
  writeAddress();
}

function showViewer() {
  const pair = run.pairs.find((p) => p.id === state.pair);
  for (const view of stageViews) view.release();
  stageViews = [];
  viewer.hidden = !pair;
  $("#page").inert = Boolean(pair);
  document.body.classList.toggle("viewing", Boolean(pair));
  if (!pair) {
    if (opened) cards.get(opened)?.focus({ preventScroll: false });
    opened = undefined;
    return;
  }
  $("#viewer-title").textContent = pair.prompt || pair.case;
  $("#viewer-meta").textContent = [pair.prompt && pair.case, `seed ${pair.seed}`, ...pair.tags].filter(Boolean).join(" · ");
  const at = listed.indexOf(pair);
  $("#place").textContent = at < 0 ? "" : `${at + 1} of ${listed.length}`;
  for (const button of $$("[data-mode]")) button.setAttribute("aria-pressed", button.dataset.mode === state.mode);
  viewer.dataset.mode = state.mode;
  fillStage(pair);
  fillScores(pair);
  if (opened === undefined) viewer.focus();
  opened = pair;
}

function fillStage(pair) {
  stage.replaceChildren();
  const box = element("div", "box");
  for (const side of ["a", "b"]) {
    const cell = pair.cells[index(state[side])], pane = element("div", `pane ${side}`);
    if (cell.clip === undefined) pane.append(note(cell.problem));
    else {
      const view = makeView(cell.clip);
      stageViews.push(view);
      view.resume();
      pane.append(view.element);
    }
    const tag = element("span", "tag");
    tag.append(element("b", "", side.toUpperCase()), ` ${run.variants[index(state[side])].name}`);
    box.append(pane, tag);
    tag.classList.add(side);
  }
  box.append(element("div", "edge"));
  stage.append(box);
  setWipe();
}

function setWipe() {
  const box = $(".box", stage);
  if (!box) return;
  box.style.setProperty("--wipe", `${state.wipe}%`);
  box.style.setProperty("--gain", state.gain);
}

function fillScores(pair) {
  const table = $("#scores"), head = element("tr");
  table.replaceChildren();
  if (!run.metrics.length) return;
  head.append(element("th", "label", "Score"), ...run.variants.map((v) => element("th", "", v.name)), element("th", "", "B − A"));
  table.append(element("thead"), element("tbody"));
  table.tHead.append(head);
  run.metrics.forEach((m, i) => {
    const row = element("tr"), d = difference(pair, i);
    row.append(element("th", "label", `${m.title}${arrow(m)}`));
    for (const v of run.variants) row.append(element("td", { [state.b]: "b", [state.a]: "a" }[v.name] ?? "", print(m, score(pair, v.name, i))));
    row.append(element("td", judge(m, d), print(m, d, true)));
    table.tBodies[0].append(row);
  });
}

function open(pair) {
  state.pair = pair ? pair.id : "";
  showViewer();
  writeAddress();
}

/** The neighbour of the open pair, or of the card that has the focus. */
function turn(by) {
  const at = listed.findIndex((p) => p.id === state.pair);
  if (state.pair) {
    if (listed[at + by]) open(listed[at + by]);
    return;
  }
  const here = document.activeElement?.pair ? listed.indexOf(document.activeElement.pair) : -1;
  const card = cards.get(listed[Math.max(0, here + by)]);
  card?.focus();
  card?.scrollIntoView({ block: "nearest" });
}

function play(on = !clock.playing) {
  clock.playing = on;
  document.body.classList.toggle("paused", !on);
  writeAddress();
}

function goto(frame) {
  const { n, fps } = run.timing;
  clock.time = ((((frame % n) + n) % n) + 0.5) / fps;
  play(false);
}

const step = (by) => goto(frameAt(run.timing, clock.time) + by);

const acts = {
  play: () => play(),
  back: () => step(-1),
  forward: () => step(1),
  next: () => turn(1),
  previous: () => turn(-1),
  close: () => open(undefined),
  help: () => $("#help").showModal(),
  theme: () => set("theme", document.documentElement.dataset.theme === "dark" ? "light" : "dark"),
  swap: () => { [state.a, state.b] = [state.b, state.a]; apply(); },
  reset: () => { Object.assign(state, { q: "", tag: "", show: "all", least: "" }); apply(); },
  mode: (mode) => { state.mode = mode; showViewer(); writeAddress(); },
};

function set(key, value) {
  state[key] = value;
  if (key === "wipe" || key === "gain") {
    setWipe();
    showControls();
    writeAddress();
  } else if (key === "run") {
    location.hash = new URLSearchParams({ run: value, ...(state.theme && { theme: state.theme }) }).toString();
  } else if (key === "theme" || key === "speed") {
    showControls();
    writeAddress();
  } else apply();
}

let typing;
document.addEventListener("input", ({ target }) => {
  if (target === scrub) return goto(Number(scrub.value));
  const key = target.dataset?.state;
  if (!key) return;
  const value = target.type === "checkbox" ? (target.checked ? "1" : "") : target.value;
  clearTimeout(typing);
  if (key === "q" || key === "least") typing = setTimeout(() => set(key, value), 120);
  else set(key, value);
});

document.addEventListener("click", ({ target }) => {
  const button = target.closest("[data-act], [data-mode]");
  if (button) return button.dataset.mode ? acts.mode(button.dataset.mode) : acts[button.dataset.act]();
  const card = target.closest(".card");
  if (!card) return;
  const name = target.closest(".tile")?.dataset.variant;
  if (name && name !== state.a && name !== state.b) {
    state.b = name;
    state.pair = card.pair.id;
    apply();
  } else open(card.pair);
});

const keys = {
  " ": acts.play, ArrowLeft: acts.back, ArrowRight: acts.forward, ArrowUp: acts.previous, ArrowDown: acts.next,
  Escape: acts.close, "?": acts.help, t: acts.theme, x: acts.swap, "/": () => $("[data-state=q]").focus(),
  s: () => acts.mode("side"), w: () => acts.mode("wipe"), d: () => acts.mode("difference"),
  Enter: () => document.activeElement?.pair && open(document.activeElement.pair),
};
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || $("#help").open) return;
  const field = event.target.closest("input, select, textarea");
  if (field && (event.key !== "Escape" || field.type === "search")) return field && event.key === "Escape" && field.blur();
  if (event.target.closest("button, a, summary") && (event.key === " " || event.key === "Enter")) return;
  if (!state.pair && (event.key === "ArrowUp" || event.key === "ArrowDown") && !document.activeElement?.pair) return;
  if (!keys[event.key]) return;
  event.preventDefault();
  keys[event.key]();
});

stage.addEventListener("pointerdown", (event) => {
  if (state.mode !== "wipe") return;
  const drag = ({ clientX }) => {
    const box = $(".box", stage).getBoundingClientRect();
    set("wipe", String(Math.round(Math.max(0, Math.min(1, (clientX - box.left) / box.width)) * 100)));
  };
  event.preventDefault();
  stage.setPointerCapture(event.pointerId);
  drag(event);
  stage.addEventListener("pointermove", drag);
  for (const end of ["pointerup", "pointercancel"])
    stage.addEventListener(end, () => stage.removeEventListener("pointermove", drag), { once: true });
});

clock.onframe = () => {
  const frame = frameAt(run.timing, clock.time), text = `${frame + 1} / ${run.timing.n}`;
  if ($("#frame").textContent === text) return;
  $("#frame").textContent = text;
  scrub.value = frame;
};

function start() {
  readAddress();
  if (cards === undefined || start.run !== run) startRun();
  start.run = run;
  if (state.frame !== "") {
    clock.time = (Number(state.frame) + 0.5) / run.timing.fps;
    clock.playing = false;
  }
  document.body.classList.toggle("paused", !clock.playing);
  apply();
}

clock.playing = !matchMedia("(prefers-reduced-motion: reduce)").matches;
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", showControls);
window.addEventListener("hashchange", start);
start();
requestAnimationFrame(tick);
