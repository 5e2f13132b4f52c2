"""How often `stg-eval compare` cries wolf, and how often it catches a planted fault: the embedded model on a CPU.

    python benchmarks/compare_power.py                  the tables, as Markdown
    python benchmarks/compare_power.py --trials 50 20   fewer comparisons of equals, fewer of each fault

Every comparison is the real one, at n = 256 clips a side. Clips are made once for each condition (pools of clips with
their scores and features) and trials draw their seeds from the pools: two disjoint sets of seeds for equals, the same
seeds with and without the fault for faults. Equals once more with the same seeds and other kernels: what moves then is
rounding. Work is kept in runs/compare_power; the same command resumes.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from torch.nn.attention import SDPBackend, sdpa_kernel

from stg_eval import executors
from stg_eval.executors.loading import load_metrics
from stg_eval.executors.worker import Setup
from stg_eval.gate import Comparison, Snapshot, compare, golden, snapshot
from stg_eval.gate.policy import MOVED
from stg_eval.gate.verdicts import FAILING
from stg_eval.generators.guidance import skips
from stg_eval.generators.tiny import card as tiny
from stg_eval.generators.tiny.generator import TinyGenerator
from stg_eval.metrics.decoding import score_clips
from stg_eval.metrics.linear import use_onednn
from stg_eval.metrics.paired.psnr import frame_psnr
from stg_eval.metrics.paired.ssim import frame_ssim
from stg_eval.pipeline import estimates, score
from stg_eval.pipeline.plan import Plan, make_plan
from stg_eval.pipeline.run import describe
from stg_eval.provenance import provenance
from stg_eval.storage.store import Store
from stg_eval.storage.video import read_video, write_video
from stg_eval.suites import load as load_suite
from stg_eval.suites import open_dataset
from stg_eval.types import Request

N = 256
GUIDANCE, STEPS = "cfg2", 8
EQUAL_SEEDS, FAULT_SEEDS = 56, 32
"""Seeds a class in the pools; a trial takes 22 of the 12 classes' each, and the first 256 clips of them."""
REAL_CLIPS = 256
CHUNK = 96
Step = Callable[..., Any]


@contextmanager
def stepped(change: Callable[[int, torch.Tensor, torch.Tensor], torch.Tensor]) -> Iterator[None]:
    """`change` (number of the step, latents before, latents after) -> latents after, in every scheduler step."""
    original: Step = FlowMatchEulerDiscreteScheduler.step

    def step(self: Any, velocity: torch.Tensor, t: Any, latents: torch.Tensor, return_dict: bool = True) -> Any:
        after = original(self, velocity, t, latents, return_dict=False)[0]
        return (change(int(self.step_index) - 1, latents, after),)

    FlowMatchEulerDiscreteScheduler.step = step
    try:
        yield
    finally:
        FlowMatchEulerDiscreteScheduler.step = original


@contextmanager
def skipped(generator: TinyGenerator) -> Iterator[None]:
    """Temporal attention of layer 4 stays skipped, as if a weak pass had never given it back."""
    attention: Any = generator.denoiser.get_submodule("temporal_blocks.4.attn")
    attention.forward = skips.identity(attention, {})
    try:
        yield
    finally:
        del attention.forward


@contextmanager
def other_kernels(generator: TinyGenerator) -> Iterator[None]:
    """Matrices by oneDNN and attention as plain products: nothing but the order of sums differs."""
    use_onednn(generator.denoiser, "cpu")
    with sdpa_kernel(SDPBackend.MATH):
        yield


def to_int8(number: int, before: torch.Tensor, after: torch.Tensor) -> torch.Tensor:
    """Latents in 255 levels between steps, scaled to each clip's largest value."""
    scale = after.abs().amax(dim=(1, 2, 3, 4), keepdim=True) / 127
    return (after / scale).round() * scale


def to_float8(number: int, before: torch.Tensor, after: torch.Tensor) -> torch.Tensor:
    """Latents in float8 (e4m3: three bits of mantissa) between steps."""
    return after.to(torch.float8_e4m3fn).to(after.dtype)


def double_step(number: int, before: torch.Tensor, after: torch.Tensor) -> torch.Tensor:
    """The fifth of eight steps goes twice as far as it should: a sigma read one place too far."""
    return 2 * after - before if number == STEPS // 2 else after


OTHER_KERNELS = "equal, same seeds, other kernels"
CHANGES: dict[str, Callable[[TinyGenerator], Any]] = {
    OTHER_KERNELS: other_kernels,
    "skipped restore of a layer": skipped,
    "one wrong scheduler step": lambda generator: stepped(double_step),
    "8-bit latents (float8)": lambda generator: stepped(to_float8),
    "8-bit latents (int8)": lambda generator: stepped(to_int8),
    "lower codec quality (H.264 crf 28)": lambda generator: nullcontext(),
}
CODEC = "h264-crf28"
GOOD = "good"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, nargs=2, default=(200, 50), metavar=("EQUALS", "EACH_FAULT"))
    parser.add_argument("--state", type=Path, default=Path("runs/compare_power"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    settings = {"num_inference_steps": STEPS}
    plan = make_plan(load_suite("demo"), "tiny", guidance=(GUIDANCE,), seeds=EQUAL_SEEDS, settings=settings)
    state = options.state / plan.card.weights.replace("@", "-")
    state.mkdir(parents=True, exist_ok=True)
    bench = Bench(plan, state)
    equals, faults = options.trials
    found: dict[str, list[dict[str, str]]] = {}
    for part in range(1, 11):  # a tenth of everything at a time: stopped early, it still says something
        for name in (GOOD, *CHANGES):
            found[name] = bench.trials(name, -(-(equals if name == GOOD else faults) * part // 10))
        print(bench.report(found), flush=True)


class Bench:
    """Pools of clips, and comparisons of what is drawn from them."""

    def __init__(self, plan: Plan, state: Path) -> None:
        self.plan, self.state = plan, state
        self.requests = plan.requests[GUIDANCE]
        self.loaded = load_metrics(plan.metrics, "cpu")
        self.store = state / "store"
        real = open_dataset(plan.suite).reference()
        assert real is not None
        wanted = {c.name: self.loaded[c.name] for c in plan.metrics if c.needs_reference}
        real = type(real)(real.name, real.digest, real.clips, REAL_CLIPS)
        setup = Setup(self.store, "cpu", "pyav")
        with Store(self.store) as store, executors.start("local", setup, self.loaded) as does:
            score.reference_features(real, wanted, store, does)
        features = estimates.features_record(plan.metrics, self.loaded, real)
        self.record = describe(plan, self.store, "cpu").model_copy(update={"features": features})
        self.pools: dict[str, dict[str, np.ndarray]] = {}

    def pool(self, condition: str) -> dict[str, np.ndarray]:
        """Scores [clips] by metric and features [clips, D] by extractor, of the first clips of the plan."""
        if condition not in self.pools:
            seeds = EQUAL_SEEDS if condition == GOOD else FAULT_SEEDS
            requests = self.requests[: 12 * seeds]
            parts = [self._chunk(condition, requests[i : i + CHUNK], i) for i in range(0, len(requests), CHUNK)]
            self.pools[condition] = {key: np.concatenate([p[key] for p in parts]) for key in parts[0]}
        return self.pools[condition]

    def _chunk(self, condition: str, requests: Sequence[Request], start: int) -> dict[str, np.ndarray]:
        file = self.state / f"{condition.replace(' ', '-')}-{start:04d}.npz"
        if not file.is_file():
            clips = self._frames(condition, requests, start)
            with tempfile.TemporaryDirectory() as folder:
                paths = [Path(folder) / f"{i}.mp4" for i in range(len(clips))]
                for path, frames, request in zip(paths, clips, requests, strict=True):
                    write_video(path, frames, request.fps, CODEC if "codec" in condition else request.encoding)
                arrays = self._score(paths, requests)
                clips = [read_video(path) for path in paths]
            np.save(file.with_suffix(".frames.npy"), np.stack(clips))
            np.savez(file.with_suffix(".partial.npz"), **arrays)  # type: ignore[arg-type]
            file.with_suffix(".partial.npz").rename(file)
            print(f"{condition}: {start + len(requests)} clips", flush=True)
        with np.load(file) as found:
            return dict(found)

    def _frames(self, condition: str, requests: Sequence[Request], start: int) -> list[np.ndarray]:
        if "codec" in condition:  # the good clips, written worse
            self._chunk(GOOD, requests, start)
            return list(np.load(self.state / f"{GOOD}-{start:04d}.frames.npy")[: len(requests)])
        generator = tiny.MODEL.load(device="cpu", dtype="float32", weights=self.plan.card.weights, settings={})
        assert isinstance(generator, TinyGenerator)
        clips: list[np.ndarray] = []
        with CHANGES.get(condition, lambda _: nullcontext())(generator):
            for i in range(0, len(requests), self.plan.batch_size):
                made = generator.generate(requests[i : i + self.plan.batch_size])
                clips += [clip for clip in made if isinstance(clip, np.ndarray)]
        assert len(clips) == len(requests)
        return clips

    def _score(self, paths: Sequence[Path], requests: Sequence[Request]) -> dict[str, np.ndarray]:
        extractors = {m.extractor.signature: m.extractor for m in self.loaded.values() if hasattr(m, "extractor")}
        scorers: Any = {name: m for name, m in self.loaded.items() if not hasattr(m, "extractor")}
        cells = [(path, request.case) for path, request in zip(paths, requests, strict=True)]
        results = list(score_clips(cells, scorers, extractors))
        assert not any(r.error or r.problems for r in results)
        arrays = {name: np.array([r.values[name] for r in results]) for name in scorers}
        return arrays | {name: np.stack([r.features[name] for r in results]) for name in extractors}

    def draw(self, condition: str, seeds: np.ndarray) -> Snapshot:
        """A run of 256 clips of a condition with those seeds."""
        pool, chosen = self.pool(condition), set(seeds.tolist())
        rows = [i for i, r in enumerate(self.requests[: 12 * EQUAL_SEEDS]) if r.seed in chosen][:N]
        cells = [self.requests[i] for i in rows]
        scores = pd.DataFrame(
            {
                "variant": GUIDANCE,
                "case": [r.case.id for r in cells],
                "prompt": [r.case.prompt for r in cells],
                "label": [r.case.label for r in cells],
                "seed": [r.seed for r in cells],
                "key": [r.key for r in cells],
            }
            | {name: pool[name][rows] for name in pool if pool[name].ndim == 1}
        )
        return Snapshot(
            path=Path(condition),
            run=self.record,
            columns=estimates.columns(self.plan.metrics, self.loaded, ()),
            scores=scores,
            features={name: snapshot._shorten(pool[name][rows]) for name in pool if pool[name].ndim == 2},
            store=self.store,  # of the real clips' features alone
        )

    def trials(self, condition: str, count: int) -> list[dict[str, str]]:
        """Metric -> word, for each trial."""
        file = self.state / f"{condition.replace(' ', '-')}-trials.json"
        done: list[dict[str, str]] = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else []
        for trial in range(len(done), count):
            done.append({v.metric: v.word for v in self._trial(condition, trial).verdicts if v.gated})
            file.write_text(json.dumps(done), encoding="utf-8")
        return done[:count]

    def _trial(self, condition: str, trial: int) -> Comparison:
        rng = np.random.default_rng([trial, len(condition)])
        if condition == GOOD:
            seeds = rng.permutation(EQUAL_SEEDS)[:44]
            sides = self.draw(GOOD, seeds[:22]), self.draw(GOOD, seeds[22:])
        else:
            seeds = rng.permutation(FAULT_SEEDS)[:22]
            sides = self.draw(GOOD, seeds), self.draw(condition, seeds)
        return compare(replace(sides[0], store=None), sides[1], allow=("seeds",))

    def golden(self, condition: str) -> tuple[int, int]:
        """How many of the fault's first 48 clips the golden frames refuse, at the default gates, and of how many."""
        self.pool(condition)
        files = [self.state / f"{name.replace(' ', '-')}-0000.frames.npy" for name in (condition, GOOD)]
        clips = list(zip(*(np.load(file)[:48] for file in files), strict=True))
        found = [golden.judge_frames(frame_psnr(a, b), frame_ssim(a, b), golden.GATES) for a, b in clips]
        return sum(not passed for _, passed in found), len(clips)

    def report(self, trials: dict[str, list[dict[str, str]]]) -> str:
        """Markdown."""
        names = [name for name in (*(c.name for c in self.plan.metrics), MOVED) if name in trials[OTHER_KERNELS][0]]
        lines = [
            f"Embedded model ({self.plan.card.weights}), {GUIDANCE}, {STEPS} steps, n = {N}, "
            f"default margins and level; {dict(provenance('cpu').packages)}",
            "",
            "| Run under test | Comparisons | Exit code 1 | " + " | ".join(names) + " | Golden clips refused |",
            "| --- " * (len(names) + 4) + "|",
        ]
        for condition, found in trials.items():
            alarms = sum(not FAILING.isdisjoint(words.values()) for words in found)
            worse = Counter(name for words in found for name, word in words.items() if word in FAILING)
            cells = [f"{100 * worse[name] / len(found):.3g} %" if name in found[0] else "-" for name in names]
            title = "equal, other seeds" if condition == GOOD else condition
            share = f"{100 * alarms / len(found):.1f} %"
            refused = "-" if condition == GOOD else "{} of {}".format(*self.golden(condition))
            lines.append(f"| {title} | {len(found)} | {share} | " + " | ".join([*cells, refused]) + " |")
        return "\n".join(lines)


if __name__ == "__main__":
    main()
