"""What an evaluation during training costs, and whether it keeps to its seconds: python -m benchmarks.callback_cost

The embedded model trains on noise; every two steps it is evaluated, with several budgets one after the other. A line
for each budget: pairs, mean and most seconds, how many kept to it; then what the guard and the digest cost.
"""

from __future__ import annotations

import sys
import tempfile
import time
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch.nn import functional as F

from stg_eval.callback import Evaluate
from stg_eval.callback.untouched import digest, untouched
from stg_eval.generators.tiny.model import TinyDiT
from stg_eval.generators.tiny.weights import WEIGHTS

BUDGETS = (2.0, 5.0, 10.0)
EVALUATIONS = 4


def main() -> None:
    """Print the table."""
    torch.set_num_threads(1)
    network = TinyDiT()
    network.load_state_dict({name: value.float() for name, value in load_file(WEIGHTS).items()})
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-5)
    print("| budget, s | pairs | seconds | most | within |\n|---|---|---|---|---|")
    for seconds in BUDGETS:
        with tempfile.TemporaryDirectory() as folder, redirect_stderr(StringIO()) as said:
            evaluate = Evaluate(
                network, model="tiny", suite="demo", every=2, seconds=seconds, output=Path(folder) / "training",
                guidance=["cfg"], metrics=["accuracy_sprites", "temporal_flickering"],
            )  # fmt: skip
            for step in range(1, 2 * EVALUATIONS + 1):
                latents = torch.randn(2, 3, 8, 16, 16)
                F.mse_loss(network(latents, torch.rand(2), torch.randint(0, 13, (2,))), latents).backward()
                optimizer.step()
                optimizer.zero_grad()
                evaluate(step)
        done = evaluate.history
        took = [one.seconds for one in done]
        pairs = f"{min(one.pairs for one in done)}-{max(one.pairs for one in done)}"
        within = sum(one <= seconds for one in took)
        print(f"| {seconds:g} | {pairs} | {np.mean(took):.2f} | {max(took):.2f} | {within} of {len(took)} |")
        print(said.getvalue().splitlines()[0], file=sys.stderr)
    began = time.perf_counter()
    for _ in range(20):
        with untouched(network):
            pass
    guarded = time.perf_counter()
    for _ in range(20):
        digest(network)
    ended = time.perf_counter()
    print(f"guard {(guarded - began) * 50:.1f} ms, digest {(ended - guarded) * 50:.1f} ms")


if __name__ == "__main__":
    main()
