"use strict";
/* Elements, and the drawings of a timeline: waveform, probabilities over time, shares by minute. */
function serElement(tag, attributes = {}, ...children) {
  const drawn = ["svg", "path", "line", "rect", "circle", "text"].includes(tag);
  const element = drawn
    ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null) element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}
function serTinted(element, colours) {
  const [light, dark] = colours || ["#5f6873", "#98a2ae"];
  element.classList.add("hue");
  element.style.setProperty("--light", light);
  element.style.setProperty("--dark", dark);
  return element;
}
function serClock(seconds, tenths = false) {
  const total = tenths ? Math.round(10 * seconds) / 10 : Math.floor(seconds + 1e-6);
  const hours = Math.floor(total / 3600), minutes = Math.floor(total / 60) % 60;
  const rest = (total % 60).toFixed(tenths ? 1 : 0).padStart(tenths ? 4 : 2, "0");
  return (hours ? hours + ":" + String(minutes).padStart(2, "0") : minutes) + ":" + rest;
}
/* The words that a segment may be called by; those of attributes are regions of their plane. */
const serLabels = (data) => data.regions || [...data.labels, "uncertain"];
/* The timeline, and beside the classes that of the attributes, if a model predicts both. */
const serParts = (data) =>
  (data.attributes ? [data, { ...data.attributes, duration: data.duration }] : [data]);
/* Probabilities, or attributes brought from their own scale to 0 … 1. */
function serShares(data, told) {
  if (!data.scale) return told.probabilities;
  const [low, high] = data.scale;
  return Object.fromEntries(data.labels.map((name) => [name, (told.attributes[name] - low) / (high - low)]));
}
/* What stands for a share: percent, or an attribute on its own scale. */
function serWorth(data, share) {
  const [low, high] = data.scale || [];
  return data.scale ? (low + (high - low) * share).toFixed(1) : Math.round(100 * share) + " %";
}
const serValues = (data, values) => data.labels.map((name) => `${name} ${values[name].toFixed(1)}`).join(", ");
/* A label in few letters: the first three of each word. */
const serShort = (label) => label.split(" ").map((one) => one.slice(0, 3)).join(" ");
/* Who speaks: a name for each lane, or one null where speakers are not told apart. */
function serLanes(data) {
  const names = (data.speakers || []).map((one) => one.name);
  return names.length ? names : [null];
}
/* Bars in the colour of their segment. */
function serWaveform(data, tinted) {
  const count = data.peaks.length, paths = {};
  let place = 0;
  data.peaks.forEach((peak, k) => {
    const seconds = ((k + 0.5) / count) * data.duration;
    while (place < data.segments.length && data.segments[place].end <= seconds) place += 1;
    const segment = data.segments[place];
    const label = segment && segment.start <= seconds ? segment.label : "";
    const height = Math.max(0.6, 48 * Math.sqrt(peak));
    paths[label] = (paths[label] || "") +
      `M${k + 0.15} ${(50 - height).toFixed(1)}h.7v${(2 * height).toFixed(1)}h-.7z`;
  });
  const wave = serElement("svg", { class: "wave", viewBox: `0 0 ${count || 1} 100`,
    preserveAspectRatio: "none", "aria-hidden": "true" });
  for (const [label, d] of Object.entries(paths)) {
    const path = serElement("path", { d });
    if (label) tinted(path, label); else path.classList.add("quiet");
    wave.append(path);
  }
  return wave;
}
/* The points of each turn of one speaker, or of all, with the turn's beginning and end. */
function serRuns(data, who) {
  const found = [];
  for (const name of serLanes(data).filter((one) => !who || one === who)) {
    const turns = [];
    for (const s of data.segments.filter((one) => (one.speaker ?? null) === name)) {
      const last = turns[turns.length - 1];
      if (last && s.start - last.end < 0.002) last.end = s.end;
      else turns.push({ start: s.start, end: s.end, points: [] });
    }
    let place = 0;
    for (const point of data.track.filter((one) => (one.speaker ?? null) === name)) {
      const middle = (point.start + point.end) / 2;
      while (place < turns.length - 1 && middle > turns[place].end) place += 1;
      if (turns.length) turns[place].points.push([middle, serShares(data, point)]);
    }
    found.push(...turns.filter((turn) => turn.points.length));
  }
  return found;
}
/* Means over spans of so many seconds, where turns are too short to be seen: few lines, no confetti. */
function serMeans(data, runs, span) {
  const bins = new Map();
  for (const run of runs) for (const [seconds, shares] of run.points) {
    const bin = Math.floor(seconds / span);
    if (!bins.has(bin)) bins.set(bin, { count: 0, sums: {} });
    const one = bins.get(bin);
    one.count += 1;
    for (const label of data.labels) one.sums[label] = (one.sums[label] || 0) + shares[label];
  }
  const found = [];
  for (const bin of [...bins.keys()].sort((a, b) => a - b)) {
    const { count, sums } = bins.get(bin), middle = (bin + 0.5) * span;
    const shares = Object.fromEntries(data.labels.map((label) => [label, sums[label] / count]));
    const last = found[found.length - 1];
    if (last && middle - last.end < 3 * span) { last.end = middle; last.points.push([middle, shares]); }
    else found.push({ start: middle, end: middle, points: [[middle, shares]] });
  }
  return found;
}
/* A line for each class in each turn of those that are shown; none crosses a long silence. */
function serCurves(data, tinted) {
  const dashes = ["", "7 4", "2 4", "9 3 2 3"], lines = {};
  const curves = serElement("svg", { class: "curves", viewBox: "0 0 1000 100",
    preserveAspectRatio: "none", role: "img",
    "aria-label": (data.scale ? "Each attribute" : "Probability of each emotion") +
      " over time; the list below has the numbers" });
  for (const y of [2, 50, 98])
    curves.append(serElement("line", { class: "grid", x1: 0, x2: 1000, y1: y, y2: y }));
  const x = (seconds) => ((1000 * seconds) / Math.max(data.duration, 1e-3)).toFixed(2);
  data.labels.forEach((label, k) => {
    lines[label] = tinted(serElement("path", { "stroke-dasharray": dashes[k % 4] }), label);
    curves.append(lines[label]);
  });
  function draw(who, span) {
    const exact = serRuns(data, who), runs = span > 2 ? serMeans(data, exact, span) : exact;
    for (const label of data.labels) {
      const y = (shares) => (98 - 96 * shares[label]).toFixed(2);
      lines[label].setAttribute("d", runs.map((run) => {
        const inner = run.points.map(([seconds, shares]) => `L${x(seconds)} ${y(shares)}`);
        const [first, last] = [run.points[0][1], run.points[run.points.length - 1][1]];
        return `M${x(run.start)} ${y(first)}${inner.join("")}L${x(run.end)} ${y(last)}`;
      }).join(""));
    }
  }
  return { curves, lines, draw };
}
/* Curves with the marks of their scale. */
function serPlot(data, curves) {
  const marks = data.scale ? [data.scale[1], (data.scale[0] + data.scale[1]) / 2] : ["100 %", "50 %"];
  return serElement("div", { class: "plot" }, curves,
    ...marks.map((mark) => serElement("span", { class: "scale", "aria-hidden": "true" }, mark)));
}
/* Valence across, arousal upwards: all points as a cloud, their mean as a ring, and now a dot. */
function serPlane(data) {
  const make = serElement, x = (shares) => 4 + 92 * shares.valence, y = (shares) => 96 - 92 * shares.arousal;
  if (!data.scale || !["arousal", "valence"].every((name) => data.labels.includes(name))) return null;
  const element = make("svg", { class: "plane", viewBox: "0 0 100 100", role: "img" });
  element.append(make("rect", { class: "grid", x: 4, y: 4, width: 92, height: 92 }),
    make("path", { class: "grid", d: "M50 4V96M4 50H96" }),
    make("text", { x: 51, y: 9 }, "active"), make("text", { x: 51, y: 94 }, "passive"),
    make("text", { x: 5, y: 48.5 }, "negative"),
    make("text", { x: 95, y: 48.5, "text-anchor": "end" }, "positive"));
  const mean = serShares(data, { attributes: data.overall }), dot = make("circle", { class: "spot", r: 2.6 });
  for (const point of data.track.filter((_, k) => k % Math.ceil(data.track.length / 2000) === 0)) {
    const shares = serShares(data, point);
    element.append(make("circle", { class: "cloud", r: 0.9, cx: x(shares).toFixed(2), cy: y(shares).toFixed(2) }));
  }
  element.append(make("circle", { class: "mean", r: 3.4, cx: x(mean), cy: y(mean) }), dot);
  return { element, show(point) {
    dot.style.display = point ? "" : "none";
    const now = point ? `now ${serValues(data, point.attributes)}; ` : "";
    element.setAttribute("aria-label",
      `Valence from left to right and arousal upwards: ${now}in the mean ${serValues(data, data.overall)}`);
    if (!point) return;
    const shares = serShares(data, point);
    dot.setAttribute("cx", x(shares).toFixed(2));
    dot.setAttribute("cy", y(shares).toFixed(2));
  } };
}
/* The shares of the labels in each minute; of short recordings none. */
function serTrend(data, labels, tinted, seek) {
  const minutes = Math.ceil(data.duration / 60);
  if (minutes < 3) return null;
  const trend = serElement("svg", { class: "trend", viewBox: `0 0 ${minutes} 100`, role: "img",
    preserveAspectRatio: "none", "aria-label": "Time of each emotion, minute by minute",
    onclick: (event) => {
      const box = trend.getBoundingClientRect();
      seek(60 * Math.floor(((event.clientX - box.left) / box.width) * minutes));
    } });
  for (let minute = 0; minute < minutes; minute += 1) {
    let top = 100;
    for (const label of labels) {
      let seconds = 0;
      for (const s of data.segments)
        if (s.label === label)
          seconds += Math.max(0, Math.min(s.end, 60 * minute + 60) - Math.max(s.start, 60 * minute));
      const height = Math.min((100 * seconds) / 60, top);
      if (!height) continue;
      top -= height;
      trend.append(tinted(serElement("rect", { x: minute + 0.08, width: 0.84, y: top, height }), label));
    }
  }
  return trend;
}
/* What was said overall, and by each speaker. */
function serOverall(data, tinted, swatch) {
  const make = serElement, ranked = (shares) => Object.entries(shares).sort((a, b) => b[1] - a[1]);
  const percent = (share) => Math.round(100 * share) + " %";
  function bar(values) {
    const made = make("div", { class: "overall", "aria-hidden": "true" });
    for (const [label, share] of values) {
      const part = tinted(make("span"), label);
      part.style.flex = String(share);
      if (share >= 0.005) made.append(part); // what is told as 0 % is not drawn as a sliver
    }
    return made;
  }
  const shares = data.scale ? data.labels.map((name) => [name, data.overall[name]]) : ranked(data.overall);
  if (!Object.keys(data.overall).length) return [];
  const list = make("ul", { class: "shares",
    "aria-label": `Mean ${data.scale ? "of each attribute" : "probability"} over all speech` });
  for (const [label, share] of shares)
    list.append(make("li", {}, swatch(label), make("bdi", {}, label),
      make("b", { class: "num" }, data.scale ? share.toFixed(1) : percent(share))));
  if (data.scale) list.append(make("li", {}, `of ${data.scale[0]} to ${data.scale[1]}`));
  const people = make("ul", { class: "people", "aria-label": "Speakers" });
  for (const one of data.speakers || []) {
    const [first] = ranked(one.overall);
    let most = first ? [", most ", make("bdi", {}, first[0]), ` ${percent(first[1])}`] : [];
    if (data.scale && first) most = [`, ${serValues(data, one.overall)}`];
    people.append(make("li", {}, make("b", {}, make("bdi", {}, one.name)),
      ` ${serClock(one.seconds)} of speech`, ...most,
      ...(data.scale ? [] : [bar(ranked(one.overall))])));
  }
  return [...(data.scale ? [] : [bar(shares)]), list, ...(people.children.length ? [people] : [])];
}
/* One tab stop for many buttons: arrows, Home and End move inside. */
function serRoving(box, all) {
  all.forEach((b, k) => { b.tabIndex = k ? -1 : 0; });
  box.addEventListener("keydown", (event) => {
    const shown = all.filter((b) => !b.closest("[hidden]")), from = shown.indexOf(event.target);
    const to = { ArrowRight: from + 1, ArrowDown: from + 1, ArrowLeft: from - 1, ArrowUp: from - 1,
      Home: 0, End: shown.length - 1 }[event.key];
    if (from < 0 || to === undefined) return;
    event.preventDefault();
    event.stopPropagation();
    if (!shown[to]) return;
    event.target.tabIndex = -1;
    shown[to].tabIndex = 0;
    shown[to].focus();
  });
}
