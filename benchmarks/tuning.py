"""Time per step and peak memory of fine-tuning a base-size network, for each method.

    python benchmarks/tuning.py --batch 8 --seconds 4

The network is wav2vec 2.0 base with random weights (94 M parameters). Each method runs in its own
process, whose peak memory includes torch, the weights, the optimiser and the activations.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import time

METHODS = ("whole", "last", "low-rank", "low-rank, checkpointing")


def measure(method: str, batch: int, seconds: float, steps: int) -> str:
    """Trains a few steps in this process."""
    import torch
    import torch.nn.functional as F
    import transformers

    from multimodal_ser.config.settings import TuneConfig
    from multimodal_ser.encoders.pretrained_speech import SpeechNetwork
    from multimodal_ser.training.tune.changes import let_learn, rates

    torch.manual_seed(0)
    network = SpeechNetwork(transformers.Wav2Vec2Model(transformers.Wav2Vec2Config())).train()
    name, _, more = method.partition(", ")
    config = TuneConfig(method=name, checkpointing=bool(more))  # type: ignore[arg-type]
    let_learn(network, config)
    head = torch.nn.Linear(network.width, 7)
    optimizer = torch.optim.AdamW([*rates(network, config), {"params": [*head.parameters()]}])
    learning = sum(p.numel() for p in network.parameters() if p.requires_grad)
    waves = [torch.randn(int(16_000 * seconds)) for _ in range(batch)]
    label = torch.arange(batch) % 7
    took = []
    for _ in range(steps):
        start = time.perf_counter()
        states, _ = network(waves)
        loss = F.cross_entropy(head(states[-1].mean(1)), label)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad()
        took.append(time.perf_counter() - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return f"| {method} | {learning / 1e6:.1f} M | {min(took):.1f} s | {peak:,.0f} MiB |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--method", choices=METHODS)
    given = parser.parse_args()
    if given.method:
        print(measure(given.method, given.batch, given.seconds, given.steps))
        return
    print(f"batches of {given.batch} × {given.seconds:g} s\n")
    print("| method | learns | a step | peak memory |\n|---|---:|---:|---:|")
    for method in METHODS:
        same = [f"--{k}={v}" for k, v in vars(given).items() if v is not None]
        command = [sys.executable, __file__, *same, f"--method={method}"]
        print(subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip())


if __name__ == "__main__":
    main()
