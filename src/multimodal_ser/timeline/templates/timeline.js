"use strict";
/* Timeline as JSON → player, overview, lanes, curves, filters and list in the element `root`.
   serTimeline(root, data, audio): data from page_data(); audio is an address, several (a line each, the first that
   plays is taken), or null.
   Returns { audio, seek, destroy, asJSON, asManifest, correct }. Text is only ever set as text. */
function serTimeline(root, data, audioSource) {
  const duration = Math.max(data.duration, 1e-3), lanes = serLanes(data);
  const place = (seconds) => (100 * seconds) / duration + "%";
  const audio = new Audio();
  let now = 0, zoom = 1, lane = "", current = new Set(), timer = 0, quiet = true, spot = 0, word = null;
  let visible = new Set(data.segments.keys());

  const make = serElement, clock = serClock;
  const swatch = (label) =>
    tinted(make("span", { class: label === "uncertain" ? "swatch unsure" : "swatch" }), label);
  const tinted = (element, label) => serTinted(element, data.colours[label]);
  const amount = (s) => (data.scale ? serValues(data, s.attributes) : serWorth(data, s.confidence));
  const spoken = (s) => s.label + (s.label === "uncertain" ? "" : (data.scale ? ", " : " ") + amount(s));
  /* The same, so that a name that is written from right to left does not turn the number round. */
  const shown = (s) => [make("bdi", {}, s.label), spoken(s).slice(s.label.length)];
  const named = (s) => `${s.speaker ? s.speaker + ": " : ""}${spoken(s)}, ${clock(s.start, true)} to ` +
    clock(s.end, true);
  const at = (seconds) => data.segments.flatMap((s, k) => (seconds >= s.start && seconds < s.end ? [k] : []));

  /* The player's controls */
  const icon = make("path", { d: "M4 2 L16 9 L4 16 Z" });
  const play = make("button", { class: "play", type: "button", "aria-label": "Play", onclick: toggle },
    make("svg", { viewBox: "0 0 18 18", "aria-hidden": "true" }, icon));
  const time = make("span", { class: "clock num" });
  const seeker = make("input", { class: "seek", type: "range", min: 0, max: duration, step: 0.1,
    value: 0, "aria-label": "Position in the recording", oninput: () => seek(+seeker.value) });
  const speed = make("select", { class: "tool", "aria-label": "Speed",
    onchange: () => { audio.playbackRate = +speed.value; } });
  for (const rate of [0.5, 0.75, 1, 1.25, 1.5, 2])
    speed.append(make("option", { value: rate, selected: rate === 1 }, rate + " ×"));
  const step = (d, label, run) =>
    make("button", { class: "tool", type: "button", "aria-label": label, title: label, onclick: run },
      make("svg", { viewBox: "0 0 16 16", "aria-hidden": "true" }, make("path", { d })));
  const tools = make("div", { class: "tools", role: "group", "aria-label": "Segments and zoom" },
    step("M3 2h2v12h-2z M14 2v12l-8-6z", "Previous segment", () => jump(-1)),
    step("M11 2h2v12h-2z M2 2v12l8-6z", "Next segment", () => jump(1)),
    step("M2 7h12v2h-12z", "Zoom out", () => scale(zoom / 2)),
    step("M2 7h5v-5h2v5h5v2h-5v5h-2v-5h-5z", "Zoom in", () => scale(zoom * 2)), speed);
  const status = make("p", { class: "unseen", role: "status" });
  const picker = make("input", { type: "file", accept: "audio/*,video/*", id: "ser-file",
    onchange: () => { if (picker.files[0]) open(URL.createObjectURL(picker.files[0])); } });
  const why = make("span");
  const note = make("div", { class: "note", hidden: true }, why, " ",
    make("label", { for: "ser-file" }, "Open the recording: "), picker);

  const places = audioSource ? audioSource.split("\n") : [];
  function open(source) {
    note.hidden = true;
    play.disabled = false;
    audio.src = source;
  }
  function missing(reason) {
    why.textContent = reason;
    note.hidden = false;
    play.disabled = true;
  }
  function toggle() {
    if (play.disabled) return;
    if (audio.paused) audio.play().catch(() => {}); else audio.pause();
  }
  function playing() {
    const on = !audio.paused;
    icon.setAttribute("d", on ? "M4 2 H8 V16 H4 Z M11 2 H15 V16 H11 Z" : "M4 2 L16 9 L4 16 Z");
    play.setAttribute("aria-label", on ? "Pause" : "Play");
    cancelAnimationFrame(timer);
    if (on) follow();
  }
  function follow() {
    show(audio.currentTime, true);
    if (!audio.paused) timer = requestAnimationFrame(follow);
  }
  function seek(seconds) {
    seconds = Math.min(Math.max(seconds, 0), duration);
    if (audio.src && audio.readyState) audio.currentTime = seconds;
    quiet = false;
    show(seconds, true);
    quiet = true;
  }
  function jump(way) {
    const starts = [...visible].sort((a, b) => a - b).map((k) => data.segments[k].start);
    const ahead = way > 0 ? starts.find((s) => s > now + 0.05) : starts.filter((s) => s < now - 0.5).pop();
    if (ahead !== undefined) seek(ahead);
  }

  /* Overview, waveform, lanes, curves */
  const head = make("div", { class: "head" });
  const scroll = make("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Timeline",
    onscroll: framed });
  const tracks = make("div", { class: "tracks" });
  const frame = make("div", { class: "frame" }), spotted = make("div", { class: "head" });
  const whole = make("div", { class: "whole", "aria-hidden": "true", onpointerdown: glide,
    onpointermove: (event) => { if (event.buttons) glide(event); } });
  const buttons = [], meters = {};
  const plots = serParts(data).map((part) => ({ part, ...serCurves(part, tinted) }));
  const lines = Object.assign({}, ...plots.map((plot) => plot.lines)), felt = plots[plots.length - 1].part;
  const ruler = make("div", { class: "ruler num", "aria-hidden": "true" });

  function strips() {
    const boxes = new Map(lanes.map((name) => [name, make("div", { class: "strip", role: "toolbar",
      "aria-label": `${name ? name + ": s" : "S"}egments; arrow keys move between them` })]));
    data.segments.forEach((s, k) => {
      const button = make("button", { class: "seg", type: "button", onclick: () => seek(s.start) });
      button.style.left = place(s.start);
      button.style.width = `calc(${place(s.end - s.start)} - 1px)`;
      buttons.push(button);
      coloured(k);
      (boxes.get(s.speaker ?? null) || boxes.values().next().value).append(button);
    });
    return [...boxes].map(([name, box]) => {
      serRoving(box, [...box.children]);
      const title = name === null ? [] : [make("span", { class: "lane", "aria-hidden": "true" }, name)];
      return make("div", { class: "row" }, ...title, box);
    });
  }
  function coloured(k) {
    const s = data.segments[k], button = tinted(buttons[k], s.label);
    button.classList.toggle("unsure", s.label === "uncertain");
    button.setAttribute("aria-label", named(s));
    button.title = named(s);
  }
  function pointed(event) {
    const box = tracks.getBoundingClientRect();
    seek(((event.clientX - box.left) / box.width) * duration);
  }
  function glide(event) {
    const box = whole.getBoundingClientRect(), share = (event.clientX - box.left) / box.width;
    scroll.scrollLeft = share * tracks.offsetWidth - scroll.clientWidth / 2;
    if (event.type === "pointerdown" && zoom === 1) seek(share * duration);
  }
  function framed() {
    const width = Math.max(tracks.offsetWidth, 1);
    frame.style.left = (100 * scroll.scrollLeft) / width + "%";
    frame.style.width = Math.min(100, (100 * scroll.clientWidth) / width) + "%";
  }
  function scale(factor) {
    zoom = Math.min(Math.max(factor, 1), Math.max(1, Math.min(512, duration / 5)));
    tracks.style.width = 100 * zoom + "%";
    const pixels = scroll.clientWidth * zoom / duration;
    const steps = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600];
    const gap = steps.find((s) => s * pixels >= 80) || 7200;
    ruler.replaceChildren();
    for (let s = 0; s <= duration - 0.4 * gap || !s; s += gap) {
      const mark = make("span", {}, clock(s));
      mark.style.left = place(s);
      ruler.append(mark);
    }
    titled(pixels);
    redraw();
    centre();
    framed();
  }
  function redraw() {
    for (const { draw } of plots) draw(lane, (12 * duration) / (zoom * Math.max(scroll.clientWidth, 1)));
  }
  function titled(pixels) {
    data.segments.forEach((s, k) => {
      const room = (s.end - s.start) * pixels - 10, short = serShort(s.label);
      buttons[k].textContent = [s.label, short].find((word) => room > (word === short ? 8 : 7.5) * word.length) || "";
    });
  }
  function centre() {
    const x = (now / duration) * tracks.offsetWidth;
    if (x < scroll.scrollLeft || x > scroll.scrollLeft + 0.9 * scroll.clientWidth)
      scroll.scrollLeft = x - 0.2 * scroll.clientWidth;
  }
  /* What is heard at this moment, the strongest moments, and the list */
  const said = make("p", { class: "said" }), plane = serPlane(felt);
  const strong = make("ol", { class: "strong", "aria-label": "Strongest moments" });
  function nowBox() {
    const box = make("section", { class: "nowbox", "aria-label": "At this moment" },
      make("h2", {}, "At this moment"), said, ...(plane ? [plane.element] : []));
    for (const label of Object.keys(lines)) {
      const fill = make("b"), share = make("span", { class: "num" });
      const meter = tinted(make("button", { class: "meter", type: "button", "aria-pressed": "true",
        title: "Show or hide its curve" },
        make("span", {}, swatch(label), label), share, make("i", {}, fill)), label);
      meter.addEventListener("click", () => {
        const on = meter.getAttribute("aria-pressed") !== "true";
        meter.setAttribute("aria-pressed", String(on));
        lines[label].style.display = on ? "" : "none";
      });
      meters[label] = { fill, share };
      box.append(meter);
    }
    box.append(make("h2", {}, "Strongest moments"), strong);
    return box;
  }
  const listing = serListing(data, { tinted, swatch, amount, named, seek, relabelled: coloured,
    changed(kept, who) {
      visible = kept;
      buttons.forEach((button, k) => button.classList.toggle("off", !kept.has(k)));
      lane = who;
      redraw();
      strong.replaceChildren(...listing.strongest().map((k) => {
        const s = data.segments[k];
        return make("li", {}, make("button", { class: "item", type: "button", onclick: () => seek(s.start) },
          make("span", { class: "at num" }, clock(s.start)),
          make("span", { class: "name" }, swatch(s.label), ...shown(s))));
      }));
    } });
  /* The number of the nearest window, which is the same in all plots; -1 where nobody speaks. */
  function nearest(seconds, who) {
    let best = -1, least = Infinity;
    while (spot > 0 && data.track[spot].start > seconds - 30) spot -= 1;
    while (spot < data.track.length - 1 && data.track[spot].start < seconds - 31) spot += 1;
    for (let k = spot; k < data.track.length && data.track[k].start <= seconds; k += 1) {
      const p = data.track[k];
      if (seconds > p.end || (p.speaker ?? null) !== who) continue;
      const off = Math.abs(seconds - (p.start + p.end) / 2);
      if (off < least) [best, least] = [k, off];
    }
    return best;
  }
  function show(seconds, scrolls) {
    now = seconds;
    head.style.left = spotted.style.left = place(Math.min(now, duration));
    seeker.value = now;
    time.textContent = `${clock(now)} / ${clock(Math.round(data.duration))}`;
    const places = at(now), segment = data.segments[places[places.length - 1]];
    const heard = segment ? nearest(now, segment.speaker ?? null) : -1;
    const told = places.map((k) => data.segments[k]);
    seeker.setAttribute("aria-valuetext", `${clock(now)}, ${told.map(spoken).join(", ") || "no speech"}`);
    for (const { part } of plots) for (const label of part.labels) {
      const share = heard < 0 ? 0 : serShares(part, part.track[heard])[label];
      meters[label].fill.style.width = 100 * share + "%";
      meters[label].share.textContent = heard < 0 ? "–" : serWorth(part, share);
    }
    if (plane) plane.show(felt.track[heard]);
    const brief = (s, k) => [k ? ", " : "", ...(s.speaker ? [make("bdi", {}, s.speaker), ": "] : []),
      ...(data.scale ? [s.label] : shown(s))];
    said.replaceChildren(...(told.length ? told.flatMap(brief) : ["no speech"]));
    const span = listing.words.find(([one]) => now >= one.start && now < one.end);
    if (word !== span) {
      if (word) word[1].classList.remove("now");
      if (span) span[1].classList.add("now");
      word = span;
    }
    if (places.length !== current.size || places.some((k) => !current.has(k))) {
      for (const k of current) [buttons[k], listing.items[k]].forEach((e) => e.classList.remove("now"));
      for (const k of places) [buttons[k], listing.items[k]].forEach((e) => e.classList.add("now"));
      current = new Set(places);
      if (!quiet) status.textContent = told.map(named).join("; ") || `no speech at ${clock(now)}`;
    }
    if (scrolls && zoom > 1) centre();
  }
  function keys(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.closest("button, input, select, textarea, a, summary")) return;
    const run = { " ": toggle, ArrowLeft: () => seek(now - 5), ArrowRight: () => seek(now + 5),
      "[": () => jump(-1), "]": () => jump(1), "+": () => scale(zoom * 2), "-": () => scale(zoom / 2),
      "/": () => listing.search.focus() }[event.key];
    if (!run) return;
    event.preventDefault();
    run();
  }

  const strip = strips(), wave = serWaveform(data, tinted), box = nowBox();
  for (const drawing of [wave, ...plots.map((plot) => plot.curves)]) drawing.addEventListener("click", pointed);
  tracks.append(wave, ...strip, ...plots.map((plot) => serPlot(plot.part, plot.curves)), ruler, head);
  scroll.append(tracks);
  whole.append(serWaveform(data, tinted), frame, spotted);
  const trend = serTrend(data, serLabels(data), tinted, seek);
  const card = make("div", { class: "card" },
    make("div", { class: "bar" }, play, time, seeker, tools), note);
  if (data.segments.length) {
    card.append(whole, scroll);
    if (trend) card.append(trend);
  } else card.append(make("p", { class: "empty" }, "No speech was found in this recording."));
  root.classList.add("ser");
  root.replaceChildren(...serParts(data).flatMap((part) => serOverall(part, tinted, swatch)), card, status, make("p", { class: "small keys" },
    "Space plays and pauses, the arrow keys go 5 s back and forth, [ and ] to the segment before and after, " +
    "+ and − zoom, / searches."));
  if (data.segments.length) {
    serRoving(listing.element, [...listing.element.querySelectorAll(".item")]);
    root.append(listing.controls, make("div", { class: "below" }, box,
      make("section", { "aria-label": "Segments" }, listing.head, listing.element)));
  }
  const resized = () => scale(zoom);
  for (const name of ["play", "pause", "ended"]) audio.addEventListener(name, playing);
  audio.addEventListener("seeked", () => show(audio.currentTime, false));
  audio.addEventListener("loadedmetadata", () => { if (now) audio.currentTime = now; });
  audio.addEventListener("error", () => {
    if (!audio.src) return;
    if (places.length) open(places.shift()); else missing(data.missing || "This browser cannot play the recording.");
  });
  document.addEventListener("keydown", keys);
  window.addEventListener("resize", resized);
  if (places.length) open(places.shift()); else missing(data.missing || "The recording is not in this page.");
  listing.recall();
  listing.filter();
  scale(1);
  show(0, false);
  const { asJSON, asManifest, correct } = listing;
  return { audio, seek, asJSON, asManifest, correct, destroy() {
    audio.pause();
    audio.removeAttribute("src");
    cancelAnimationFrame(timer);
    document.removeEventListener("keydown", keys);
    window.removeEventListener("resize", resized);
    root.replaceChildren();
  } };
}
