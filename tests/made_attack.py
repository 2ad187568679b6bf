"""What attackers and honest clients of a server do, and how long that may take."""

import socket
import sys
import threading
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx

from made_server import MadePredictor, encoded
from made_sound import tone
from multimodal_ser.config.settings import SAMPLE_RATE

HERE = Path(__file__).parent
SOURCE = Path(sys.modules["multimodal_ser"].__path__[0]).parent
CLIP = encoded(tone(3.0, hertz=600))
WAV = {"Content-Type": "audio/wav"}
HALF = b"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: audio/wav\r\n"


class Costly(MadePredictor):
    """Takes as long for its sound as a small network does; knows how much it has heard."""

    def __init__(self, speed=100.0):
        super().__init__()
        self.speed, self.heard, self.most = speed, 0.0, 0.0

    def waves(self, waves, texts=None, **_):
        sound = sum(map(len, waves)) / SAMPLE_RATE
        self.heard, self.most = self.heard + sound, max(self.most, sound)
        time.sleep(sound / self.speed)
        return super().waves(waves, texts)


def slack():
    """1 on a machine that does nothing else; more where others leave us part of a processor."""
    wall, used = time.monotonic(), time.thread_time()
    while time.thread_time() - used < 0.1:
        pass
    return max(1.0, 3 * (time.monotonic() - wall) / 0.1 - 2)


def honest_clients_are_answered(address, rounds=3):
    """`/health` in under a second, a clip of 3 s in under five."""
    for _ in range(rounds):
        before = slack()
        began = time.monotonic()
        assert httpx.get(f"{address}/health", timeout=60).status_code == 200
        took = [(time.monotonic() - began) / 1]
        for where in ("predict", "analyze"):
            began = time.monotonic()
            answer = httpx.post(f"{address}/v1/{where}", content=CLIP, headers=WAV, timeout=60)
            assert answer.status_code == 200, answer.text
            took.append((time.monotonic() - began) / 5)
        assert max(took) < max(before, slack()), took


def until(condition, seconds=120):
    """Waits for a condition, and returns what it returned."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)
    return found


@contextmanager
def sending(address, body, count, path):
    """Clients that wait for their answers in threads; closing them ends their connections."""
    port = int(address.rsplit(":", 1)[1])
    head = (
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: audio/flac\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    ).encode()
    with ExitStack() as stack:
        clients = [
            stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=60))
            for _ in range(count)
        ]
        senders = [threading.Thread(target=c.sendall, args=(head + body,)) for c in clients]
        for sender in senders:
            sender.start()
        for sender in senders:
            sender.join()
        yield clients


def status(client):
    return int(client.recv(65_536).split(b" ", 2)[1])
