"use strict";
// What plays, and the one clock that all of it plays to. A small clip is a sheet of all its frames, drawn on a canvas;
// a large one is a video that is kept in step with the clock.

const DATA = JSON.parse(document.getElementById("data").textContent);

const clock = { time: 0, playing: true, speed: 1, views: new Set(), onframe: () => {} };

/** Which frame of a clip stands at a time in seconds; clips loop. */
function frameAt(clip, time) {
  return Math.floor(time * clip.fps + 1e-6) % clip.n;
}

function tick(now) {
  if (clock.playing && clock.last !== undefined) clock.time += ((now - clock.last) / 1000) * clock.speed;
  clock.last = now;
  for (const view of clock.views) view.show(clock.time);
  clock.onframe();
  requestAnimationFrame(tick);
}

let sheetText;
function sheetSource(clip) {
  sheetText ??= document.getElementById("sheets").textContent;
  return "data:image/webp;base64," + sheetText.slice(clip.at, clip.at + clip.length);
}

class Sheet {
  constructor(clip) {
    this.clip = clip;
    this.shown = -1;
    this.element = document.createElement("canvas");
    this.element.width = clip.w;
    this.element.height = clip.h;
    this.element.className = "pixels";
  }
  resume() {
    const image = (this.image = new Image());
    image.onload = () => this.show(clock.time);
    image.onerror = () => this.element.replaceWith(note("This clip cannot be drawn."));
    image.src = sheetSource(this.clip);
    clock.views.add(this);
  }
  show(time) {
    const { w, h, cols } = this.clip, k = frameAt(this.clip, time);
    if (k === this.shown || !this.image?.complete) return; // still loading, or released before it had loaded
    this.shown = k;
    this.element.dataset.frame = k;
    this.element.getContext("2d").drawImage(this.image, (k % cols) * w, Math.floor(k / cols) * h, w, h, 0, 0, w, h);
  }
  release() {
    clock.views.delete(this);
    this.image = undefined;
  }
}

class Film {
  constructor(clip) {
    this.clip = clip;
    this.element = document.createElement("video");
    Object.assign(this.element, { muted: true, loop: true, playsInline: true, preload: "auto", width: clip.w, height: clip.h });
    this.element.onerror = () => {
      if (this.element.hasAttribute("src")) this.element.replaceWith(note("This browser cannot play this clip."));
    };
  }
  resume() {
    this.element.src = this.clip.file;
    clock.views.add(this);
  }
  show(time) {
    const video = this.element, { n, fps } = this.clip, length = n / fps;
    if (video.readyState < 2 || video.seeking) return;
    if (!clock.playing) {
      if (!video.paused) video.pause();
      const middle = (frameAt(this.clip, time) + 0.5) / fps;
      if (Math.abs(video.currentTime - middle) > 0.4 / fps) video.currentTime = middle;
      return;
    }
    let drift = (time % length) - video.currentTime;
    if (drift > length / 2) drift -= length;
    if (drift < -length / 2) drift += length;
    if (Math.abs(drift) > Math.max(0.3, 3 / fps)) video.currentTime = time % length;
    const nudge = Math.abs(drift) > 0.2 / fps ? Math.max(-0.4, Math.min(0.4, 3 * drift)) : 0;
    const rate = clock.speed * (1 + nudge);
    if (Math.abs(video.playbackRate - rate) > 0.01) video.playbackRate = rate;
    if (video.paused) video.play().catch(() => {});
  }
  release() {
    clock.views.delete(this);
    this.element.pause();
    this.element.removeAttribute("src");
    this.element.load();
  }
}

function makeView(index) {
  const clip = DATA.clips[index];
  return clip.file ? new Film(clip) : new Sheet(clip);
}

function note(text) {
  const p = document.createElement("p");
  p.className = "absent";
  p.textContent = text;
  return p;
}
