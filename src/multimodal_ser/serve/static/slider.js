// The waveform as a slider: by pointer, and by the keys that sliders have.
export function slider(bar, { length, at, to, toggle }) {
  const place = (event) => {
    const box = bar.getBoundingClientRect();
    return ((event.clientX - box.left) / box.width) * length();
  };
  bar.onpointerdown = (event) => {
    bar.setPointerCapture(event.pointerId);
    to(place(event));
  };
  bar.onpointermove = (event) => event.buttons && to(place(event));
  const steps = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1, PageUp: 10, PageDown: -10 };
  bar.onkeydown = (event) => {
    if (steps[event.key]) to(at() + steps[event.key]);
    else if (event.key === "Home") to(0);
    else if (event.key === "End") to(length());
    else if (event.key === " " || event.key === "Enter") toggle();
    else return;
    event.preventDefault();
  };
}
