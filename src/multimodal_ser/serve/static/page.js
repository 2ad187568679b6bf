// The page: a recording in, its timeline out; everything works by keyboard and is told in words.
import { canRecord, recordByHand } from "./record.js";
// serTimeline and serClock are the script of every timeline, served or saved: static/timeline.js

const $ = (id) => document.getElementById(id);
const dark = window.matchMedia("(prefers-color-scheme: dark)");
const state = { model: null, limits: null, key: "", player: null, address: "", retry: null, asked: null };

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
    const told = await ask("v1/models");
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
  $("limits").textContent = `${formats} · up to ${serClock(seconds)} min and ${megabytes} MB`;
  drawHint();
  $("choose").disabled = false;
  $("record").disabled = !canRecord();
  if (!canRecord()) {
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

/* Of several recordings, the last one given is shown; the server is told that nobody waits for the others. */
function begin() {
  state.asked?.abort();
  state.asked = new AbortController();
  forget();
  $("error").hidden = true;
  $("result").hidden = true;
  return state.asked.signal;
}

async function analyse(blob, name) {
  const signal = begin();
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
    found = await ask(`v1/analyze?peaks=true&words=${words}`, { method: "POST", body: form, signal });
  } catch (error) {
    if (signal.aborted) return;
    if (error.status === 401) askForKey(() => analyse(blob, name));
    else fail("This recording could not be analysed.", error.message);
    return;
  }
  if (!signal.aborted) show(name, found, blob);
}

function verdict({ segments }) {
  const seconds = {};
  for (const one of segments) seconds[one.label] = (seconds[one.label] ?? 0) + one.end - one.start;
  const [first] = Object.entries(seconds).sort((a, b) => b[1] - a[1]);
  if (!first) return "No speech found";
  const share = first[1] / Object.values(seconds).reduce((sum, value) => sum + value, 0);
  const [label] = first;
  if (label === "uncertain") return share > 0.95 ? "Uncertain throughout" : "Mostly uncertain";
  if (share > 0.95) return `${label[0].toUpperCase()}${label.slice(1)} throughout`;
  return `${share > 0.5 ? "Mostly" : "Mixed, most often"} ${label}`;
}

/* As `remarks` of timeline/track.py. */
function remarks({ notes, speakers, adapted, doubt }) {
  const told = [{ name: "", adapted }, ...speakers].filter((one) => one.adapted !== null)
    .map((one) => `${one.name && `${one.name}: `}adapted to ${one.adapted} pieces`);
  return [...notes, ...told, ...(doubt ? [doubt] : [])];
}

function forget() {
  state.player?.destroy();
  if (state.address) URL.revokeObjectURL(state.address);
  [state.player, state.address] = [null, ""];
}

function show(name, found, blob) {
  forget();
  say("");
  $("start").hidden = true;
  $("result").hidden = false;
  $("eyebrow").textContent = [name, serClock(found.duration, true), ...remarks(found)].join(" · ");
  $("verdict").textContent = verdict(found);
  state.address = URL.createObjectURL(blob);
  const colours = Object.entries(state.model.colours).map(([label, { light, dark: night }]) => [label, [light, night]]);
  const data = { ...found, source: name, colours: Object.fromEntries(colours) };
  state.player = window.timeline = serTimeline($("timeline"), data, state.address);
  $("verdict").focus({ preventScroll: true });
  window.scrollTo(0, 0);
}

const record = () => {
  $("error").hidden = true;
  $("record").disabled = true; // until the browser has asked for the microphone
  recordByHand({
    most: state.limits.max_seconds,
    begun: () => {
      begin(); // a file may have been given meanwhile
      $("start").hidden = false;
      say("Recording");
    },
    done: (blob) => analyse(blob, "Recording"),
    failed: fail,
  }).finally(() => { $("record").disabled = false; });
};

$("choose").onclick = () => $("file").click();
$("file").onchange = ({ target }) => {
  const [file] = target.files;
  if (file) analyse(file, file.name);
  target.value = "";
};
$("record").onclick = record;
$("again").onclick = () => {
  forget();
  $("result").hidden = true;
  $("start").hidden = false;
  $("choose").focus();
};
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
  if (file && state.limits && $("recording").hidden) analyse(file, file.name);
});

$("card-open").onclick = () => $("card").showModal();
$("card-close").onclick = () => $("card").close();
$("key-form").onsubmit = (event) => {
  event.preventDefault();
  state.key = $("key").value;
  $("key-form").hidden = true;
  state.retry();
};
dark.addEventListener("change", () => state.model && drawHint());
start();
