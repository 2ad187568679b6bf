"""Delay of `/v1/stream` for several clients that stream speech in real time.

    python benchmarks/stream.py --audio recording.wav [--clients 16] [--seconds 30]

Every client sends the recording, repeated, in pieces of 0.1 s as a microphone provides them, to a
server on the same machine. Prints the delay from sending the last sample that a prediction is based
on until the prediction arrives. silero-vad needs up to a second of the following audio to be sure
of speech, which is part of the delay. Needs the extra serve and websocket-client.
"""

from __future__ import annotations

import argparse
import json
import threading
import time
from pathlib import Path

import numpy as np
import websocket
from machine import machine

from multimodal_ser.audio import read_audio
from multimodal_ser.config.settings import SAMPLE_RATE
from multimodal_ser.predict import load
from multimodal_ser.serve import Settings, create_app, serving

PIECE = 0.1  # seconds


def speak(
    address: str, sound: np.ndarray, delays: list[float], ends: list[tuple[float, int]]
) -> None:
    """Acts as one client: sends in real time and records when predictions and the end arrive."""
    socket = websocket.create_connection(address, timeout=120)
    socket.send(json.dumps({"rate": SAMPLE_RATE, "format": "f32"}))
    socket.recv()
    began = time.monotonic()

    def listen() -> None:
        while message := socket.recv():
            told = json.loads(message)
            if told["type"] == "estimate":
                delays.append(time.monotonic() - began - told["end"])
            if told["type"] == "timeline":
                late = time.monotonic() - began - len(sound) / SAMPLE_RATE
                ends.append((late, len(told["track"])))
                return

    ear = threading.Thread(target=listen)
    ear.start()
    step = round(PIECE * SAMPLE_RATE)
    for number, at in enumerate(range(0, len(sound), step), 1):
        time.sleep(max(0.0, began + number * PIECE - time.monotonic()))
        socket.send_binary(sound[at : at + step].tobytes())
    socket.send(json.dumps({"end": True}))
    ear.join()
    socket.close()


def main() -> None:
    """Prints one line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--audio", type=Path, required=True)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--model", default="starter")
    given = parser.parse_args()
    sound = np.resize(read_audio(given.audio), round(given.seconds * SAMPLE_RATE))
    delays: list[float] = []
    ends: list[tuple[float, int]] = []
    app = create_app(load(given.model), Settings(max_streams=given.clients))
    with serving(app) as here:
        address = here.replace("http", "ws") + "/v1/stream"
        clients = [
            threading.Thread(target=speak, args=(address, sound, delays, ends))
            for _ in range(given.clients)
        ]
        for client in clients:
            client.start()
            time.sleep(PIECE / given.clients)
        for client in clients:
            client.join()
    middle, most = np.percentile(delays, [50, 95])
    late, due = zip(*ends, strict=True)
    print(
        f"{machine()}; {given.clients} clients, {given.seconds:g} s each: {len(delays)} "
        f"estimates while they spoke, of {sum(due)} windows; "
        f"delay {middle:.2f} s in the middle, {most:.2f} s for 95 %; the timeline "
        f"{np.percentile(late, 95):.2f} s after the last sample"
    )


if __name__ == "__main__":
    main()
