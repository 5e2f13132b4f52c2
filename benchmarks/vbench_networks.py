"""VBench's networks at full size with random weights, in the layout of the published files.

Values mean nothing; names, shapes and time are real. GRiT and Tag2Text are drawn as in the tests, of a size at which
boxes are found and captions end.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import io
import json
import shutil
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from stg_eval import weights
from stg_eval.metrics.vbench import import_vbench

TESTS = Path(__file__).parents[1] / "tests" / "metrics" / "vbench"


class Files:
    """The checkpoints, each made when it is asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def checkpoint(self, row: weights.Weight) -> weights.Checkpoint:
        path = self.folder / row.name / row.file
        if not path.exists():
            path.parent.mkdir(exist_ok=True)
            torch.manual_seed(0)
            print(f"drawing {row.name}", file=sys.stderr)
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
    make_clip_vocabulary(folder / "ViCLIP" / "bpe_simple_vocab_16e6.txt.gz")
    import_vbench("vbench.utils").CACHE_DIR = str(folder)
    return import_vbench("vbench.third_party.ViCLIP.viclip").ViCLIP(pretrain=checkpoint and str(checkpoint)).eval()


def make_clip_vocabulary(path: Path) -> None:
    shutil.copy(Path(importlib.import_module("clip").__file__ or "").parent / path.name, path)


def make_dino(path: Path) -> None:
    torch.save(
        importlib.import_module("timm").create_model("vit_base_patch16_224.dino", num_classes=0).state_dict(), path
    )


def make_umt(path: Path) -> None:
    module = import_vbench("vbench.third_party.umt.models.modeling_finetune")
    torch.save(module.vit_large_patch16_224(num_classes=400, all_frames=16, tubelet_size=1).state_dict(), path)


def test_module(name: str) -> Any:
    """A test's module, which knows how to draw a network and its words."""
    spec = importlib.util.spec_from_file_location(name, TESTS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def shapes(parts: dict[str, nn.Module]) -> dict[str, list[int]]:
    """Prefix -> module: names and shapes of all parameters."""
    named = (
        (f"{prefix}{name}", value) for prefix, module in parts.items() for name, value in module.named_parameters()
    )
    return {name: list(value.shape) for name, value in named}


def make_grit(path: Path) -> None:
    """A ViT-B of twelve blocks, of which every third sees the whole picture; six layers that write."""
    from stg_eval.metrics.vbench.grit import backbone, boxes, captions

    with torch.device("meta"):
        sizes = {
            "fpn_stride16_conv1.weight": torch.zeros(256, 768, 1, 1),
            "bottom_up.pos_embed": torch.zeros(1, 197, 768),
        }
        for i in range(12):
            sizes[f"bottom_up.blocks.{i}.attn.rel_pos_h"] = torch.zeros(127 if i % 3 == 2 else 27, 64)
        parts = {
            "backbone.": backbone.Backbone(sizes),
            "proposal_generator.": boxes.Proposals(256),
            "roi_heads.": boxes.BoxHeads(256, 1024),
            "roi_heads.text_decoder.textual.": captions.Captioner(256, 768, 6, 30522, 1024),
        }
    torch.save({"model": test_module("test_objects").random_state(shapes(parts))}, path)


def make_bert_vocabulary(path: Path) -> None:
    path.write_text("\n".join(test_module("test_scene").vocabulary()) + "\n", encoding="utf-8")


def make_tag2text(path: Path) -> None:
    """Swin-B at 384 pixels, BERT's twelve layers to encode tags and to write, two between."""
    from stg_eval.metrics.vbench.bert import Layer

    swin = import_vbench("vbench.third_party.tag2Text.swin_transformer").SwinTransformer
    with torch.device("meta"):

        def layers(count: int, heads: int, other: int, among: bool = True) -> nn.Module:
            return nn.ModuleList(Layer(768, 3072, heads, other, among) for _ in range(count))

        def embeddings() -> nn.Module:
            rows = {"word_embeddings": nn.Embedding(30524, 768), "position_embeddings": nn.Embedding(512, 768)}
            return nn.ModuleDict({**rows, "LayerNorm": nn.LayerNorm(768)})

        transform = nn.ModuleDict({"dense": nn.Linear(768, 768), "LayerNorm": nn.LayerNorm(768)})
        parts: dict[str, nn.Module] = {
            "vision_multi.encoder.layer.": layers(2, 4, 1024, among=False),
            "tag_encoder.embeddings.": embeddings(),
            "tag_encoder.encoder.layer.": layers(12, 12, 1024),
            "text_decoder.bert.embeddings.": embeddings(),
            "text_decoder.bert.encoder.layer.": layers(12, 12, 768),
            "text_decoder.cls.predictions.transform.": transform,
            "text_decoder.cls.predictions.decoder.": nn.Linear(768, 30524),
        }
    sizes = {"visual_encoder.patch_embed.proj.weight": [128, 3, 4, 4]}
    with torch.device("cpu"):
        whole = swin(384, 4, embed_dim=128, depths=[2, 2, 18, 2], num_heads=[4, 8, 16, 32], window_size=12)
    sizes |= shapes({"visual_encoder.": whole, **parts})
    sizes |= {"label_embed.weight": [3429, 768], "fc.W": [1, 3429, 768], "fc.b": [1, 3429]}
    sizes["text_decoder.cls.predictions.bias"] = [30524]
    torch.save({"model": test_module("test_scene").random_state(sizes)}, path)


def make_dreamsim(path: Path) -> None:
    """Two CLIPs in DINO's layout, and changes of rank 16."""
    from safetensors.torch import save

    vit = importlib.import_module("timm").create_model("vit_base_patch16_224.dino", num_classes=0)
    lora = {}
    for network in range(3):
        for block in range(12):
            stem = f"base_model.model.extractor_list.{network}.model.blocks.{block}.attn.qkv.lora_"
            lora |= {f"{stem}A.weight": torch.randn(16, 768) / 28, f"{stem}B.weight": torch.randn(2304, 16) / 4}
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("clip", "open_clip"):
            first = {"pos_drop.weight": torch.ones(768), "pos_drop.bias": torch.zeros(768)}
            file = io.BytesIO()
            torch.save({"state_dict": vit.state_dict() | first | {"proj": torch.randn(768, 512) / 28}}, file)
            archive.writestr(f"{name}_vitb16_pretrain.pth.tar", file.getvalue())
        archive.writestr("ensemble_lora/adapter_model.safetensors", save(lora))
        archive.writestr("ensemble_lora/adapter_config.json", json.dumps({"r": 16, "lora_alpha": 0.5}))


MAKERS: dict[str, Callable[[Path], None]] = {
    "clip-vit-b-32": make_clip_b_32,
    "clip-vocabulary": make_clip_vocabulary,
    "viclip": make_viclip,
    "dino-vit-b-16": make_dino,
    "umt-l16-k400": make_umt,
    "grit-b-densecap-objectdet": make_grit,
    "bert-vocabulary": make_bert_vocabulary,
    "tag2text-swin-14m": make_tag2text,
    "dreamsim-ensemble": make_dreamsim,
}
