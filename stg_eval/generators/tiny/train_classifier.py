"""Train the embedded extractor: ``python -m stg_eval.generators.tiny.train_classifier``.

Writes stg_eval/metrics/sprites_c3d.safetensors and prints the accuracy on held-out clips with the stored half-precision
weights. A few minutes on one core. Stands here, not beside the network, because metrics know nothing of data sets.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import torch
from safetensors.torch import save_file
from torch.nn import functional as F

from stg_eval.datasets import sprites
from stg_eval.metrics import sprites_c3d


def main(argv: list[str] | None = None) -> None:
    """Train, store, evaluate."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--batch-size", type=int, default=48)
    parser.add_argument("--held-out", type=int, default=2400)
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    started = time.perf_counter()
    network = sprites_c3d.SpritesC3D()
    optimiser = torch.optim.AdamW(network.parameters(), weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 3e-3, args.steps)
    ema = torch.optim.swa_utils.AveragedModel(network, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.995))
    for step in range(args.steps):
        indices = sprites.TRAIN_FIRST + step * args.batch_size + np.arange(args.batch_size)
        frames = torch.from_numpy(_degrade(sprites.clips(indices), np.random.default_rng(step)))
        with torch.autocast("cpu", torch.bfloat16):
            _, logits = network(frames)
        loss = F.cross_entropy(logits.float(), _labels(indices), label_smoothing=0.05)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        ema.update_parameters(network)
        if step % 100 == 99:
            print(f"step {step + 1} loss {loss.item():.3f} seconds {time.perf_counter() - started:.0f}", flush=True)
    save_file({name: value.half() for name, value in ema.module.state_dict().items()}, sprites_c3d.WEIGHTS)
    print(f"accuracy on {args.held_out} held-out clips: {accuracy(args.held_out):.4f}")


def accuracy(n: int) -> float:
    """Return share of `n` validation clips that the stored network names right."""
    network = sprites_c3d.load()
    indices = sprites.VALIDATION_FIRST + np.arange(n)
    right = 0
    for part in np.array_split(indices, max(1, n // 100)):
        with torch.inference_mode():
            _, logits = network(torch.from_numpy(sprites.clips(part)))
        right += int((logits.argmax(1) == _labels(part)).sum())
    return right / n


def _degrade(clips: np.ndarray, draw: np.random.Generator) -> np.ndarray:
    """Half of the clips get a little pixel noise: features should not hang on exact edges."""
    strength = draw.uniform(0, 12, (len(clips), 1, 1, 1, 1)) * (draw.uniform(size=(len(clips), 1, 1, 1, 1)) < 0.5)
    noise = draw.standard_normal(clips.shape, dtype=np.float32)
    return (clips + strength * noise).clip(0, 255).astype(np.float32)


def _labels(indices: np.ndarray) -> torch.Tensor:
    return torch.tensor([sprites.label(int(i)) for i in indices])


if __name__ == "__main__":
    main()
