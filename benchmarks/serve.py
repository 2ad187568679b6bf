"""Throughput and delay of the server at 1, 8 and 32 clients, and its memory over many requests.

Everything stays on this machine, and the number of requests is limited. The server runs in its own
process, so that its memory can be measured. Needs the extras serve and dev:

    python benchmarks/serve.py [--model starter] [--requests 160] [--memory-requests 2000]
"""

from __future__ import annotations

import argparse
import io
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from queue import Empty, Queue

import httpx
import numpy as np
import soundfile

SERVER = "import sys; from multimodal_ser.cli import main; sys.exit(main())"


def speech_like(seconds: float) -> bytes:
    """Makes a WAV file of noise with the rhythm of syllables; what it says does not matter here."""
    rng = np.random.default_rng(0)
    time_ = np.arange(round(16_000 * seconds)) / 16_000
    wave = rng.normal(0, 0.2, len(time_)) * (0.2 + np.abs(np.sin(2 * np.pi * 2 * time_)))
    file = io.BytesIO()
    soundfile.write(file, wave.astype("f4"), 16_000, format="WAV", subtype="PCM_16")
    return file.getvalue()


@contextmanager
def server(model: str, *, batching: bool) -> Iterator[tuple[str, int]]:
    """Runs `ser serve` in its own process; yields its address and process number."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-c", SERVER, "serve", "--model", model, "--port", str(port)]
    command += [] if batching else ["--no-batching"]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(600):
            if process.poll() is not None:
                sys.exit(f"the server ended with {process.returncode}: {' '.join(command)}")
            try:
                httpx.get(f"{address}/health", verify=False)
                break
            except httpx.TransportError:
                time.sleep(0.1)
        yield address, process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(40)


def load(address: str, body: bytes, clients: int, requests: int) -> tuple[float, np.ndarray, int]:
    """Sends requests from several clients at once.

    Returns:
        Requests a second, each request's delay in milliseconds, and how many failed.
    """
    jobs: Queue[int] = Queue()
    for number in range(requests):
        jobs.put(number)
    delays, failed, lock = [], [0], threading.Lock()

    def client(http: httpx.Client) -> None:
        while next_of(jobs) is not None:
            began = time.perf_counter()
            answer = http.post("/v1/predict", content=body, headers={"Content-Type": "audio/wav"})
            with lock:
                delays.append(1000 * (time.perf_counter() - began))
                failed[0] += answer.status_code != 200

    # Plain HTTP: loading certificates would cost more than the requests.
    many = httpx.Limits(max_connections=clients)
    plain = httpx.Client(base_url=address, timeout=120, limits=many, verify=False)
    with plain as http, ThreadPoolExecutor(clients) as pool:
        began = time.perf_counter()
        for done in [pool.submit(client, http) for _ in range(clients)]:
            done.result()
        return requests / (time.perf_counter() - began), np.array(delays), failed[0]


def next_of(jobs: Queue[int]) -> int | None:
    """Returns the next job, or None if none is left."""
    try:
        return jobs.get_nowait()
    except Empty:
        return None


def resident(pid: int) -> float:
    """Returns the resident memory of a process in MB."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def speeds(given: argparse.Namespace, body: bytes) -> None:
    """Prints the table of throughput and delay."""
    print("| clients | batching | requests/s | p50 ms | p95 ms | failed |")
    print("|---:|---|---:|---:|---:|---:|")
    for batching in (True, False):
        with server(given.model, batching=batching) as (address, _):
            load(address, body, 8, 16)  # warms up
            for clients in (1, 8, 32):
                rate, delays, failed = load(address, body, clients, given.requests)
                middle, late = np.percentile(delays, [50, 95])
                print(
                    f"| {clients} | {'on' if batching else 'off'} | {rate:.1f} | {middle:.0f} "
                    f"| {late:.0f} | {failed} |",
                    flush=True,
                )


def memory(given: argparse.Namespace, body: bytes) -> None:
    """Prints the table of memory, after a warm-up of a tenth."""
    tenth = max(given.memory_requests // 10, 1)
    print("\n| requests | resident MB | failed |\n|---:|---:|---:|")
    with server(given.model, batching=True) as (address, pid):
        _, _, failed = load(address, body, 8, tenth)
        for count in range(0, given.memory_requests + 1, 5 * tenth):
            if count:
                failed += load(address, body, 8, 5 * tenth)[2]
            print(f"| {count} | {resident(pid):.0f} | {failed} |", flush=True)


def main() -> None:
    """Prints both tables in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="starter")
    parser.add_argument("--seconds", type=float, default=3.0, help="length of the recording")
    parser.add_argument("--requests", type=int, default=160, help="for each line")
    parser.add_argument("--memory-requests", type=int, default=2000)
    given = parser.parse_args()
    body = speech_like(given.seconds)
    speeds(given, body)
    memory(given, body)


if __name__ == "__main__":
    main()
