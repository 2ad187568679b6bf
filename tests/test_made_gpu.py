"""Training, encoding and fine-tuning where a tensor left on the CPU is an error, without a GPU."""

import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.mark.slow
def test_no_tensor_is_left_on_the_processor(tmp_path):
    asked = [sys.executable, str(HERE / "made_gpu.py"), str(tmp_path)]
    told = subprocess.run(asked, capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stderr[-5_000:]
    assert told.stdout.splitlines()[-1] == "all of it ran on the GPU"


def test_one_that_is_left_is_an_error():
    """The pretended GPU refuses what it should, so that the other test means something."""
    program = (
        "import torch, made_gpu; made_gpu.replaced()\n"
        "with made_gpu.OnGpuToo():\n"
        "    here, there = torch.ones(2), torch.ones(2, device='gpu')\n"
        "    assert (there + 1).sum().item() == 4 and there.cpu().tolist() == [1, 1]\n"
        "    for wrong in (lambda: here + there, there.numpy, lambda: here[there.long()]):\n"
        "        try:\n"
        "            wrong()\n"
        "        except RuntimeError:\n"
        "            print('refused')\n"
    )
    told = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=HERE, check=False
    )
    assert told.returncode == 0, told.stderr[-2_000:]
    assert told.stdout.split() == ["refused"] * 3
