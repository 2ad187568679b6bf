// Microphone -> a WAV file of 16 kHz, 16 bits, mono: what every server can decode.
const RATE = 16000;
const SHORTEST = 0.3; // seconds
const $ = (id) => document.getElementById(id);

export function canRecord() {
  return Boolean(window.isSecureContext && navigator.mediaDevices?.getUserMedia && window.AudioWorkletNode);
}

async function startRecording(onSound) {
  const stream = await navigator.mediaDevices.getUserMedia({
    audio: { echoCancellation: false, noiseSuppression: false, autoGainControl: false },
  });
  const context = new AudioContext();
  const parts = [];
  try {
    await context.audioWorklet.addModule("static/worklet.js");
    const node = new AudioWorkletNode(context, "recorder", { numberOfOutputs: 0 });
    node.port.onmessage = ({ data }) => {
      parts.push(data);
      onSound(data, context.sampleRate);
    };
    context.createMediaStreamSource(stream).connect(node);
    await context.resume();
  } catch (error) {
    stream.getTracks().forEach((track) => track.stop());
    await context.close();
    throw error;
  }
  return async function stop() {
    stream.getTracks().forEach((track) => track.stop());
    const rate = context.sampleRate;
    await context.close();
    return wav(await resampled(joined(parts), rate));
  };
}

function joined(parts) {
  const all = new Float32Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}

async function resampled(samples, rate) {
  if (rate === RATE || !samples.length) return samples;
  const offline = new OfflineAudioContext(1, Math.ceil((samples.length * RATE) / rate), RATE);
  const buffer = offline.createBuffer(1, samples.length, rate);
  buffer.copyToChannel(samples, 0);
  const source = offline.createBufferSource();
  source.buffer = buffer;
  source.connect(offline.destination);
  source.start();
  return (await offline.startRendering()).getChannelData(0);
}

function wav(samples) {
  const bytes = new DataView(new ArrayBuffer(44 + 2 * samples.length));
  const word = (at, text) => [...text].forEach((c, i) => bytes.setUint8(at + i, c.charCodeAt(0)));
  word(0, "RIFF");
  bytes.setUint32(4, 36 + 2 * samples.length, true);
  word(8, "WAVEfmt ");
  bytes.setUint32(16, 16, true);
  bytes.setUint16(20, 1, true); // PCM
  bytes.setUint16(22, 1, true); // channels
  bytes.setUint32(24, RATE, true);
  bytes.setUint32(28, 2 * RATE, true);
  bytes.setUint16(32, 2, true);
  bytes.setUint16(34, 16, true);
  word(36, "data");
  bytes.setUint32(40, 2 * samples.length, true);
  samples.forEach((x, i) => bytes.setInt16(44 + 2 * i, Math.round(Math.max(-1, Math.min(1, x)) * 32767), true));
  return new Blob([bytes], { type: "audio/wav" });
}

// Record, watch the level, Stop: hands over a WAV file. Stops by itself before `most` seconds.
export async function recordByHand({ most, begun, done, failed }) {
  let seconds = 0;
  const levels = [];
  let stop;
  try {
    stop = await startRecording((sound, rate) => {
      seconds += sound.length / rate;
      levels.push(Math.max(...sound.map(Math.abs)));
      $("elapsed").textContent = serClock(seconds);
      drawMeter($("meter"), levels);
      if (seconds >= most - 1) $("stop").click();
    });
  } catch (error) {
    failed("The microphone cannot be used.", `${error.message}. Allow it in the browser, or choose a file.`);
    return;
  }
  show(true);
  begun();
  $("stop").focus();
  $("stop").onclick = async () => {
    $("stop").onclick = null;
    const blob = await stop();
    show(false);
    if (blob.size >= 44 + 2 * RATE * SHORTEST) done(blob);
    else failed("That was too short.", "Record at least a third of a second.");
  };
}

function show(recording) {
  $("idle").hidden = recording;
  $("recording").hidden = !recording;
  $("elapsed").textContent = "0:00";
}

function drawMeter(canvas, levels) {
  const pen = canvas.getContext("2d");
  pen.clearRect(0, 0, canvas.width, canvas.height);
  pen.fillStyle = getComputedStyle(document.documentElement).getPropertyValue("--accent");
  levels.slice(-canvas.width).forEach((level, i) => {
    const tall = Math.max(2, Math.min(1, level) ** 0.6 * canvas.height);
    if (i % 4 === 0) pen.fillRect(i, (canvas.height - tall) / 2, 2.5, tall);
  });
}
