"""A library changes its defaults, and the gate says so: makes every number of docs/case-study.md, in two minutes on a
laptop: python benchmarks/case_ltx2.py [FOLDER].

In August 2026 diffusers' LTX-2 pipeline got new defaults: whoever asked for no guidance by ``guidance_scale=1.0``, as
distilled checkpoints want it, gets classifier-free guidance through the sound, a skipped layer and modality guidance
since. Here a caller who writes just that makes the same clips with the defaults of before, with those of the installed
diffusers, and with every one of them written out; at random weights, so the clips show nothing and their differences
everything.
"""

from __future__ import annotations

import inspect
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from diffusers import LTX2Pipeline

import stg_eval
from stg_eval import generators
from stg_eval.generators.diffusers_video import PipelineGenerator
from stg_eval.generators.ltx2 import LTX2
from stg_eval.types import Guidance, JSONValue, Request, StgEvalError

PROMPTS = 8
BEFORE: dict[str, Any] = {
    "audio_guidance_scale": None,
    "stg_scale": 0.0,
    "audio_stg_scale": None,
    "modality_scale": 1.0,
    "audio_modality_scale": None,
    "guidance_rescale": 0.0,
    "audio_guidance_rescale": None,
    "spatio_temporal_guidance_blocks": None,
}
"""The defaults before diffusers #14447, as #14649 and #14650 tell them; None follows the video's."""
WRITTEN_OUT: dict[str, Any] = {
    "audio_guidance_scale": 1.0,
    "stg_scale": 0.0,
    "audio_stg_scale": 0.0,
    "modality_scale": 1.0,
    "audio_modality_scale": 1.0,
}
"""What a caller writes who trusts no default."""

caller_writes: dict[str, Any] = {}
rows_of_calls: Counter[int] = Counter()


class Caller(PipelineGenerator):
    """Calls the pipeline as its user does: nothing of stg-eval's guidance is in it."""

    def generate(self, requests: Sequence[Request]) -> list[np.ndarray | StgEvalError]:
        """See `Generator`."""
        import torch

        return [self._run(request, torch.Generator("cpu").manual_seed(request.noise_seed)) for request in requests]


class CallersModel(LTX2):
    """LTX-2, called by somebody else."""

    def load(self, *, device: str, dtype: str, weights: str, settings: Mapping[str, JSONValue]) -> Any:
        """See `Model.load`."""
        pipeline = super().load(device=device, dtype=dtype, weights=weights, settings=settings).pipeline
        pipeline.transformer.register_forward_pre_hook(
            lambda _, args, kwargs: rows_of_calls.update([len(kwargs["hidden_states"])]), with_kwargs=True
        )
        return Caller(pipeline, self, device)


def arguments(request: Request) -> dict[str, Any]:
    """What the caller writes: no guidance."""
    return {"prompt": request.case.prompt, "frame_rate": request.fps, "guidance_scale": 1.0, **caller_writes}


LTX2_MODEL: Any = generators.get("ltx2")
MODEL = CallersModel(
    **{name: getattr(LTX2_MODEL, name) for name in LTX2_MODEL.__dataclass_fields__}
    | {
        "arguments": arguments,
        "card": replace(LTX2_MODEL.card, name="ltx2-caller", title="LTX-2 as its caller calls it"),
    }
)


@contextmanager
def defaults_of_before() -> Iterator[None]:
    """Within it, the pipeline's call has the defaults that it had."""
    call: Any = inspect.unwrap(LTX2Pipeline.__call__)
    kept = call.__defaults__
    names = [p.name for p in inspect.signature(call).parameters.values() if p.default is not p.empty]
    call.__defaults__ = tuple(BEFORE.get(name, value) for name, value in zip(names, kept, strict=True))
    try:
        yield
    finally:
        call.__defaults__ = kept


def make(folder: Path, name: str, suite: Path) -> Path:
    """Make and score the clips of one state of the library, in a store of their own; says what it cost."""
    rows_of_calls.clear()
    began = time.perf_counter()
    stg_eval.run(
        suite=suite,
        model="ltx2-caller",
        guidance=Guidance.parse("none"),
        settings={"weights": "random-weights(seed=0)", "dtype": "float32", "height": 64, "width": 64, "num_frames": 9}
        | {"num_inference_steps": 8},
        metrics="temporal_flickering",
        store=folder / f"store-{name}",
        output=folder / name,
        device="cpu",
    )
    steps = 8 * PROMPTS
    calls = sum(rows_of_calls.values())
    rows = sum(rows * count for rows, count in rows_of_calls.items())
    print(
        f"{name}: {calls / steps:.0f} calls of the transformer a step, {rows / steps:.0f} clips in them, "
        f"{time.perf_counter() - began:.0f} s"
    )
    return folder / name


def judge(baseline: Path, run: Path) -> None:
    """Print the gate's verdicts."""
    outcome = stg_eval.compare(baseline=baseline, run=run)
    print(f"stg-eval compare {baseline.name} {run.name}: exit code {outcome.exit_code}\n{outcome.text()}")


def main(folder: Path) -> None:
    generators.MODELS["ltx2-caller"] = __name__
    folder.mkdir(parents=True, exist_ok=True)
    suite = folder / "prompts.txt"
    suite.write_text("".join(f"a red ball rolls past {n} stones\n" for n in range(PROMPTS)))
    signature = inspect.signature(LTX2Pipeline.__call__).parameters
    print("defaults:", ", ".join(f"{name} {old} -> {signature[name].default}" for name, old in BEFORE.items()))
    with defaults_of_before():
        before = make(folder, "before", suite)
        again = make(folder, "before-again", suite)
    after = make(folder, "after", suite)
    caller_writes.update(WRITTEN_OUT)
    mended = make(folder, "written-out", suite)
    for run in (again, after, mended):
        judge(before, run)
    print(stg_eval.report(runs=[before, again, after, mended], output=folder / "page"))


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(tempfile.mkdtemp()))
