"use strict";
/* Elements, and the two drawings of a timeline: waveform, probabilities over time. */
function serElement(tag, attributes = {}, ...children) {
  const drawn = ["svg", "path", "polyline", "line"].includes(tag);
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
/* A line for each class in each stretch of speech; none crosses a silence. */
function serCurves(data, tinted) {
  const dashes = ["", "7 4", "2 4", "9 3 2 3"], lines = {};
  const curves = serElement("svg", { class: "curves", viewBox: "0 0 1000 100",
    preserveAspectRatio: "none", role: "img",
    "aria-label": "Probability of each emotion over time; the list below has the numbers" });
  for (const y of [2, 50, 98])
    curves.append(serElement("line", { class: "grid", x1: 0, x2: 1000, y1: y, y2: y }));
  const runs = data.speech.map(() => []);
  let place = 0;
  for (const point of data.track) {
    const middle = (point.start + point.end) / 2;
    while (place < runs.length - 1 && middle > data.speech[place][1]) place += 1;
    runs[place].push([middle, point.probabilities]);
  }
  const x = (seconds) => ((1000 * seconds) / Math.max(data.duration, 1e-3)).toFixed(2);
  data.labels.forEach((label, k) => {
    const y = (shares) => (98 - 96 * shares[label]).toFixed(2);
    lines[label] = runs.map((run, j) => {
      const [start, end] = data.speech[j];
      const points = run.map(([seconds, shares]) => `${x(seconds)},${y(shares)}`);
      points.unshift(`${x(start)},${y(run[0][1])}`);
      points.push(`${x(end)},${y(run[run.length - 1][1])}`);
      return tinted(serElement("polyline", { points: points.join(" "),
        "stroke-dasharray": dashes[k % dashes.length] }), label);
    });
    curves.append(...lines[label]);
  });
  return { curves, lines };
}
