"""Train the embedded model: ``python -m stg_eval.generators.tiny.train --state training/tiny``.

Endless fresh sprites; nothing is seen twice. Everything random in a step is a function of the step's number, and the
checkpoint holds both optimisers, so a run that was stopped goes on exactly as if it had not been. The learning rate is
constant, then falls linearly to zero from `decay_from` on (the last step may be moved while it is still constant).

Muon (Jordan et al., 2024) trains the matrices inside the blocks, AdamW all else. In the state folder: ``state.pt`` (to
resume), ``weights.safetensors`` (the averaged weights in half precision, what the package ships), ``log.csv``, and
``weights-STEP.safetensors`` for each step of `--keep`.
"""

from __future__ import annotations

import argparse
import csv
import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

from stg_eval.datasets import sprites
from stg_eval.generators.tiny.model import TinyConfig, TinyDiT


@dataclass(frozen=True)
class Recipe:
    """Hyperparameters of the run."""

    steps: int
    decay_from: int
    batch_size: int = 32
    muon_lr: float = 4e-3
    adamw_lr: float = 2e-3
    warmup: int = 100
    label_drop: float = 0.12
    ema_decay: float = 0.999
    seed: int = 0
    network: TinyConfig = field(default_factory=TinyConfig)

    def learning_rate(self, step: int) -> float:
        """Return factor on both learning rates at `step`: warm-up, constant, linear to zero."""
        left = (self.steps - step) / (self.steps - self.decay_from)
        return max(0.0, min(1.0, (step + 1) / self.warmup, left))


@dataclass(frozen=True)
class Batch:
    """Clean clips [B, 3, T, H, W] in [-1, 1], their noise, noise levels [B] and labels [B] (12: dropped)."""

    clean: Tensor
    noise: Tensor
    timestep: Tensor
    labels: Tensor


def batch_at(step: int, recipe: Recipe) -> Batch:
    """Return the batch of a step, a function of its number alone.

    Noise levels: 80 % logit-normal(0.2, 1), 20 % uniform, so that both ends of the path are seen.
    """
    draw = np.random.default_rng((recipe.seed, step))
    n = recipe.batch_size
    indices = sprites.TRAIN_FIRST + step * n + np.arange(n)
    clean = torch.from_numpy(sprites.clips(indices)).permute(0, 4, 1, 2, 3).float() / 127.5 - 1
    normal, uniform = 1 / (1 + np.exp(-draw.normal(0.2, 1.0, n))), draw.uniform(size=n)
    timestep = np.where(draw.uniform(size=n) < 0.8, normal, uniform)
    classes = [sprites.label(int(i)) for i in indices]
    labels = np.where(draw.uniform(size=n) < recipe.label_drop, len(sprites.CLASS_NAMES), classes)
    return Batch(
        clean.contiguous(),
        torch.from_numpy(draw.standard_normal(clean.shape, dtype=np.float32)),
        torch.from_numpy(timestep.astype(np.float32)),
        torch.from_numpy(labels.astype(np.int64)),
    )


def loss_of(model: Any, batch: Batch) -> Tensor:
    """Return mean squared error of the velocity."""
    t = batch.timestep[:, None, None, None, None]
    noisy = (1 - t) * batch.clean + t * batch.noise
    with torch.autocast("cpu", torch.bfloat16):
        predicted = model(noisy, batch.timestep, batch.labels)
    return F.mse_loss(predicted.float(), batch.noise - batch.clean)


class Training:
    """The model, its running average and both optimisers: what a checkpoint holds."""

    def __init__(self, recipe: Recipe) -> None:
        torch.manual_seed(recipe.seed)
        self.recipe, self.step, self.seconds = recipe, 0, 0.0
        self.model = TinyDiT(recipe.network)
        self.ema = {name: value.clone() for name, value in self.model.state_dict().items()}
        matrices = [p for name, p in self.model.named_parameters() if _is_block_matrix(name)]
        others = [p for name, p in self.model.named_parameters() if not _is_block_matrix(name)]
        self.muon = torch.optim.Muon(matrices, lr=recipe.muon_lr, weight_decay=0.01)
        self.adamw = torch.optim.AdamW(others, lr=recipe.adamw_lr, betas=(0.9, 0.98), weight_decay=0.0)

    def advance(self, forward: Any) -> float:
        """One step; returns the loss before it."""
        started = time.perf_counter()
        factor = self.recipe.learning_rate(self.step)
        loss = loss_of(forward, batch_at(self.step, self.recipe))
        loss.backward()
        for optimiser, lr in ((self.muon, self.recipe.muon_lr), (self.adamw, self.recipe.adamw_lr)):
            optimiser.param_groups[0]["lr"] = lr * factor
            optimiser.step()
            optimiser.zero_grad()
        self.step += 1
        decay = min(self.recipe.ema_decay, self.step / (self.step + 10))
        values = self.model.state_dict()
        torch._foreach_lerp_(list(self.ema.values()), [values[name] for name in self.ema], 1 - decay)
        self.seconds += time.perf_counter() - started
        return loss.item()

    def save(self, folder: Path) -> None:
        """Write the checkpoint and the averaged weights, each atomically."""
        state = {name: getattr(self, name).state_dict() for name in ("model", "muon", "adamw")}
        state |= {"ema": self.ema, "step": self.step, "seconds": self.seconds}
        torch.save(state, folder / "state.pt.part")
        os.replace(folder / "state.pt.part", folder / "state.pt")
        self.save_weights(folder / "weights.safetensors")

    def save_weights(self, path: Path) -> None:
        """Write the averaged weights in half precision, atomically."""
        half = {name: value.half() for name, value in self.ema.items()}
        part = path.with_suffix(".part")
        save_file(half, part, metadata={"step": str(self.step)})
        os.replace(part, path)

    def restore(self, folder: Path) -> None:
        """Go on from a checkpoint."""
        state = torch.load(folder / "state.pt")
        for name in ("model", "muon", "adamw"):
            getattr(self, name).load_state_dict(state[name])
        self.ema, self.step, self.seconds = state["ema"], state["step"], state["seconds"]


def _is_block_matrix(name: str) -> bool:
    return "_blocks." in name and name.endswith(("qkv.weight", "proj.weight", "mlp.0.weight", "mlp.2.weight"))


def main() -> None:
    """Train or go on training."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--state", type=Path, required=True, help="folder of checkpoint, weights and log")
    parser.add_argument("--steps", type=int, default=18_000)
    parser.add_argument("--decay-from", type=int, default=9_000, help="step from which the learning rate falls")
    parser.add_argument("--hidden-size", type=int, default=TinyConfig.hidden_size, help="width of the network")
    parser.add_argument("--num-heads", type=int, default=TinyConfig.num_heads)
    parser.add_argument("--keep", type=int, nargs="*", default=[], help="steps whose averaged weights are kept too")
    parser.add_argument("--save-every", type=float, default=120.0, help="seconds between checkpoints")
    parser.add_argument("--compile", action="store_true", help="torch.compile; needs a C++ compiler, halves the time")
    args = parser.parse_args()
    torch.set_num_threads(1)
    args.state.mkdir(parents=True, exist_ok=True)
    network = TinyConfig(hidden_size=args.hidden_size, num_heads=args.num_heads)
    run = Training(Recipe(steps=args.steps, decay_from=args.decay_from, network=network))
    if (args.state / "state.pt").exists():
        run.restore(args.state)
    forward = torch.compile(run.model) if args.compile else run.model
    saved, losses, rows = time.monotonic(), [], []
    while run.step < args.steps:
        losses.append(run.advance(forward))
        if run.step % 100 == 0:
            rate = run.recipe.learning_rate(run.step - 1)
            rows.append([run.step, f"{run.seconds:.0f}", f"{np.mean(losses):.4f}", f"{rate:.4f}"])
            losses.clear()
        if run.step in args.keep:
            run.save_weights(args.state / f"weights-{run.step}.safetensors")
        if time.monotonic() - saved > args.save_every or run.step == args.steps:
            run.save(args.state)
            _append(args.state / "log.csv", rows)
            rows.clear()
            saved = time.monotonic()


def _append(path: Path, rows: list[list[Any]]) -> None:
    header = [] if path.exists() else [["step", "seconds", "loss", "learning_rate"]]
    with path.open("a", newline="") as file:
        csv.writer(file).writerows(header + rows)


if __name__ == "__main__":
    main()
