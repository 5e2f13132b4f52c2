"""What VBench's sixteen dimensions cost: the official functions and ours on the same clip, one by one and together.

    python benchmarks/vbench_speed.py                               16 frames of 256x256
    python benchmarks/vbench_speed.py --frames 49 --height 480 --width 848 --repeats 1
    python benchmarks/vbench_speed.py --only subject_consistency,human_action

As metrics_speed.py, which has the five of the paper and says how time and memory are measured: full-size networks with
random weights, in turns. Of five dimensions the official networks do not import beside today's packages (GRiT needs
detectron2, Tag2Text an old transformers): ours is timed alone. DINO is ours on both sides, since the official one is
downloaded at run time. Needs einops and openai-clip (the extra dev).
"""

from __future__ import annotations

import importlib
import shutil
import sys
import tempfile
import time
import types
import warnings
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import metrics_speed as base
import torch
from vbench_networks import Files, official_viclip

from stg_eval import weights
from stg_eval.metrics import registry
from stg_eval.metrics.decoding import score_clips
from stg_eval.metrics.vbench import import_vbench
from stg_eval.types import Case

PROMPTS = {
    "subject_consistency": "",
    "background_consistency": "",
    "appearance_style": "The bund Shanghai, oil painting",
    "overall_consistency": "The bund Shanghai, oil painting",
    "temporal_style": "The bund Shanghai, oil painting",
    "human_action": "A person is riding a bike",
    "scene": "alley",
    "object_class": "a person",
    "multiple_objects": "a bird and a cat",
    "color": "a red bicycle",
    "spatial_relationship": "a bicycle on the left of a car, front view",
}
"""The dimensions that metrics_speed.py does not have, each with one of its prompts."""


def main() -> None:
    parser = ArgumentParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=16)
    parser.add_argument("--height", type=int, default=256)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--only", default="", help="comma-separated dimensions, or together: all in one pass")
    parser.add_argument("--networks", type=Path, help="a folder that keeps the drawn networks (6 GB) for the next run")
    parser.add_argument("--ours", action="store_true", help="time ours alone, as for its memory on large clips")
    settings = parser.parse_args()
    settings.device, settings.clips = "cpu", 1
    torch.set_num_threads(settings.threads)
    warnings.filterwarnings("ignore")
    # openai-clip and ViCLIP take `packaging` from pkg_resources, which setuptools no longer has.
    sys.modules.setdefault("pkg_resources", types.SimpleNamespace(packaging=importlib.import_module("packaging")))
    sys.modules.setdefault("numpy.lib.function_base", types.SimpleNamespace(disp=print))
    importlib.import_module("packaging.version")
    wanted = settings.only.split(",") if settings.only else [*base.DIMENSIONS, *PROMPTS, "together"]
    with tempfile.TemporaryDirectory() as name:
        folder = settings.networks or Path(name)
        (path,) = base.make_clips(Path(name), settings)
        print(f"{settings.frames} frames of {settings.width}x{settings.height}, {settings.threads} threads\n")
        print("| | official s | ours s | ratio | ratio of CPU s | our clips/s | official peak MiB | our peak MiB |")
        print("|---|---|---|---|---|---|---|---|")
        known = [name for name in base.DIMENSIONS if name in wanted]
        if known and not settings.ours:
            base.measure_dimensions(known, set(known), True, [path], folder, settings)
        networks = Networks(folder)
        weights.require = networks.checkpoint  # type: ignore[assignment]
        for name in (*(known if settings.ours else ()), *(name for name in PROMPTS if name in wanted)):
            if name in OFFICIAL and not settings.ours:
                prepared = OFFICIAL[name](path, networks, Case(id="x", prompt=PROMPTS[name]))
                expected, got = base.measure(name, prepared, ours([name], path), settings)
                base.check(name, [float(expected)], [got])
            else:
                alone(name, ours([name], path))
        if "together" in wanted:
            alone("all sixteen in one pass", ours([*base.DIMENSIONS, *PROMPTS], path))


class Networks(Files):
    """Those of the five dimensions too."""

    def checkpoint(self, row: weights.Weight) -> weights.Checkpoint:
        if row.name in (*base.SMALL_NETWORKS, "clip-vit-l-14"):
            return base.random_network(self.folder, row.name, True)
        return super().checkpoint(row)


class Asked:
    """A scorer that is given the prompt of its dimension, whatever the others look at."""

    def __init__(self, name: str) -> None:
        self.scorer: Any = registry.load(registry.card(name), "cpu")
        self.case = Case(id="x", prompt=PROMPTS.get(name, ""))
        self.signature, self.update, self.end = self.scorer.signature, self.scorer.update, self.scorer.end

    def begin(self, video: Any, case: Case | None) -> None:
        self.scorer.begin(video, self.case)


def ours(names: Sequence[str], path: Path) -> Callable[[], float]:
    """One pass over the clip by the scorers of those dimensions; gives the last one's score."""
    scorers: dict[str, Any] = {name: Asked(name) for name in names}

    def run() -> float:
        (outcome,) = score_clips([(path, None)], scorers, {})
        assert not outcome.error, outcome
        assert not outcome.problems or set(outcome.problems) == {"color"}, outcome  # nothing red was found
        return outcome.values.get(names[-1], float("nan"))

    return run


def alone(name: str, run: Callable[[], float]) -> None:
    """Print the row of what has nothing to be compared with."""
    base.reset_peak("cpu")
    before, start, cpu = base.memory("cpu", "now"), time.perf_counter(), time.process_time()
    run()
    seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu
    peak = (base.memory("cpu", "peak") - before) / 2**20
    print(f"| {name} | - | {seconds:.3f} | - | {cpu_seconds:.1f} s | {1 / seconds:.2f} | - | {peak:.0f} |", flush=True)


def official_frames(name: str) -> Callable[..., Callable[[], float]]:
    """Subject and background consistency: the official loop over a network."""

    def prepare(path: Path, files: Networks, case: Case) -> Callable[[], float]:
        module = import_vbench(f"vbench.{name}")
        if name == "subject_consistency":
            row = registry.card(name).weights[0]
            network = importlib.import_module("stg_eval.metrics.vbench.dino").load_dino(files.checkpoint(row), "cpu")
            return lambda: float(module.subject_consistency(network, [str(path)], "cpu", False)[0])
        network, _ = module.clip.load(str(files.checkpoint(registry.card(name).weights[0]).path), device="cpu")

        def run() -> float:
            with torch.no_grad():
                return float(module.background_consistency(network, None, [str(path)], "cpu", False)[0])

        return run

    return prepare


def official_style(path: Path, files: Networks, case: Case) -> Callable[[], float]:
    module = import_vbench("vbench.appearance_style")
    row = registry.card("appearance_style").weights[0]
    network, _ = module.clip.load(str(files.checkpoint(row).path), device="cpu")
    info = {"prompt": case.prompt, "video_list": [str(path)], "auxiliary_info": {"appearance_style": "oil painting"}}
    return lambda: float(module.appearance_style(network, [info], "cpu")[0])


def official_prompt(name: str) -> Callable[..., Callable[[], float]]:
    def prepare(path: Path, files: Networks, case: Case) -> Callable[[], float]:
        network = official_viclip(files.folder, files.checkpoint(registry.card(name).weights[0]).path)
        module = import_vbench(f"vbench.{name}")
        info = {"prompt": case.prompt, "video_list": [str(path)]}
        return lambda: float(getattr(module, name)(network, [info], None, "cpu")[0])

    return prepare


def official_action(path: Path, files: Networks, case: Case) -> Callable[[], float]:
    module = import_vbench("vbench.human_action")
    named = files.folder / f"{case.prompt}-0.mp4"
    shutil.copy(path, named)
    file = str(files.checkpoint(registry.card("human_action").weights[0]).path)
    build = import_vbench("vbench.third_party.umt.models.modeling_finetune").vit_large_patch16_224

    def create_model(_: str, **options: Any) -> Any:  # timm's own now hands on an option that the network does not take
        return build(**{name: value for name, value in options.items() if value is not None and name != "pretrained"})

    module.create_model = create_model
    return lambda: float(module.human_action(file, [str(named)], "cpu")[0])


OFFICIAL: dict[str, Callable[..., Callable[[], float]]] = {
    "subject_consistency": official_frames("subject_consistency"),
    "background_consistency": official_frames("background_consistency"),
    "appearance_style": official_style,
    "overall_consistency": official_prompt("overall_consistency"),
    "temporal_style": official_prompt("temporal_style"),
    "human_action": official_action,
}

if __name__ == "__main__":
    main()
