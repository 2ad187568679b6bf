"""What the tests share: how they compute, and the two corpora that transfer is tested on."""

import ctypes
import gc
import logging
import os
import sys

import pytest

# one thread: the networks of the tests are too small to gain from more, and lose by waiting
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
# the collector walks through all that the imports have made, a tenth of the time at 700
gc.set_threshold(20_000, 10, 10)
# glibc keeps freed memory instead of giving it back: it would be taken again at once, and the
# system clears every page that it hands out, a third of the time of tests with real encoders
if set_option := sys.platform == "linux" and getattr(ctypes.CDLL(None), "mallopt", None):
    for option, value in ((-4, 0), (-1, 2**31 - 1)):  # M_MMAP_MAX and M_TRIM_THRESHOLD in malloc.h
        set_option(option, value)


@pytest.fixture(scope="session", autouse=True)
def memory_kept():
    """`ser extract` trades time for memory in its whole process, which here is all tests' own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("multimodal_ser.common.devices.limit_caches", lambda: None)
        yield


@pytest.fixture(autouse=True)
def warnings_alone():
    """`ser serve` lets its whole process log more than warnings, also the tests after it."""
    logging.getLogger().setLevel(logging.WARNING)


@pytest.fixture(scope="session")
def pair(tmp_path_factory):
    """Source, its split, target, its split."""
    from made_transfer import made_pair  # brings torch, which tests without a pair do not need

    return made_pair(tmp_path_factory.mktemp("features"))


@pytest.fixture
def all_is_speech(monkeypatch):
    """For made-up sound, in which nobody speaks."""
    monkeypatch.setattr("multimodal_ser.audio.speech.gates.AUTO", "none")


@pytest.fixture
def level_is_speech(monkeypatch):
    """For made-up sound that is told from silence by its level, not by a network for speech."""
    monkeypatch.setattr("multimodal_ser.audio.speech.gates.AUTO", "energy")
