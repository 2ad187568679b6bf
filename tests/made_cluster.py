"""Work for a cluster's workers, which import it from here."""

import os
import signal
import time
from pathlib import Path

import numpy as np

from made_timeline import RATE, Pitch
from multimodal_ser.audio import read_audio
from multimodal_ser.errors import FeatureError, SerError
from multimodal_ser.predict import Prediction
from test_extract import FakeEncoder


def times(factor, item):
    return factor * item


def threads_of(shared, item):
    import torch

    return torch.get_num_threads()


def fails_on_two(shared, item):
    if item == 2:
        raise FeatureError("two is bad")
    return item


def gpus_of(shared, item):
    import ray

    return ray.get_gpu_ids()


def address_of(shared, item):
    import ray

    return ray.get_runtime_context().gcs_address


def dies(folder, item):
    """Kills its worker every time, and leaves a file each time."""
    (folder / f"{time.monotonic_ns()}").touch()
    os.kill(os.getpid(), signal.SIGKILL)


class Counted:
    """Leaves a file whenever it is unpickled."""

    def __init__(self, folder):
        self.folder = folder

    def __setstate__(self, state):
        self.__dict__ = state
        (self.folder / f"{os.getpid()}-{time.monotonic_ns()}").touch()


def process_of(shared, item):
    time.sleep(0.02)
    return os.getpid()


class DeadlyPitch(Pitch):
    """Kills the first worker that it answers on."""

    def __init__(self, flag: Path):
        super().__init__()
        self.flag = flag

    def waves(self, waves, texts=None, *, speech=False):
        if not self.flag.exists():
            self.flag.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().waves(waves, texts, speech=speech)


class DeadlyAnswers(DeadlyPitch):
    """Answers recordings."""

    def outcomes(self, sources, texts=None):
        for source in sources:
            try:
                wave = read_audio(source)
            except SerError as error:
                yield error
                continue
            shares = self.waves([wave])[0].probabilities
            yield Prediction(self.labels, shares, shares, 0.0, len(wave) / RATE, self.threshold)


class Deadly(FakeEncoder):
    """Kills the first worker that meets the loudest recording, in the middle of its chunk."""

    def __init__(self, flag: Path, threshold: float):
        super().__init__()
        self.flag, self.threshold = flag, threshold

    def encode(self, item):
        if np.abs(item).max() >= self.threshold and not self.flag.exists():
            self.flag.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().encode(item)
