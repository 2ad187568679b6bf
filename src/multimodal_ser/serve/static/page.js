// The page: a recording in, its timeline out; everything works by keyboard and is told in words.
import { canRecord, recordByHand } from "/static/record.js";
import {
  clock, drawAxis, drawBand, drawCurves, drawMoments, drawWave, element, followWords, swatch, verdict,
} from "/static/draw.js";
import { slider } from "/static/slider.js";

const $ = (id) => document.getElementById(id);
const dark = window.matchMedia("(prefers-color-scheme: dark)");
const audio = $("audio");
const state = { model: null, limits: null, key: "", found: null, samples: null, shown: new Set(), retry: null };

const colourOf = (label) => state.model?.colours[label]?.[dark.matches ? "dark" : "light"] ?? "#8a929c";

function say(text, busy = false) {
  $("status").textContent = text;
  $("status").classList.toggle("busy", busy);
}

function fail(title, text) {
  say("");
  $("error-title").textContent = title;
  $("error-text").textContent = text;
  $("error").hidden = false;
  $("start").hidden = false;
}

async function ask(address, options = {}) {
  const headers = state.key ? { Authorization: `Bearer ${state.key}` } : {};
  let answer;
  try {
    answer = await fetch(address, { ...options, headers });
  } catch {
    throw Object.assign(new Error("the server cannot be reached; is it still running?"), { status: 0 });
  }
  const body = await answer.json().catch(() => ({}));
  if (answer.ok) return body;
  const told = body.error?.message ?? `it answered ${answer.status}`;
  throw Object.assign(new Error(told), { status: answer.status });
}

function askForKey(retry) {
  state.retry = retry;
  $("key-form").hidden = false;
  $("key").focus();
}

async function start() {
  try {
    const told = await ask("/v1/models");
    [state.model] = told.models;
    state.limits = told.limits;
    $("words-option").hidden = !told.words;
  } catch (error) {
    if (error.status === 401) askForKey(start);
    else fail("The server does not answer.", error.message);
    return;
  }
  $("error").hidden = true;
  $("model-name").textContent = state.model.name;
  $("card-open").setAttribute("aria-label", `${state.model.name} · model card`);
  $("card-text").innerHTML = state.model.card_html; // rendered by the server, raw HTML refused
  const { formats, max_seconds: seconds, max_mb: megabytes } = state.limits;
  $("limits").textContent = `${formats} · up to ${clock(seconds, 0)} min and ${megabytes} MB`;
  drawHint();
  if (!canRecord()) {
    $("record").disabled = true;
    $("record").title = "Recording needs https:// or localhost, and a browser with a microphone";
  }
}

function drawHint() {
  const group = document.querySelector(".hint g");
  const labels = state.model.labels;
  const bars = Array.from({ length: 30 }, (_, i) => {
    const tall = 6 + 50 * Math.abs(Math.sin(i * 0.55) * Math.sin(i * 0.21 + 0.6));
    const bar = document.createElementNS("http://www.w3.org/2000/svg", "rect");
    const place = { x: i * 8 + 1, y: (64 - tall) / 2, width: 5, height: tall, rx: 2.5 };
    Object.entries(place).forEach(([key, value]) => bar.setAttribute(key, value));
    bar.setAttribute("fill", colourOf(labels[Math.floor((i / 30) * labels.length)]));
    return bar;
  });
  group.replaceChildren(...bars);
}

async function analyse(blob, name) {
  $("error").hidden = true;
  $("result").hidden = true;
  say("Listening …", true);
  if (blob.size > 1e6 * state.limits.max_mb) {
    fail("This file is too large.", `It has ${(blob.size / 1e6).toFixed(0)} MB; allowed: ${state.limits.max_mb} MB.`);
    return;
  }
  const form = new FormData();
  form.append("file", blob, "recording"); // its name stays here
  let found;
  try {
    const words = !$("words-option").hidden && $("words").checked;
    found = await ask(`/v1/analyze?words=${words}`, { method: "POST", body: form });
  } catch (error) {
    if (error.status === 401) askForKey(() => analyse(blob, name));
    else fail("This recording could not be analysed.", error.message);
    return;
  }
  state.found = found;
  state.samples = await decoded(blob);
  if (audio.src) URL.revokeObjectURL(audio.src);
  audio.src = URL.createObjectURL(blob);
  state.shown = new Set(found.labels);
  show(name);
}

async function decoded(blob) {
  try {
    const context = new OfflineAudioContext(1, 1, 16000);
    return (await context.decodeAudioData(await blob.arrayBuffer())).getChannelData(0);
  } catch {
    return null; // a format that the server reads and this browser does not: no waveform
  }
}

function show(name) {
  const { found } = state;
  say("");
  $("start").hidden = true;
  $("result").hidden = false;
  $("eyebrow").textContent = [name, clock(found.duration), ...found.warnings].join(" · ");
  $("verdict").textContent = verdict(found);
  $("total").textContent = clock(found.duration);
  $("seek").setAttribute("aria-valuemax", found.duration.toFixed(1));
  drawMoments($("moments"), found, colourOf, seek);
  drawLegend();
  draw();
  follow();
  $("verdict").focus({ preventScroll: true });
  window.scrollTo(0, 0);
}

function told() {
  const parts = state.found.segments.map(({ label, confidence, start, end }) =>
    `${label} ${Math.round(100 * confidence)} percent from ${clock(start)} to ${clock(end)}`);
  return `Probabilities over time. ${parts.slice(0, 12).join("; ")}`;
}

function draw() {
  const { found, samples, shown } = state;
  if (!found || $("result").hidden) return;
  const rest = getComputedStyle(document.documentElement).getPropertyValue("--line").trim();
  drawWave($("wave"), samples, found.segments, found.duration, colourOf, rest);
  drawBand($("band"), found.segments, found.duration, colourOf);
  drawCurves($("curves"), found.track, found.labels, found.duration, colourOf, shown, told());
  drawAxis($("axis"), found.duration);
}

function drawLegend() {
  $("legend").replaceChildren(
    ...state.found.labels.map((label) =>
      element(
        "button",
        {
          type: "button",
          "data-label": label,
          "aria-pressed": String(state.shown.has(label)),
          onclick: ({ currentTarget }) => {
            if (!state.shown.delete(label)) state.shown.add(label);
            currentTarget.setAttribute("aria-pressed", String(state.shown.has(label)));
            draw();
          },
        },
        swatch(colourOf(label)), label, element("b", { "aria-hidden": "true" }),
      ),
    ),
  );
}

function nearest(at) {
  let best = null;
  for (const one of state.found.track) {
    const away = Math.abs((one.start + one.end) / 2 - at);
    if (!best || away < best.away) best = { away, one };
  }
  return best?.one;
}

function follow() {
  if (!state.found) return;
  const at = Math.min(audio.currentTime, state.found.duration);
  const current = state.found.segments.find((one) => one.start <= at && at < one.end);
  $("now").textContent = clock(at);
  $("head").style.left = `${(100 * at) / state.found.duration}%`;
  $("current").replaceChildren(...(current ? [swatch(colourOf(current.label), current.label), current.label] : ["no speech"]));
  $("seek").setAttribute("aria-valuenow", at.toFixed(1));
  $("seek").setAttribute("aria-valuetext", `${clock(at)}, ${current?.label ?? "no speech"}`);
  const point = nearest(at);
  for (const button of $("legend").children) {
    const share = point?.probabilities[button.dataset.label];
    button.querySelector("b").textContent = share === undefined ? "" : `${Math.round(100 * share)} %`;
  }
  const row = state.found.segments.indexOf(current);
  document.querySelectorAll("#moments button").forEach((button, i) => {
    if (i === row) button.setAttribute("aria-current", "true");
    else button.removeAttribute("aria-current");
  });
  followWords($("moments"), at);
  if (!audio.paused) requestAnimationFrame(follow);
}

function seek(at) {
  audio.currentTime = Math.max(0, Math.min(at, state.found.duration - 0.01));
  follow();
}

const record = () => {
  $("error").hidden = true;
  recordByHand({
    most: state.limits.max_seconds,
    begun: () => say("Recording"),
    done: (blob) => analyse(blob, "Recording"),
    failed: fail,
  });
};

function save() {
  const blob = new Blob([JSON.stringify(state.found, null, 2)], { type: "application/json" });
  const link = element("a", { href: URL.createObjectURL(blob), download: "timeline.json" });
  link.click();
  URL.revokeObjectURL(link.href);
}

$("choose").onclick = () => $("file").click();
$("file").onchange = ({ target }) => {
  const [file] = target.files;
  if (file) analyse(file, file.name);
  target.value = "";
};
$("record").onclick = record;
$("save").onclick = save;
$("again").onclick = () => {
  audio.pause();
  $("result").hidden = true;
  $("start").hidden = false;
  $("choose").focus();
};
$("play").onclick = () => (audio.paused ? audio.play() : audio.pause());
for (const name of ["play", "pause", "ended"]) {
  audio.addEventListener(name, () => {
    $("play").setAttribute("aria-label", audio.paused ? "Play" : "Pause");
    $("play-shape").setAttribute("d", audio.paused ? "M8 5v14l11-7z" : "M7 5h3.6v14H7zM13.4 5H17v14h-3.6z");
    follow();
  });
}
audio.addEventListener("seeked", follow);

slider($("seek"), {
  length: () => state.found.duration,
  at: () => audio.currentTime,
  to: seek,
  toggle: () => $("play").click(),
});

for (const name of ["dragenter", "dragover"]) {
  document.addEventListener(name, (event) => {
    event.preventDefault();
    $("drop").classList.add("over");
  });
}
document.addEventListener("dragleave", (event) => event.relatedTarget || $("drop").classList.remove("over"));
document.addEventListener("drop", (event) => {
  event.preventDefault();
  $("drop").classList.remove("over");
  const [file] = event.dataTransfer.files;
  if (file && state.limits) analyse(file, file.name);
});

$("card-open").onclick = () => $("card").showModal();
$("card-close").onclick = () => $("card").close();
$("key-form").onsubmit = (event) => {
  event.preventDefault();
  state.key = $("key").value;
  $("key-form").hidden = true;
  state.retry();
};
window.addEventListener("resize", draw);
dark.addEventListener("change", () => {
  if (state.model) drawHint();
  if (!state.found) return;
  drawMoments($("moments"), state.found, colourOf, seek);
  drawLegend();
  draw();
  follow();
});
start();
