"use strict";
/* The page of one rater. What is shown comes from /api/next, so a reload, the back button or a second tab show the first
   clip without a rating. An answer waits in localStorage until the server has acknowledged it. */
const $ = (id) => document.getElementById(id);
const token = new URLSearchParams(location.hash.slice(1)).get("t") || "";
const WAITING = `stg-eval-rate-${token.slice(0, 12)}`;
const CHOICES = { left: "left", equal: "equal", right: "right" };
let asked = null; // what /api/instructions said
let trial = null;
let played = false;
let sending = false;
let urls = [];

async function call(path, options = {}) {
  for (let wait = 500; ; wait = Math.min(2 * wait, 8000)) {
    let answer;
    try {
      answer = await fetch(path, { ...options, headers: { Authorization: `Bearer ${token}`, ...options.headers } });
    } catch {
      say("No connection. Your rating is kept; trying again …");
    }
    if (answer && answer.status !== 429 && answer.status < 500) return answer;
    if (answer) say("The server is busy; trying again …");
    await new Promise((done) => setTimeout(done, wait));
  }
}

function say(text) {
  $(trial ? "hint" : "message").textContent = text;
}

function show(id) {
  for (const one of ["message", "instructions", "trial"]) $(one).hidden = one !== id;
}

function end(text) {
  trial = null;
  show("message");
  say(text);
}

async function begin() {
  if (!token) return end("This link is not whole. Open the one that you were sent, up to its last letter.");
  const answer = await call("api/instructions");
  if (!answer.ok) return end((await answer.json()).detail);
  asked = await answer.json();
  await deliver();
  const state = await (await call("api/next")).json();
  if (state.done === 0 && state.trial) return instruct(state);
  present(state);
}

/* ---- instructions */

async function instruct(state) {
  show("instructions");
  $("task").textContent =
    asked.mode === "single"
      ? `You will see ${state.total} short clips. Watch each to its end, then answer five questions from 1 (worst) to 5 (best).`
      : `You will see ${state.total} pairs of clips of the same text. Watch them to their end, then say for each question which one is better, or that they are equal.`;
  $("aspects").replaceChildren(
    ...asked.aspects.flatMap((a) => [make("dt", a.title), make("dd", `${a.question} 1: ${a.low}. 5: ${a.high}.`)]),
  );
  $("start").onclick = async () => present(await (await call("api/next")).json());
  $("start").focus();
  if ($("examples").children.length) return;
  for (const example of asked.examples) {
    const figure = make("figure");
    const video = await clip(`api/examples/${example.name}`);
    video.loop = true;
    figure.append(video, make("figcaption", example.caption));
    $("examples").append(figure);
    video.play().catch(() => {});
  }
}

/* ---- a trial */

async function present(state) {
  $("count").textContent = `${state.done} of ${state.total}`;
  $("progress").hidden = false;
  $("progress").value = state.total ? state.done / state.total : 1;
  $("help").hidden = false;
  if (!state.trial) {
    $("help").hidden = true;
    return end("All done. Thank you! You can close this page.");
  }
  trial = state.trial;
  played = false;
  for (const video of document.querySelectorAll("#clips video")) {
    video.removeAttribute("src"); // a player must not ask for an address that is taken back
    video.load();
  }
  $("clips").replaceChildren();
  urls.forEach(URL.revokeObjectURL);
  urls = [];
  show("trial");
  $("prompt").textContent = trial.prompt;
  ask();
  say("Loading …");
  const mine = trial.id;
  const videos = [];
  for (let side = 0; side < trial.clips; side++) videos.push(await clip(`api/clips/${mine}/${side}`));
  urls = videos.map((video) => video.src);
  if (!trial || trial.id !== mine) return;
  $("clips").replaceChildren(
    ...videos.map((video) => {
      const figure = make("figure");
      figure.append(video);
      return figure;
    }),
  );
  let running = videos.length;
  for (const video of videos) {
    video.addEventListener("ended", () => {
      if (--running > 0) return;
      running = videos.length;
      if (!played) {
        played = true;
        say("");
        ready();
      }
      restart(videos);
    });
  }
  $("replay").onclick = () => {
    running = videos.length;
    restart(videos);
  };
  say("Watch to the end, then answer.");
  restart(videos);
}

function restart(videos) {
  for (const video of videos) video.currentTime = 0;
  Promise.all(videos.map((video) => video.play())).catch(() => say("Press “Play again” to start."));
}

async function clip(path) {
  const answer = await call(path);
  const video = make("video");
  video.muted = true;
  video.playsInline = true;
  video.disablePictureInPicture = true;
  video.addEventListener("loadedmetadata", () => video.classList.toggle("small", video.videoWidth < 160));
  if (!answer.ok) return video;
  video.src = URL.createObjectURL(await answer.blob());
  await new Promise((done) => {
    video.addEventListener("canplaythrough", done, { once: true });
    video.addEventListener("error", done, { once: true });
  });
  if (video.error) say("This clip cannot be played in this browser; please try another one.");
  return video;
}

function ask() {
  const options = asked.mode === "single" ? [1, 2, 3, 4, 5] : Object.keys(CHOICES);
  $("questions").replaceChildren(
    ...asked.aspects.map((aspect) => {
      const group = make("fieldset");
      const legend = make("legend", aspect.title);
      legend.append(make("small", aspect.question));
      const scale = make("div");
      scale.className = "scale";
      if (asked.mode === "single") scale.append(make("span", aspect.low));
      for (const option of options) {
        const label = make("label");
        const input = make("input");
        Object.assign(input, { type: "radio", name: aspect.name, value: option, required: true, disabled: true });
        input.setAttribute("aria-label", `${aspect.title}: ${option}`);
        label.append(input, make("b", String(option)));
        scale.append(label);
      }
      if (asked.mode === "single") scale.append(make("span", aspect.high));
      group.append(legend, scale);
      return group;
    }),
  );
  $("submit").disabled = true;
}

function ready() {
  for (const input of $("questions").elements) input.disabled = false;
  turn(0);
}

const groups = () => [...$("questions").querySelectorAll("fieldset")];
let at = 0;

function turn(to) {
  const all = groups();
  at = Math.max(0, Math.min(to, all.length - 1));
  all.forEach((group, i) => group.classList.toggle("now", i === at));
}

function given() {
  const out = {};
  for (const [name, value] of new FormData($("questions"))) out[name] = asked.mode === "single" ? Number(value) : value;
  return out;
}

$("questions").addEventListener("change", (event) => {
  turn(groups().indexOf(event.target.closest("fieldset")) + 1);
  $("submit").disabled = !played || Object.keys(given()).length < asked.aspects.length;
});

$("questions").addEventListener("submit", async (event) => {
  event.preventDefault();
  if (!trial || !played || sending || $("submit").disabled) return;
  $("submit").disabled = true;
  localStorage.setItem(WAITING, JSON.stringify({ trial: trial.id, answer: given() }));
  await deliver();
  present(await (await call("api/next")).json());
});

/* Send the answer that waits, if there is one. Sent twice it counts once. */
async function deliver() {
  const waiting = localStorage.getItem(WAITING);
  if (!waiting || sending) return;
  sending = true;
  try {
    const answer = await call("api/answers", { method: "POST", body: waiting, headers: { "Content-Type": "application/json" } });
    if (answer.status === 425) {
      played = false;
      await new Promise((done) => setTimeout(done, 1000));
    }
    localStorage.removeItem(WAITING);
  } finally {
    sending = false;
  }
}

document.addEventListener("keydown", (event) => {
  if (!trial || $("trial").hidden || event.ctrlKey || event.metaKey || event.altKey) return;
  const options = groups()[at] ? [...groups()[at].querySelectorAll("input")] : [];
  if (/^[1-5]$/.test(event.key) && options[event.key - 1]) options[event.key - 1].click();
  else if (event.key === "ArrowDown") turn(at + 1);
  else if (event.key === "ArrowUp") turn(at - 1);
  else if (event.key === "Enter" && document.activeElement.tagName !== "BUTTON") $("questions").requestSubmit();
  else if (event.key === "r" || event.key === "R") $("replay").click();
  else return;
  event.preventDefault();
});

$("help").addEventListener("click", async () => instruct(await (await call("api/next")).json()));
window.addEventListener("pageshow", (event) => event.persisted && location.reload());

function make(tag, text = "") {
  const element = document.createElement(tag);
  element.textContent = text;
  return element;
}

begin();
