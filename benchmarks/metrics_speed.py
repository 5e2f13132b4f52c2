"""What scoring costs: the official vbench loops and ours on the same clips, in one process, per dimension and together.

    python benchmarks/metrics_speed.py                      16 frames of 256x256 on all cores
    python benchmarks/metrics_speed.py --device cuda --clips 8
    python benchmarks/metrics_speed.py --only decode,dynamic_degree --repeats 3

The networks are the official ones at full size with random weights, so the values mean nothing and the time is real.
How long dynamic degree takes depends on the verdict; its last layer is scaled so that clips move, or stand still. Both
engines run in turns, on warm files; the shorter of the repeats counts. CPU seconds are those of all threads: on a busy
machine they say more than the clock. Peak memory is the growth of the resident set (on a GPU: of the allocator) while
the engine runs, networks excluded.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import sys
import tempfile
import time
import warnings
from argparse import Namespace
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from stg_eval import weights
from stg_eval.metrics import registry
from stg_eval.metrics.decoding import score_clips
from stg_eval.metrics.vbench import import_vbench, official
from stg_eval.storage import video

DIMENSIONS = ("temporal_flickering", "motion_smoothness", "dynamic_degree", "imaging_quality", "aesthetic_quality")


@dataclass
class Row:
    """One line of the table; pairs are (official, ours)."""

    name: str
    seconds: tuple[float, float]
    cpu_seconds: tuple[float, float]
    peaks: tuple[int, int]
    clips: int

    def __str__(self) -> str:
        (theirs, ours), (their_cpu, our_cpu) = self.seconds, self.cpu_seconds
        return (
            f"| {self.name} | {theirs:.3f} | {ours:.3f} | {theirs / ours:.2f}x | {their_cpu / our_cpu:.2f}x "
            f"| {self.clips / ours:.2f} | {self.peaks[0] / 2**20:.0f} | {self.peaks[1] / 2**20:.0f} |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--clips", type=int, default=1)
    parser.add_argument("--frames", type=int, default=16)
    parser.add_argument("--height", type=int, default=256)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--only", default="", help="comma-separated: decode, a dimension, all")
    settings = parser.parse_args()
    torch.set_num_threads(settings.threads)
    warnings.filterwarnings("ignore")
    wanted = set(settings.only.split(",")) if settings.only else {"decode", *DIMENSIONS, "all"}
    with tempfile.TemporaryDirectory() as folder:
        paths = make_clips(Path(folder), settings)
        print(
            f"{settings.clips} x {settings.frames} frames of {settings.width}x{settings.height}, {settings.device}, "
            f"{settings.threads} threads, torch {torch.__version__}, random weights\n"
        )
        print("| | official s | ours s | ratio | ratio of CPU s | our clips/s | official peak MiB | our peak MiB |")
        print("|---|---|---|---|---|---|---|---|")
        if "decode" in wanted:
            official_decode(paths[:1])  # imports what it needs
            often = Namespace(**{**vars(settings), "repeats": 10 * settings.repeats})  # milliseconds: more repeats
            measure("decode for all five", lambda: official_decode(paths), lambda: our_decode(paths), often)
        for moving in (True, False):
            names = [n for n in DIMENSIONS if n in wanted | ({*DIMENSIONS} if "all" in wanted else set())]
            if not moving:
                names = [n for n in names if n == "dynamic_degree"]
            if names:
                measure_dimensions(names, wanted, moving, paths, Path(folder), settings)


def measure_dimensions(
    names: Sequence[str], wanted: set[str], moving: bool, paths: Sequence[Path], folder: Path, settings: Namespace
) -> None:
    """Each dimension alone, then all in one pass."""
    networks = random_weights(folder, names, moving)
    weights.require = lambda row: networks[row.name]  # type: ignore[assignment]
    theirs = {name: official.load(name, settings.device) for name in names}
    ours: dict[str, Any] = {name: registry.load(registry.card(name), settings.device) for name in names}

    def run_official(chosen: Sequence[str]) -> dict[str, list[float]]:
        found: dict[str, list[float]] = {name: [] for name in chosen}
        for name in chosen:
            for path in paths:
                theirs[name].begin(video.VideoInfo(path, None, 0, 0, 0.0, ""), None)
                found[name].append(theirs[name].end())
        return found

    def run_ours(chosen: Sequence[str]) -> dict[str, list[float]]:
        outcomes = list(score_clips([(path, None) for path in paths], {name: ours[name] for name in chosen}, {}))
        assert not any(outcome.problems or outcome.error for outcome in outcomes)
        return {name: [outcome.values[name] for outcome in outcomes] for name in chosen}

    label = "moving" if moving else "still"
    for name in names:
        if name in wanted:
            title = f"{name}, {label} clips" if name == "dynamic_degree" else name
            expected, got = measure(title, lambda n=name: run_official([n]), lambda n=name: run_ours([n]), settings)
            check(name, expected[name], got[name])
    if moving and "all" in wanted:
        measure("all five, moving clips", lambda: run_official(names), lambda: run_ours(names), settings)


def check(name: str, expected: Sequence[float], got: Sequence[float]) -> None:
    difference = max(abs(a - b) for a, b in zip(expected, got, strict=True))
    print(f"{name}: largest difference {difference:.1e}, values {got}", file=sys.stderr)
    assert difference < 1e-5


def measure(title: str, theirs: Callable[[], Any], ours: Callable[[], Any], settings: Namespace) -> tuple[Any, Any]:
    """Run both in turns and print the row. Returns what they returned."""
    seconds: list[list[float]] = [[], []]
    cpu_seconds: list[list[float]] = [[], []]
    peaks, answers = [0, 0], [None, None]
    for repeat in range(settings.repeats):
        for side, function in enumerate((theirs, ours)):
            print(f"{title}: {'ours' if side else 'official'}, {repeat + 1} of {settings.repeats}", file=sys.stderr)
            reset_peak(settings.device)
            before = memory(settings.device, "now")
            start, cpu_start = time.perf_counter(), time.process_time()
            answers[side] = function()
            if settings.device != "cpu":
                torch.cuda.synchronize()
            seconds[side].append(time.perf_counter() - start)
            cpu_seconds[side].append(time.process_time() - cpu_start)
            peaks[side] = max(peaks[side], memory(settings.device, "peak") - before)
    shortest, shortest_cpu = (min(seconds[0]), min(seconds[1])), (min(cpu_seconds[0]), min(cpu_seconds[1]))
    print(Row(title, shortest, shortest_cpu, (peaks[0], peaks[1]), settings.clips), flush=True)
    return answers[0], answers[1]


def reset_peak(device: str) -> None:
    if device != "cpu":
        torch.cuda.reset_peak_memory_stats()
    elif sys.platform == "linux":
        Path("/proc/self/clear_refs").write_text("5")


def memory(device: str, which: str) -> int:
    """Bytes in use now or at the peak since `reset_peak`; 0 where the system does not say."""
    if device != "cpu":
        return torch.cuda.max_memory_allocated() if which == "peak" else torch.cuda.memory_allocated()
    if sys.platform != "linux":
        return 0
    key = "VmHWM:" if which == "peak" else "VmRSS:"
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(key))


def official_decode(paths: Sequence[Path]) -> None:
    """What the five official dimensions do to get their frames."""
    frames = import_vbench("vbench.temporal_flickering").get_frames
    smoothness = import_vbench("vbench.motion_smoothness").FrameProcess()
    dynamics = import_vbench("vbench.dynamic_degree").DynamicDegree
    load_video = import_vbench("vbench.utils").load_video
    for path in map(str, paths):
        frames(path)
        smoothness.get_frames(path)
        dynamics.get_frames(SimpleNamespace(device="cpu", extract_frame=lambda f, step: f[::step]), path)
        load_video(path)
        load_video(path)


def our_decode(paths: Sequence[Path]) -> None:
    for path in paths:
        for _ in video.read_frames(path):
            pass


def make_clips(folder: Path, settings: Namespace) -> list[Path]:
    """Textured planes that slide, as H.264."""
    paths = []
    for seed in range(settings.clips):
        rng, travel = np.random.default_rng(seed), 4 * settings.frames
        shape = ((settings.height + travel) // 8 + 1, (settings.width + travel) // 8 + 1, 3)
        plane = np.kron(rng.uniform(0, 255, shape), np.ones((8, 8, 1))).astype(np.uint8)
        starts = range(0, travel, 4)
        frames = np.stack([plane[s : s + settings.height, s : s + settings.width] for s in starts])
        paths.append(folder / f"{seed}.mp4")
        video.write_video(paths[-1], frames, 8, "h264-crf17")
    return paths


def random_weights(folder: Path, dimensions: Sequence[str], moving: bool) -> dict[str, weights.Checkpoint]:
    """Full-size networks with random weights in the layout of the published files."""
    torch.manual_seed(0)
    needed = {row.name for dimension in dimensions for row in registry.card(dimension).weights}
    return {name: random_network(folder, name, moving) for name in needed}


def random_network(folder: Path, name: str, moving: bool) -> weights.Checkpoint:
    path = folder / f"{name}-{moving}"
    if not path.exists():
        if name == "clip-vit-l-14":
            from safetensors.torch import save_file

            save_file(clip_vit_l_14().state_dict(), path)
        else:
            torch.save(SMALL_NETWORKS[name](moving), path)
    return weights.Checkpoint(path, hashlib.sha256(name.encode()).hexdigest())


def clip_vit_l_14() -> Any:
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    return CLIPVisionModelWithProjection(
        CLIPVisionConfig(
            hidden_size=1024,
            intermediate_size=4096,
            projection_dim=768,
            num_hidden_layers=24,
            num_attention_heads=16,
            patch_size=14,
            image_size=224,
        )
    )


def raft(moving: bool) -> dict[str, Any]:
    module = import_vbench("vbench.third_party.RAFT.core.raft")
    state = module.RAFT(Namespace(small=False, mixed_precision=False, alternate_corr=False)).state_dict()
    for name in ("weight", "bias"):
        state[f"update_block.flow_head.conv2.{name}"] *= 1.0 if moving else 0.01
    return {f"module.{key}": value for key, value in state.items()}


SMALL_NETWORKS: dict[str, Callable[[bool], dict[str, Any]]] = {
    "amt-s": lambda _: {"state_dict": import_vbench("vbench.third_party.amt.networks.AMT-S").Model().state_dict()},
    "raft-things": raft,
    "musiq-spaq": lambda _: importlib.import_module("pyiqa.archs.musiq_arch").MUSIQ(pretrained=False).state_dict(),
    "laion-aesthetic": lambda _: torch.nn.Linear(768, 1).state_dict(),
}


if __name__ == "__main__":
    main()
