// A timeline -> waveform, band, curves, list. Colour never stands without its word.
const SVG = "http://www.w3.org/2000/svg";

export function clock(seconds, digits = 1) {
  const tens = Math.round(seconds * 10 ** digits) / 10 ** digits;
  const minutes = Math.floor(tens / 60);
  return `${minutes}:${(tens - 60 * minutes).toFixed(digits).padStart(digits ? 3 + digits : 2, "0")}`;
}

export function element(name, options = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(options)) {
    if (key === "class") made.className = value;
    else if (key === "style") Object.assign(made.style, value);
    else if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else made.setAttribute(key, value);
  }
  made.append(...children);
  return made;
}

export const UNCERTAIN = "uncertain";

// Hatched where the model does not commit itself: no colour of its own.
export function swatch(colour, label) {
  const style = label === UNCERTAIN ? { color: colour } : { background: colour };
  return element("span", { class: label === UNCERTAIN ? "swatch unsure" : "swatch", style });
}

// Dark words on bright colours, light words on dark ones.
export function wordsOn(hex) {
  const part = (at) => {
    const value = parseInt(hex.slice(at, at + 2), 16) / 255;
    return value <= 0.03928 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
  };
  const luminance = 0.2126 * part(1) + 0.7152 * part(3) + 0.0722 * part(5);
  return luminance > 0.2 ? "#10151c" : "#ffffff";
}

// The loudest sample of each of `count` equal parts, 0 to 1.
export function peaksOf(samples, count) {
  const peaks = new Float32Array(count);
  for (let i = 0; i < count; i++) {
    const last = Math.floor(((i + 1) * samples.length) / count);
    for (let j = Math.floor((i * samples.length) / count); j < last; j++) {
      peaks[i] = Math.max(peaks[i], Math.abs(samples[j]));
    }
  }
  const most = Math.max(0.02, ...peaks);
  return peaks.map((value) => value / most);
}

export function drawWave(canvas, samples, segments, duration, colourOf, rest) {
  const ratio = window.devicePixelRatio || 1;
  const width = canvas.clientWidth;
  const height = canvas.clientHeight;
  canvas.width = width * ratio;
  canvas.height = height * ratio;
  const pen = canvas.getContext("2d");
  pen.scale(ratio, ratio);
  const step = 4;
  const count = Math.max(1, Math.floor(width / step));
  const peaks = samples ? peaksOf(samples, count) : new Float32Array(count).fill(0.04);
  for (let i = 0; i < count; i++) {
    const at = ((i + 0.5) / count) * duration;
    const segment = segments.find((one) => one.start <= at && at < one.end);
    const tall = Math.max(3, peaks[i] ** 0.7 * height * 0.94);
    pen.fillStyle = segment ? colourOf(segment.label) : rest;
    pen.beginPath();
    pen.roundRect(i * step, (height - tall) / 2, step - 1.4, tall, 1.3);
    pen.fill();
  }
}

export function drawBand(band, segments, duration, colourOf) {
  band.replaceChildren(
    ...segments.map((one) => {
      const share = (one.end - one.start) / duration;
      const room = share * band.clientWidth - 8;
      const narrow = room < 7.6 * one.label.length;
      const colour = colourOf(one.label);
      return element(
        "span",
        {
          class: [narrow ? "narrow" : "", one.label === UNCERTAIN ? "unsure" : ""].join(" "),
          title: `${one.label} ${Math.round(100 * one.confidence)} %`,
          style: {
            left: `${(100 * one.start) / duration}%`,
            width: `calc(${100 * share}% - 2px)`,
            ...(one.label === UNCERTAIN ? {} : { background: colour, color: wordsOn(colour) }),
          },
        },
        narrow ? (room > 20 ? one.label.slice(0, 3) : "") : one.label,
      );
    }),
  );
}

export function drawCurves(svg, track, labels, duration, colourOf, shown, told) {
  svg.setAttribute("viewBox", "0 0 1000 100");
  svg.setAttribute("aria-label", told);
  const parts = [line(0), line(50)];
  const x = (seconds) => (1000 * seconds) / duration;
  for (const label of labels.filter((name) => shown.has(name))) {
    const y = (one) => 100 - 100 * one.probabilities[label];
    for (const run of runs(track)) {
      const [first, last] = [run[0], run.at(-1)];
      const ways = run.map((one) => [x((one.start + one.end) / 2), y(one)]);
      const points = [[x(first.start), y(first)], ...ways, [x(Math.min(last.end, duration)), y(last)]];
      const way = smooth(points);
      parts.push(path(`${way} L${points.at(-1)[0]} 100 L${points[0][0]} 100 Z`, colourOf(label), true));
      parts.push(path(way, colourOf(label), false));
    }
  }
  svg.replaceChildren(...parts);
}

// Silence breaks the curves: nothing was heard there.
function runs(track) {
  const found = [];
  track.forEach((one, i) => {
    if (i && one.start <= track[i - 1].end) found.at(-1).push(one);
    else found.push([one]);
  });
  return found;
}

// Monotone in x: the curve never leaves the range of its two neighbours.
function smooth(points) {
  let way = `M${points[0][0]} ${points[0][1]}`;
  for (let i = 1; i < points.length; i++) {
    const middle = (points[i - 1][0] + points[i][0]) / 2;
    way += ` C${middle} ${points[i - 1][1]} ${middle} ${points[i][1]} ${points[i][0]} ${points[i][1]}`;
  }
  return way;
}

function path(way, colour, area) {
  const made = document.createElementNS(SVG, "path");
  made.setAttribute("d", way);
  made.setAttribute(area ? "fill" : "stroke", colour);
  if (area) {
    made.setAttribute("class", "area");
    made.style.fill = colour;
    made.style.fillOpacity = "0.07";
  }
  return made;
}

function line(y) {
  const made = document.createElementNS(SVG, "line");
  Object.entries({ x1: 0, x2: 1000, y1: y, y2: y }).forEach(([key, value]) => made.setAttribute(key, value));
  return made;
}

export function drawAxis(axis, duration) {
  const steps = [0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1200, 1800, 3600];
  const step = steps.find((one) => duration / one <= 9) || 7200;
  const marks = [];
  for (let at = 0; at <= duration - step * 0.3 || at === 0; at += step) {
    marks.push(element("span", { style: { left: `${(100 * at) / duration}%` } }, clock(at, step < 1 ? 1 : 0)));
  }
  axis.replaceChildren(...marks);
}

function ranked({ probabilities }) {
  const all = Object.entries(probabilities).sort((a, b) => b[1] - a[1]);
  return all.map(([name, value]) => `${name} ${Math.round(100 * value)} %`);
}

function sure(one, colour) {
  const [first, second] = ranked(one);
  const next = (text) => element("span", { class: "next" }, text);
  if (one.label === UNCERTAIN) return [next(`nearest ${first}, then ${second}`)];
  const bar = element("i", { style: { width: `${100 * one.confidence}%`, background: colour } });
  const share = element("span", { class: "share" }, `${Math.round(100 * one.confidence)} %`);
  return [element("span", { class: "meter" }, bar), share, next(`then ${second}`)];
}

// The words of a segment, each with its times, so that the sound can be followed in them.
function spoken(one, words) {
  const inside = words.filter(({ start, end }) => one.start <= (start + end) / 2 && (start + end) / 2 < one.end);
  const spans = inside.map(({ start, end, text }) => element("span", { "data-start": start, "data-end": end }, text));
  return element("span", { class: "words" }, ...spans.flatMap((span) => [span, " "]));
}

export function followWords(list, at) {
  list.querySelectorAll(".words span").forEach((word) => {
    word.classList.toggle("now", Number(word.dataset.start) <= at && at < Number(word.dataset.end));
  });
}

export function drawMoments(list, { segments, words }, colourOf, seek) {
  const rows = segments.map((one) => {
    const colour = colourOf(one.label);
    return element(
      "li",
      {},
      element(
        "button",
        { type: "button", onclick: () => seek(one.start) },
        element("span", { class: "when" }, `${clock(one.start)} – ${clock(one.end)}`),
        element("span", { class: "what" }, swatch(colour, one.label), one.label),
        element("span", { class: "sure" }, ...sure(one, colour)),
        ...(one.text ? [spoken(one, words)] : []),
      ),
    );
  });
  const none = element("li", { class: "none" }, "No speech was found in this recording.");
  list.replaceChildren(...(rows.length ? rows : [none]));
}

// What a recording is mostly, in a few words.
export function verdict({ segments }) {
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
