"use strict";
/* The list of segments: found by emotion, confidence, speaker and words; corrected; saved.
   serListing(data, tools): tools has tinted, swatch, amount, named, spoken, seek, changed(visible).
   Returns { element, controls, items, visible, strongest, words, asJSON, asManifest }. */
function serListing(data, tools) {
  const make = serElement, { tinted, swatch, seek } = tools;
  const labels = serLabels(data), lanes = serLanes(data);
  const told = new Set(), items = [], fixes = [], words = [];
  const visible = new Set(data.segments.keys());
  const wanted = { labels: new Set(labels), least: 0, who: "", words: "" };
  // of this sound and these segments: others of the same name have corrections of their own
  const digest = [...data.peaks || [], ...data.segments.flatMap((s) => [s.start, s.end])]
    .reduce((sum, one) => (31 * sum + Math.round(1000 * one)) % 4294967291, data.segments.length);
  const key = `ser ${data.source || ""} ${data.duration} ${digest}`;

  function row(s, k) {
    const button = make("button", { class: "item", type: "button", onclick: () => seek(s.start) });
    const fix = make("button", { class: "fix", type: "button", onclick: () => choose(k) }, "Correct");
    const item = make("li", {}, button, ...(data.scale ? [] : [fix])); // a class is put right, not a number
    items.push(item);
    fixes.push(fix);
    fill(k);
    if (s.text) item.append(wordsOf(s));
    return item;
  }
  function fill(k) {
    const s = data.segments[k], button = items[k].querySelector(".item");
    const who = s.speaker ? [make("bdi", { class: "who" }, s.speaker)] : [];
    const was = s.was ? [make("span", { class: "was" }, " was ", make("bdi", {}, s.was))] : [];
    button.setAttribute("aria-label", tools.named(s) + (s.was ? `, corrected from ${s.was}` : ""));
    button.replaceChildren(
      make("span", { class: "at num" }, `${serClock(s.start, true)} – ${serClock(s.end, true)}`), ...who,
      make("span", { class: "name" }, swatch(s.label), make("bdi", {}, s.label), ...was),
      make("span", { class: "num" }, s.label === "uncertain" || s.was ? "–" : tools.amount(s)));
    fixes[k].setAttribute("aria-label", `Correct ${tools.named(s)}`);
    tinted(items[k], s.label);
  }
  function wordsOf(segment) {
    const box = make("p", { class: "said-words", dir: "auto" });
    const mine = (data.words || []).filter((w) => {
      const middle = (w.start + w.end) / 2;
      return middle >= segment.start && middle < segment.end &&
        (w.speaker ?? null) === (segment.speaker ?? null);
    });
    if (!mine.length) box.textContent = segment.text;
    for (const word of mine) {
      const span = make("span", { onclick: () => seek(word.start) }, word.text);
      words.push([word, span]);
      box.append(span, " ");
    }
    return box;
  }

  /* Correcting: the button becomes a choice of labels for as long as it has the focus. */
  function choose(k) {
    const fix = items[k].querySelector(".fix");
    const select = make("select", { class: "fix", "aria-label": fix.getAttribute("aria-label"),
      onchange: () => { correct(k, select.value); over(true); }, onblur: () => over(false),
      onkeydown: (event) => { event.stopPropagation(); if (event.key === "Escape") over(true); } });
    for (const label of labels)
      select.append(make("option", { value: label, selected: label === data.segments[k].label }, label));
    let open = true; // taking it out of the page takes its focus, which asks again
    const over = (back) => {
      if (!open) return;
      open = false;
      select.replaceWith(fix);
      if (back) fix.focus();
    };
    fix.replaceWith(select);
    select.focus();
  }
  function correct(k, label) {
    const s = data.segments[k], first = s.was || s.label;
    s.label = label;
    if (label === first) delete s.was; else s.was = first;
    told.add(k);
    fill(k);
    tools.relabelled(k);
    filter();
    keep();
  }
  function keep() {
    save.disabled = manifest.disabled = false;
    if (!data.keep) return;
    const kept = [...told].map((k) => [k, data.segments[k].label]);
    try { localStorage.setItem(key, JSON.stringify(kept)); } catch { /* a browser that keeps nothing */ }
  }
  function recall() {
    if (!data.keep) return;
    let kept = [];
    try { kept = JSON.parse(localStorage.getItem(key) || "[]"); } catch { /* nothing is kept */ }
    for (const [k, label] of kept) if (data.segments[k] && labels.includes(label)) correct(k, label);
  }
  function asJSON() {
    const { peaks, colours, missing, keep: _, ...rest } = data;
    return JSON.stringify(rest, null, 1) + "\n";
  }
  /* A row of a manifest for each segment that somebody has given a class: what `ser train` learns from. A recording
     is a dialogue, so that `--split dialogue` keeps it in one part where its speakers are not known. A number that
     tells speakers apart is another person's in the next recording, whose name is therefore added. */
  function asManifest() {
    const source = data.source || "recording";
    const person = (name) => (/^(speaker|channel)[ _]\d+$/i.test(name) ? `${name} of ${source}` : name ?? null);
    const named = [...told].filter((k) => data.segments[k].label !== "uncertain"); // which is none
    return named.sort((a, b) => a - b).map((k) => {
      const s = data.segments[k], { start, end } = s;
      return JSON.stringify({ id: `corrected/${source}/${start.toFixed(3)}-${k}`, corpus: "corrected",
        emotion: s.label, audio: source, text: s.text ?? null, speaker: person(s.speaker),
        dialogue: source, start, end, extra: { model: data.model, predicted: s.was || s.label } }) + "\n";
    }).join("");
  }
  function download(name, text) {
    const address = URL.createObjectURL(new Blob([text], { type: "application/json" }));
    make("a", { href: address, download: name }).click();
    setTimeout(() => URL.revokeObjectURL(address), 10_000);
  }

  /* Finding */
  function passes(s) {
    const sure = data.scale || s.label === "uncertain" || s.was || s.confidence >= wanted.least;
    return sure && wanted.labels.has(s.label) && (!wanted.who || s.speaker === wanted.who) &&
      (!wanted.words || (s.text || "").toLowerCase().includes(wanted.words));
  }
  function filter() {
    data.segments.forEach((s, k) => {
      const ok = passes(s);
      items[k].hidden = !ok;
      if (ok) visible.add(k); else visible.delete(k);
    });
    const all = data.segments.length;
    const noun = all === 1 ? "segment" : "segments";
    count.textContent = (visible.size === all ? "" : `${visible.size} of `) + `${all} ${noun}`;
    tools.changed(visible, wanted.who);
  }
  function strongest(most = 8) {
    const strength = (s) => (data.scale // how far from the middle
      ? Math.max(...Object.values(serShares(data, s)).map((v) => Math.abs(2 * v - 1))) : s.confidence);
    const force = (s) => strength(s) * Math.min(s.end - s.start, 10);
    return [...visible].filter((k) => !["uncertain", "neutral"].includes(data.segments[k].label))
      .sort((a, b) => force(data.segments[b]) - force(data.segments[a])).slice(0, most);
  }

  const count = make("output", { class: "count", "aria-live": "polite" });
  const chips = labels.map((label) => tinted(make("button", { class: "chip", type: "button",
    "aria-pressed": "true", onclick: (event) => {
      const on = !wanted.labels.delete(label);
      if (on) wanted.labels.add(label);
      event.currentTarget.setAttribute("aria-pressed", String(on));
      filter();
    } }, swatch(label), label), label));
  const least = make("input", { type: "range", min: 0, max: 100, value: 0, "aria-label": "Least confidence",
    oninput: () => {
      wanted.least = +least.value / 100;
      sure.textContent = `from ${least.value} %`;
      filter();
    } });
  const sure = make("span", { class: "num" }, "from 0 %");
  const who = make("select", { class: "tool", "aria-label": "Speaker", hidden: lanes[0] === null,
    onchange: () => { wanted.who = who.value; filter(); } }, make("option", { value: "" }, "everybody"),
    ...lanes.filter((name) => name !== null).map((name) => make("option", { value: name }, name)));
  const search = make("input", { type: "search", class: "tool search", dir: "auto", placeholder: "Search the words",
    "aria-label": "Search the words", hidden: !data.segments.some((s) => s.text),
    oninput: () => { wanted.words = search.value.trim().toLowerCase(); filter(); } });
  const stem = (data.source || "timeline").split("/").pop();
  const save = make("button", { class: "tool", type: "button",
    onclick: () => download(`${stem}.json`, asJSON()) }, "Save JSON");
  const manifest = make("button", { class: "tool", type: "button", disabled: true,
    title: "The segments that you have corrected, for ser train",
    onclick: () => download(`${stem}.corrected.jsonl`, asManifest()) }, "Save corrections");
  const print = make("button", { class: "tool", type: "button", onclick: () => window.print() }, "Print");
  const controls = make("div", { class: "filters", role: "group", "aria-label": "Find segments" },
    ...chips, ...(data.scale ? [] : [make("label", { class: "least" }, "Confidence ", least, sure)]), who, search);
  const element = make("ol", { class: "list", "aria-label": "Segments" });
  element.append(...data.segments.map(row));
  const head = make("div", { class: "listhead" }, make("h2", {}, "Segments"), count, save,
    ...(data.scale ? [] : [manifest]), print);
  return { element, head, controls, items, visible, strongest, words, filter, recall, search, asJSON,
    asManifest, correct };
}
