"use strict";
/* Timeline as JSON → player, waveform, segments, curves and words in the element `root`.
   serTimeline(root, data, audio): data from page_data(); audio is an address, or null.
   Returns { audio, seek, destroy }. Text is only ever set as text. */
function serTimeline(root, data, audioSource) {
  const duration = Math.max(data.duration, 1e-3);
  const percent = (share) => Math.round(100 * share) + " %";
  const place = (seconds) => (100 * seconds) / duration + "%";
  const dashes = ["", "7 4", "2 4", "9 3 2 3"];
  const audio = new Audio();
  let now = 0, zoom = 1, current = -1, timer = 0, quiet = true;

  const make = serElement;
  const swatch = (label) =>
    tinted(make("span", { class: label === "uncertain" ? "swatch unsure" : "swatch" }), label);
  const tinted = (element, label) => serTinted(element, data.colours[label]);
  function clock(seconds, tenths = false) {
    const total = tenths ? Math.round(10 * seconds) / 10 : Math.floor(seconds + 1e-6);
    const hours = Math.floor(total / 3600), minutes = Math.floor(total / 60) % 60;
    const rest = (total % 60).toFixed(tenths ? 1 : 0).padStart(tenths ? 4 : 2, "0");
    return (hours ? hours + ":" + String(minutes).padStart(2, "0") : minutes) + ":" + rest;
  }
  const spoken = (s) => (s.label === "uncertain" ? "uncertain" : `${s.label} ${percent(s.confidence)}`);
  const named = (s) => `${spoken(s)}, ${clock(s.start, true)} to ${clock(s.end, true)}`;
  const at = (seconds) => data.segments.findIndex((s) => seconds >= s.start && seconds < s.end);

  /* What was said overall */
  function overall() {
    const shares = Object.entries(data.overall).sort((a, b) => b[1] - a[1]);
    if (!shares.length) return [];
    const bar = make("div", { class: "overall", "aria-hidden": "true" });
    const list = make("ul", { class: "shares", "aria-label": "Mean probability over all speech" });
    for (const [label, share] of shares) {
      const part = tinted(make("span"), label);
      part.style.flex = String(share);
      if (share >= 0.005) bar.append(part); // what is told as 0 % is not drawn as a sliver
      list.append(make("li", {}, swatch(label), label,
        make("b", { class: "num" }, percent(share))));
    }
    return [bar, list];
  }

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
    const starts = data.segments.map((s) => s.start);
    const ahead = way > 0 ? starts.find((s) => s > now + 0.05) : starts.filter((s) => s < now - 0.5).pop();
    if (ahead !== undefined) seek(ahead);
  }

  /* Waveform, segments, curves */
  const head = make("div", { class: "head" });
  const scroll = make("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Timeline" });
  const tracks = make("div", { class: "tracks" });
  const strip = make("div", { class: "strip", role: "toolbar", "aria-label": "Segments; arrow keys move between them" });
  const buttons = [], items = [], words = [], meters = {};
  const { curves, lines } = serCurves(data, tinted);
  const scales = ["100 %", "50 %"].map((t) => make("span", { class: "scale", "aria-hidden": "true" }, t));
  const ruler = make("div", { class: "ruler num", "aria-hidden": "true" });

  function segments() {
    data.segments.forEach((s, k) => {
      const button = tinted(make("button", { class: "seg", type: "button", "aria-label": named(s),
        title: named(s), onclick: () => seek(s.start) }), s.label);
      if (s.label === "uncertain") button.classList.add("unsure");
      button.style.left = place(s.start);
      button.style.width = `calc(${place(s.end - s.start)} - 1px)`;
      buttons.push(button);
      strip.append(button);
    });
    roving(strip, buttons);
  }
  function pointed(event) {
    const box = tracks.getBoundingClientRect();
    seek(((event.clientX - box.left) / box.width) * duration);
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
    data.segments.forEach((s, k) => {
      const room = (s.end - s.start) * pixels - 10;
      buttons[k].textContent = room > 7.5 * s.label.length ? s.label : room > 24 ? s.label.slice(0, 3) : "";
    });
    centre();
  }
  function centre() {
    const x = (now / duration) * tracks.offsetWidth;
    if (x < scroll.scrollLeft || x > scroll.scrollLeft + 0.9 * scroll.clientWidth)
      scroll.scrollLeft = x - 0.2 * scroll.clientWidth;
  }
  /* One tab stop for many buttons: arrows, Home and End move inside. */
  function roving(box, all) {
    all.forEach((b, k) => { b.tabIndex = k ? -1 : 0; });
    box.addEventListener("keydown", (event) => {
      const from = all.indexOf(event.target);
      const to = { ArrowRight: from + 1, ArrowDown: from + 1, ArrowLeft: from - 1, ArrowUp: from - 1,
        Home: 0, End: all.length - 1 }[event.key];
      if (from < 0 || to === undefined) return;
      event.preventDefault();
      event.stopPropagation();
      if (!all[to]) return;
      all[from].tabIndex = -1;
      all[to].tabIndex = 0;
      all[to].focus();
    });
  }

  /* What is heard at this moment, and the list of segments with their words */
  const said = make("p", { class: "said" });
  function nowBox() {
    const box = make("section", { class: "nowbox", "aria-label": "At this moment" },
      make("h2", {}, "At this moment"), said);
    for (const label of data.labels) {
      const fill = make("b"), share = make("span", { class: "num" });
      const meter = tinted(make("button", { class: "meter", type: "button", "aria-pressed": "true",
        title: "Show or hide its curve" },
        make("span", {}, swatch(label), label), share, make("i", {}, fill)), label);
      meter.addEventListener("click", () => {
        const on = meter.getAttribute("aria-pressed") !== "true";
        meter.setAttribute("aria-pressed", String(on));
        lines[label].forEach((line) => { line.style.display = on ? "" : "none"; });
      });
      meters[label] = { fill, share };
      box.append(meter);
    }
    return box;
  }
  function listed() {
    const list = make("ol", { class: "list" });
    const entries = data.segments.map((s) => {
      const button = make("button", { class: "item", type: "button", "aria-label": named(s),
        onclick: () => seek(s.start) },
        make("span", { class: "at num" }, `${clock(s.start, true)} – ${clock(s.end, true)}`),
        make("span", { class: "name" }, swatch(s.label), s.label),
        make("span", { class: "num" }, s.label === "uncertain" ? "–" : percent(s.confidence)));
      const item = tinted(make("li", {}, button), s.label);
      if (s.text) item.append(wordsOf(s));
      items.push(item);
      list.append(item);
      return button;
    });
    roving(list, entries);
    return make("section", { "aria-label": "Segments" }, make("h2", {}, "Segments"), list);
  }
  function wordsOf(segment) {
    const box = make("p", { class: "said-words" });
    const mine = data.words.filter((w) => {
      const middle = (w.start + w.end) / 2;
      return middle >= segment.start && middle < segment.end;
    });
    if (!mine.length) box.textContent = segment.text;
    for (const word of mine) {
      const span = make("span", { onclick: () => seek(word.start) }, word.text);
      words.push([word, span]);
      box.append(span, " ");
    }
    return box;
  }
  function probabilities(seconds) {
    let best = null, least = Infinity;
    for (const p of data.track) {
      if (seconds < p.start || seconds > p.end) continue;
      const off = Math.abs(seconds - (p.start + p.end) / 2);
      if (off < least) [best, least] = [p, off];
    }
    return best;
  }
  function show(seconds, scrolls) {
    now = seconds;
    head.style.left = place(Math.min(now, duration));
    seeker.value = now;
    time.textContent = `${clock(now)} / ${clock(Math.round(data.duration))}`;
    const place_ = at(now), segment = data.segments[place_], point = segment ? probabilities(now) : null;
    seeker.setAttribute("aria-valuetext", `${clock(now)}, ${segment ? spoken(segment) : "no speech"}`);
    for (const label of data.labels) {
      const share = point ? point.probabilities[label] : 0;
      meters[label].fill.style.width = 100 * share + "%";
      meters[label].share.textContent = point ? percent(share) : "–";
    }
    said.textContent = segment ? spoken(segment) : "no speech";
    for (const [word, span] of words) span.classList.toggle("now", now >= word.start && now < word.end);
    if (place_ !== current) {
      for (const all of [buttons, items]) {
        if (all[current]) all[current].classList.remove("now");
        if (all[place_]) all[place_].classList.add("now");
      }
      current = place_;
      if (!quiet) status.textContent = segment ? named(segment) : `no speech at ${clock(now)}`;
    }
    if (scrolls && zoom > 1) centre();
  }
  function keys(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.closest("button, input, select, textarea, a, summary")) return;
    const run = { " ": toggle, ArrowLeft: () => seek(now - 5), ArrowRight: () => seek(now + 5),
      "[": () => jump(-1), "]": () => jump(1) }[event.key];
    if (!run) return;
    event.preventDefault();
    run();
  }

  segments();
  const wave = serWaveform(data, tinted);
  for (const drawing of [wave, curves]) drawing.addEventListener("click", pointed);
  tracks.append(wave, strip, make("div", { class: "plot" }, curves, ...scales), ruler, head);
  scroll.append(tracks);
  const card = make("div", { class: "card" }, make("div", { class: "bar" }, play, time, seeker, tools), note);
  card.append(data.segments.length ? scroll : make("p", { class: "empty" }, "No speech was found in this recording."));
  root.classList.add("ser");
  root.replaceChildren(...overall(), card, status, make("p", { class: "small" },
    "Space plays and pauses, the arrow keys go 5 s back and forth, [ and ] go to the segment before and after."));
  const below = make("div", { class: "below" }, nowBox(), listed());
  if (data.segments.length) root.append(below);
  const resized = () => scale(zoom);
  for (const name of ["play", "pause", "ended"]) audio.addEventListener(name, playing);
  audio.addEventListener("seeked", () => show(audio.currentTime, false));
  audio.addEventListener("loadedmetadata", () => { if (now) audio.currentTime = now; });
  audio.addEventListener("error", () => { if (audio.src) missing(data.missing || "This browser cannot play the recording."); });
  document.addEventListener("keydown", keys);
  window.addEventListener("resize", resized);
  if (audioSource) open(audioSource); else missing(data.missing || "The recording is not in this page.");
  scale(1);
  show(0, false);
  return { audio, seek, destroy() {
    audio.pause();
    audio.removeAttribute("src");
    cancelAnimationFrame(timer);
    document.removeEventListener("keydown", keys);
    window.removeEventListener("resize", resized);
    root.replaceChildren();
  } };
}
