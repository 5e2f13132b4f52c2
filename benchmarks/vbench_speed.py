"""What VBench's sixteen dimensions cost: the official functions and ours on the same clip, one by one and together.

    python benchmarks/vbench_speed.py                               16 frames of 256x256
    python benchmarks/vbench_speed.py --frames 49 --height 480 --width 848 --repeats 1
    python benchmarks/vbench_speed.py --only subject_consistency,human_action

As metrics_speed.py, which has the five of the paper and says how time and memory are measured: full-size networks with
random weights, in turns. Of five dimensions the official networks do not import beside today's packages (GRiT needs
detectron2, Tag2Text an old transformers): ours is timed alone, where its files were fetched. DINO is ours on both
sides, since the official one is downloaded at run time. Needs einops and openai-clip (the extra dev).
"""

from __future__ import annotations

import hashlib
import importlib
import shutil
import sys
import tempfile
import time
import types
import warnings
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import metrics_speed as base
import torch

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
FETCHED = weights.require
OURS_ALONE = ("scene", "object_class", "multiple_objects", "color", "spatial_relationship")


def main() -> None:
    parser = ArgumentParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=16)
    parser.add_argument("--height", type=int, default=256)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--only", default="", help="comma-separated dimensions")
    settings = parser.parse_args()
    settings.device, settings.clips = "cpu", 1
    torch.set_num_threads(settings.threads)
    warnings.filterwarnings("ignore")
    # openai-clip and ViCLIP take `packaging` from pkg_resources, which setuptools no longer has.
    sys.modules.setdefault("pkg_resources", types.SimpleNamespace(packaging=importlib.import_module("packaging")))
    sys.modules.setdefault("numpy.lib.function_base", types.SimpleNamespace(disp=print))
    importlib.import_module("packaging.version")
    wanted = settings.only.split(",") if settings.only else [*base.DIMENSIONS, *PROMPTS]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (path,) = base.make_clips(folder, settings)
        print(f"{settings.frames} frames of {settings.width}x{settings.height}, {settings.threads} threads\n")
        print("| | official s | ours s | ratio | ratio of CPU s | our clips/s | official peak MiB | our peak MiB |")
        print("|---|---|---|---|---|---|---|---|")
        known = [name for name in base.DIMENSIONS if name in wanted]
        if known:
            base.measure_dimensions(known, set(known), True, [path], folder, settings)
        files = Files(folder)
        for name in PROMPTS:
            missing = [
                row.name for row in registry.card(name).weights if row.name not in MAKERS and not weights.where(row)
            ]
            if name in wanted and missing:
                print(f"{name}: skipped, {', '.join(missing)} is not here", file=sys.stderr)
            elif name in wanted:
                measure(name, path, files, settings)


def measure(name: str, path: Path, files: Files, settings: Namespace) -> None:
    """One dimension: its row, and that both sides agree."""
    weights.require = files.checkpoint  # type: ignore[assignment]
    scorer: Any = registry.load(registry.card(name), "cpu")
    case = Case(id="x", prompt=PROMPTS[name])

    def ours() -> float:
        (outcome,) = score_clips([(path, case)], {name: scorer}, {})
        assert not outcome.error, outcome
        return outcome.values.get(name, float("nan"))

    if name in OURS_ALONE:
        base.reset_peak("cpu")
        before, start, cpu = base.memory("cpu", "now"), time.perf_counter(), time.process_time()
        ours()
        peak = (base.memory("cpu", "peak") - before) / 2**20
        seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu
        print(
            f"| {name} | - | {seconds:.3f} | - | {cpu_seconds:.1f} s | {1 / seconds:.2f} | - | {peak:.0f} |", flush=True
        )
        return
    expected, got = base.measure(name, OFFICIAL[name](path, files, case), ours, settings)
    base.check(name, [float(expected)], [got])


class Files:
    """Full-size networks with random weights in the layout of the published files, made when asked for; those of
    OURS_ALONE as they were fetched."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def checkpoint(self, row: weights.Weight) -> weights.Checkpoint:
        if row.name not in MAKERS:
            return FETCHED(row)
        path = self.folder / row.name / row.file
        if not path.exists():
            path.parent.mkdir()
            torch.manual_seed(0)
            MAKERS[row.name](path)
        return weights.Checkpoint(path, hashlib.sha256(row.name.encode()).hexdigest())


def make_clip_b_32(path: Path) -> None:
    network = importlib.import_module("clip.model").CLIP(512, 224, 12, 768, 32, 77, 49408, 512, 8, 12).eval()
    inputs = torch.zeros(1, 3, 224, 224), torch.ones(1, 77, dtype=torch.int64)
    torch.jit.save(torch.jit.trace(network, inputs, check_trace=False).half(), path)


def make_viclip(path: Path) -> None:
    state = official_viclip(path.parent.parent, None).state_dict()
    for name, value in state.items():  # some are left as they lay in memory
        if name.endswith(("proj", "text_projection", "positional_embedding")):
            value.normal_(std=0.03)
    torch.save({"model": state}, path)


def official_viclip(folder: Path, checkpoint: Path | None) -> Any:
    """Its byte pairs are looked for in a cache folder, when modules are imported."""
    (folder / "ViCLIP").mkdir(exist_ok=True)
    make_vocabulary(folder / "ViCLIP" / "bpe_simple_vocab_16e6.txt.gz")
    import_vbench("vbench.utils").CACHE_DIR = str(folder)
    return import_vbench("vbench.third_party.ViCLIP.viclip").ViCLIP(pretrain=checkpoint and str(checkpoint)).eval()


def make_vocabulary(path: Path) -> None:
    shutil.copy(Path(importlib.import_module("clip").__file__).parent / path.name, path)


def make_dino(path: Path) -> None:
    torch.save(
        importlib.import_module("timm").create_model("vit_base_patch16_224.dino", num_classes=0).state_dict(), path
    )


def make_umt(path: Path) -> None:
    module = import_vbench("vbench.third_party.umt.models.modeling_finetune")
    torch.save(module.vit_large_patch16_224(num_classes=400, all_frames=16, tubelet_size=1).state_dict(), path)


def official_frames(name: str) -> Callable[..., Callable[[], float]]:
    """Subject and background consistency: the official loop over a network."""

    def prepare(path: Path, files: Files, case: Case) -> Callable[[], float]:
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


def official_style(path: Path, files: Files, case: Case) -> Callable[[], float]:
    module = import_vbench("vbench.appearance_style")
    row = registry.card("appearance_style").weights[0]
    network, _ = module.clip.load(str(files.checkpoint(row).path), device="cpu")
    info = {"prompt": case.prompt, "video_list": [str(path)], "auxiliary_info": {"appearance_style": "oil painting"}}
    return lambda: float(module.appearance_style(network, [info], "cpu")[0])


def official_prompt(name: str) -> Callable[..., Callable[[], float]]:
    def prepare(path: Path, files: Files, case: Case) -> Callable[[], float]:
        network = official_viclip(files.folder, files.checkpoint(registry.card(name).weights[0]).path)
        module = import_vbench(f"vbench.{name}")
        info = {"prompt": case.prompt, "video_list": [str(path)]}
        return lambda: float(getattr(module, name)(network, [info], None, "cpu")[0])

    return prepare


def official_action(path: Path, files: Files, case: Case) -> Callable[[], float]:
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

MAKERS: dict[str, Callable[[Path], None]] = {
    "clip-vit-b-32": make_clip_b_32,
    "clip-vocabulary": make_vocabulary,
    "viclip": make_viclip,
    "dino-vit-b-16": make_dino,
    "umt-l16-k400": make_umt,
}


if __name__ == "__main__":
    main()
