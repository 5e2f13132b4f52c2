"""What tests share: the command line in this process, small real videos, data sets as they lie on disk, and networks of
metrics with random weights."""

from __future__ import annotations

import hashlib
import importlib
import io
import json
import os
import signal
import sys
import types
from argparse import Namespace
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np
import pytest
from PIL import Image

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch: threads that spin starve the other tests' processes

ACTIONS = ("ApplyEyeMakeup", "YoYo", "HandstandPushups")


CHANGES = {"os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.link"}
"""Audit events of what changes a folder."""


class Answer(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture(scope="session")
def run_cli() -> Callable[..., Answer]:
    """`stg-eval ARGUMENTS` in this process: its exit code, stdout and stderr."""
    from stg_eval import cli

    def call(*arguments: object) -> Answer:
        out, err = io.StringIO(), io.StringIO()
        with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
            patch.setattr(sys, "argv", ["stg-eval", *map(str, arguments)])
            with pytest.raises(SystemExit) as stop:
                cli.main()
        code = stop.value.code
        return Answer(code if isinstance(code, int) else int(code is not None), out.getvalue(), err.getvalue())

    return call


@pytest.fixture(scope="session")
def make_record() -> Callable[..., Any]:
    """run.json of a run of `variants`, {name: signature}, the first of them the baseline; other fields as given."""
    from stg_eval.storage.record import Provenance, RunRecord, Variant

    def make(variants: dict[str, str] | None = None, **fields: Any) -> RunRecord:
        variants = variants or {"cfg": "cfg3"}
        given = {
            "suite": "demo",
            "title": "Demo",
            "model": "tiny",
            "variants": tuple(Variant(name=name, signature=signature) for name, signature in variants.items()),
            "baseline": next(iter(variants)),
            "cluster": "case",
            "expected": 1,
            "store": "store",
            "provenance": Provenance(stg_eval="0.1.0", device="cpu"),
        }
        return RunRecord(**given | fields)

    return make


@pytest.fixture(scope="session")
def killed_at() -> Callable[[Callable[[], object], int], bool]:
    """Run something in a process of its own that is killed (SIGKILL) before its `step`-th change of a file; whether it
    lived to the end."""

    def run(do: Callable[[], object], step: int) -> bool:
        child = os.fork()
        if child == 0:
            left = step

            def count(event: str, arguments: tuple) -> None:
                nonlocal left
                writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
                if event in CHANGES or writes:
                    left -= 1
                    if left == 0:
                        os.kill(os.getpid(), signal.SIGKILL)

            sys.addaudithook(count)
            try:
                do()
            except BaseException:
                os._exit(2)
            os._exit(0)
        status = os.waitpid(child, 0)[1]
        assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
        return not os.WIFSIGNALED(status)

    return run


@pytest.fixture
def make_video(tmp_path: Path) -> Callable[..., Path]:
    """A small moving clip on disk."""
    from stg_eval.storage.video import write_video

    def make(name: str = "clip.mp4", *, num_frames: int = 8, seed: int = 0, folder: Path | None = None) -> Path:
        path = (folder or tmp_path / "videos") / name
        path.parent.mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(seed).integers(0, 256, (32, 64, 3), dtype=np.uint8)
        frames = np.stack([np.roll(noise, 2 * t, axis=1) for t in range(num_frames)])
        write_video(path, frames, 8.0, "vp9-lossless")
        return path

    return make


@pytest.fixture(scope="session")
def avi(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], bytes]:
    """A real .avi as UCF-101 has them (MPEG-4 part 2, 25 fps), its content drawn from a seed."""
    folder = tmp_path_factory.mktemp("avi")

    def make(seed: int, num_frames: int = 16) -> bytes:
        path = folder / f"{seed}.avi"
        if not path.is_file():
            colour = np.random.default_rng(seed).integers(0, 256, 3)
            ramp = np.linspace(0.2, 1, 64)[None, :, None] * np.ones((48, 1, 1))
            with av.open(path, "w") as out:
                stream = out.add_stream("mpeg4", rate=Fraction(25))
                stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
                for t in range(num_frames):
                    frame = av.VideoFrame.from_ndarray((np.roll(ramp, 8 * t, 1) * colour).astype(np.uint8))
                    out.mux(stream.encode(frame))
                out.mux(stream.encode())
        return path.read_bytes()

    return make


@pytest.fixture(scope="session")
def ucf101_at(avi: Callable[[int], bytes]) -> Callable[..., Path]:
    """UCF-101's two archives, extracted: `classes` classes with `videos` videos each, a third of them for testing."""

    def make(root: Path, classes: int = 101, videos: int = 3) -> Path:
        lists = root / "ucfTrainTestlist"
        lists.mkdir(parents=True)
        names = [ACTIONS[i] if i < len(ACTIONS) else f"Action{i:03d}" for i in range(classes)]
        (lists / "classInd.txt").write_text("".join(f"{i} {name}\r\n" for i, name in enumerate(names, 1)))
        train, test = [], []
        for i, name in enumerate(names):
            (root / "UCF-101" / name).mkdir(parents=True)
            for k in range(videos):
                file = f"{name}/v_{name}_g{k + 1:02d}_c01.avi"
                (root / "UCF-101" / file).write_bytes(avi(k % 3) if classes > 10 else avi(10 * i + k))
                train.append(f"{file} {i + 1}\n") if k % 3 else test.append(f"{file}\n")
        (lists / "trainlist01.txt").write_text("".join(train))
        (lists / "testlist01.txt").write_text("".join(test))
        return root

    return make


@pytest.fixture(scope="session")
def vbench_i2v_at() -> Callable[..., Path]:
    """VBench-I2V as it extracts, with the official numbers of entries and stand-ins for its prompts and images."""
    both = ["aesthetic_quality", "imaging_quality", "temporal_flickering"]
    subject = ["i2v_subject", "subject_consistency", "motion_smoothness", "dynamic_degree", *both]
    background = ["i2v_background", "background_consistency", *both]

    def make(root: Path, subjects: int = 246, backgrounds: int = 109) -> Path:
        crops = root / "crop" / "16-9"
        crops.mkdir(parents=True)
        entries = []
        for i in range(subjects + backgrounds):
            kind, dimensions = ("animal", subject) if i < subjects else ("indoor", background)
            entries.append({"prompt_en": f"scene {i}", "dimension": dimensions, "image_type": kind})
            Image.new("RGB", (16, 9), (i % 256, i // 256, 128)).save(crops / f"scene {i}.png")
        for i in range(7 * backgrounds):
            prompt = f"scene {subjects + i % backgrounds}, move {i // backgrounds}"
            entries.append({"prompt_en": prompt, "dimension": ["camera_motion"], "image_type": "indoor"})
        for entry in entries:
            entry["image_name"] = str(entry["prompt_en"]).split(",")[0] + ".png"
        (root / "vbench2_i2v_full_info.json").write_text(json.dumps(entries))
        return root

    return make


@pytest.fixture(scope="session")
def official() -> Callable[[str], Any]:
    """A module of vbench 0.1.5. Skips the test where the package is not installed."""
    pytest.importorskip("vbench", reason="vbench is not installed (pip install --no-deps vbench==0.1.5)")
    # openai-clip takes `packaging` from pkg_resources, which setuptools no longer has.
    # pytest asks it for `fixup_namespace_packages` wherever it is loaded.
    stand_in = types.SimpleNamespace(
        packaging=importlib.import_module("packaging"), fixup_namespace_packages=lambda *_, **__: None
    )
    sys.modules.setdefault("pkg_resources", stand_in)
    importlib.import_module("packaging.version")

    def module(name: str) -> Any:
        from stg_eval.metrics.vbench import import_vbench

        return import_vbench(f"vbench.{name}")

    return module


def _checkpoint(path: Path) -> Any:
    from stg_eval.weights import Checkpoint

    return Checkpoint(path, hashlib.sha256(path.read_bytes()).hexdigest())


@pytest.fixture(scope="session")
def random_weights(tmp_path_factory, official) -> dict[str, Any]:
    """Checkpoints of the official networks with random weights, in the layout of the published files."""
    import torch
    from safetensors.torch import save_file
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(0)
    amt = official("third_party.amt.networks.AMT-S").Model()
    torch.save({"state_dict": amt.state_dict()}, folder / "amt-s.pth")
    raft = official("third_party.RAFT.core.raft").RAFT(
        Namespace(small=False, mixed_precision=False, alternate_corr=False)
    )
    torch.save({f"module.{k}": v for k, v in raft.state_dict().items()}, folder / "raft-things.pth")
    from pyiqa.archs.musiq_arch import MUSIQ

    torch.save(MUSIQ(pretrained=False).state_dict(), folder / "musiq_spaq_ckpt-358bb6af.pth")
    clip = CLIPVisionModelWithProjection(
        CLIPVisionConfig(
            hidden_size=128,
            intermediate_size=512,
            projection_dim=768,
            num_hidden_layers=3,
            num_attention_heads=2,
            patch_size=14,
            image_size=224,
        )
    )
    state = {k: v + 0.1 * torch.randn_like(v) for k, v in clip.state_dict().items()}
    save_file(state | {"logit_scale": torch.tensor(4.6), "text_projection.weight": torch.zeros(768, 128)}, folder / "c")
    (folder / "c").rename(folder / "model.safetensors")
    torch.save(torch.nn.Linear(768, 1).state_dict(), folder / "sa_0_4_vit_l_14_linear.pth")
    names = {
        "amt-s": "amt-s.pth",
        "raft-things": "raft-things.pth",
        "musiq-spaq": "musiq_spaq_ckpt-358bb6af.pth",
        "clip-vit-l-14": "model.safetensors",
        "laion-aesthetic": "sa_0_4_vit_l_14_linear.pth",
    }
    return {name: _checkpoint(folder / file) for name, file in names.items()}


@pytest.fixture(scope="session")
def small_videomae() -> tuple[dict[str, Any], dict[str, int]]:
    """A random checkpoint in the official format of VideoMAE-v2, and the sizes of its one-layer network."""
    import torch

    torch.manual_seed(0)
    shapes = {
        "patch_embed.proj.weight": (88, 3, 2, 14, 14),
        "patch_embed.proj.bias": (88,),
        "fc_norm.weight": (88,),
        "fc_norm.bias": (88,),
        "head.weight": (174, 88),
        "head.bias": (174,),
        "blocks.0.norm1.weight": (88,),
        "blocks.0.norm1.bias": (88,),
        "blocks.0.norm2.weight": (88,),
        "blocks.0.norm2.bias": (88,),
        "blocks.0.attn.q_bias": (88,),
        "blocks.0.attn.v_bias": (88,),
        "blocks.0.attn.qkv.weight": (264, 88),
        "blocks.0.attn.proj.weight": (88, 88),
        "blocks.0.attn.proj.bias": (88,),
        "blocks.0.mlp.fc1.weight": (384, 88),
        "blocks.0.mlp.fc1.bias": (384,),
        "blocks.0.mlp.fc2.weight": (88, 384),
        "blocks.0.mlp.fc2.bias": (88,),
    }
    sizes = {"hidden_size": 88, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 384}
    return {"module": {name: 0.1 * torch.randn(shape) for name, shape in shapes.items()}}, sizes
