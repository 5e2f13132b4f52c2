"""Checkpoints in the hub's layout: whole ones load under every published name, all others are one clear line."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import ByT5Tokenizer

from stg_eval.generators.opensora.hub import VAE
from stg_eval.generators.opensora.pipeline import OpenSoraPipeline
from stg_eval.generators.opensora.small import SMALL_TRANSFORMER
from stg_eval.generators.opensora.stdit3 import STDiT3
from stg_eval.generators.opensora.text import load_text_encoder
from stg_eval.generators.opensora.vae import OpenSoraVAE
from stg_eval.types import StgEvalError

HUB_TRANSFORMER = {
    "architectures": ["STDiT3"],
    "model_type": "STDiT3",
    "class_dropout_prob": 0.1,
    "depth": 28,
    "enable_flash_attn": True,
    "input_size": [None, None, None],
    "input_sq_size": 512,
    "patch_size": [1, 2, 2],
    "pred_sigma": True,
    "qk_norm": True,
    "torch_dtype": "float32",
    **SMALL_TRANSFORMER,
}
"""The published config.json at a small width."""

HUB_VAE = {
    "architectures": ["VideoAutoencoderPipeline"],
    "model_type": "VideoAutoencoderPipeline",
    "micro_frame_size": 17,
    "scale": [3.85, 2.32, 2.33, 3.06],
    "shift": [-0.1, 0.34, 0.27, 0.98],
    "vae_2d": {
        "type": "VideoAutoencoderKL",
        "from_pretrained": "owner/where-it-was-trained-from",
        "micro_batch_size": 4,
        "block_out_channels": [4, 8, 16, 16],
        "norm_num_groups": 4,
    },
    "vae_temporal": {"type": "VAE_Temporal_SD", "from_pretrained": None, "filters": 4, "num_groups": 2},
}


def _write(folder, config, tensors):
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    return folder


def _random(model):
    return {name: torch.randn(tensor.shape) for name, tensor in model.state_dict().items()}


@pytest.fixture(scope="session")
def whole(tmp_path_factory):
    """Folders of a transformer, a VAE and a text encoder, all published names at a small size."""
    folder = tmp_path_factory.mktemp("hub")
    _write(folder / "transformer", HUB_TRANSFORMER, _random(STDiT3(**SMALL_TRANSFORMER)))
    vae = OpenSoraVAE(vae_2d=HUB_VAE["vae_2d"], vae_temporal=HUB_VAE["vae_temporal"])
    _write(folder / "vae", HUB_VAE, _random(vae))
    return folder


@pytest.fixture
def transformer(whole, tmp_path):
    """A copy to damage."""
    return shutil.copytree(whole / "transformer", tmp_path / "transformer")


@pytest.mark.parametrize(
    ("cls", "part", "manifest"),
    [(STDiT3, "transformer", "stdit3_xl_2"), (OpenSoraVAE, "vae", "opensora_vae_v1_2")],
)
def test_a_checkpoint_of_all_published_names_loads_tensor_by_tensor(whole, golden, cls, part, manifest):
    stored = load_file(whole / part / "model.safetensors")
    assert set(stored) == set(golden("state_dict_manifest.json")[manifest])
    loaded = cls.from_pretrained(whole / part).state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in stored.items())


def test_shards_give_the_same_model_as_one_file(whole, transformer):
    tensors = load_file(transformer / "model.safetensors")
    names = sorted(tensors)
    (transformer / "model.safetensors").unlink()
    weight_map = {}
    for i, part in enumerate((names[:400], names[400:])):
        file = f"model-{i + 1:05d}-of-00002.safetensors"
        save_file({name: tensors[name] for name in part}, transformer / file)
        weight_map |= dict.fromkeys(part, file)
    (transformer / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    one, sharded = (STDiT3.from_pretrained(folder).state_dict() for folder in (whole / "transformer", transformer))
    assert all(torch.equal(one[name], sharded[name]) for name in names)

    (transformer / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(StgEvalError, match=r"lacks model-00002-of-00002\.safetensors"):
        STDiT3.from_pretrained(transformer)


def test_a_saved_model_loads_again(whole, tmp_path):
    model = OpenSoraVAE.from_pretrained(whole / "vae", torch.bfloat16)
    assert model.dtype == torch.bfloat16
    model.save_pretrained(tmp_path)
    again = OpenSoraVAE.from_pretrained(tmp_path, torch.bfloat16).state_dict()
    assert all(torch.equal(again[name], tensor) for name, tensor in model.state_dict().items())


def test_a_pipeline_of_local_folders_makes_clips(whole, tmp_path, small_pipe):
    small_pipe.text_encoder.save_pretrained(tmp_path / "text_encoder")
    ByT5Tokenizer().save_pretrained(tmp_path / "tokenizer")
    pipe = OpenSoraPipeline.from_pretrained(
        str(whole / "transformer"), str(whole / "vae"), str(tmp_path), torch_dtype=torch.float32
    )
    pipe.set_progress_bar_config(disable=True)
    frames = pipe("a cat", height=16, width=24, num_frames=17, num_inference_steps=1).frames
    assert frames.shape == (1, 17, 16, 24, 3)


def _drop(tensors):
    del tensors["spatial_blocks.3.attn.qkv.weight"]


def _rename(tensors):
    tensors["extra"] = tensors.pop("x_embedder.proj.bias")


def _misshape(tensors):
    tensors["t_block.1.bias"] = torch.zeros(7)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_drop, "spatial_blocks.3.attn.qkv.weight is missing"),
        (_rename, "x_embedder.proj.bias is missing; extra is unknown"),
        (_misshape, r"t_block.1.bias is \[7\], not \[192\]"),
        (lambda tensors: tensors.clear(), "and 970 more"),
    ],
)
def test_incomplete_checkpoints_are_refused_by_the_tensor(transformer, damage, message):
    tensors = load_file(transformer / "model.safetensors")
    damage(tensors)
    save_file(tensors, transformer / "model.safetensors")
    with pytest.raises(StgEvalError, match=message) as error:
        STDiT3.from_pretrained(transformer)
    assert "\n" not in str(error.value)


def _truncate(folder):
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "config.json").unlink(), "is not an Open-Sora folder: it has no config.json"),
        (lambda folder: (folder / "config.json").write_text("{"), "config.json is not readable JSON"),
        (
            lambda folder: (folder / "config.json").write_text('{"model_type": "t5"}'),
            "not an Open-Sora 1.2 STDiT3: .*'t5'",
        ),
        (lambda folder: (folder / "model.safetensors").unlink(), "has no model.safetensors"),
        (_truncate, "model.safetensors is damaged or cut short"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b""), "model.safetensors is damaged or cut short"),
    ],
)
def test_folders_that_are_no_checkpoint_are_refused_in_one_line(transformer, damage, message):
    damage(transformer)
    with pytest.raises(StgEvalError, match=message) as error:
        STDiT3.from_pretrained(transformer)
    assert "\n" not in str(error.value)


def test_the_vae_is_not_taken_for_a_transformer(whole):
    with pytest.raises(StgEvalError, match=r"not an Open-Sora 1\.2 STDiT3: .*VideoAutoencoderPipeline"):
        STDiT3.from_pretrained(whole / "vae")


@pytest.mark.parametrize("source", ["/no/such/folder", "./nowhere", "nowhere"])
def test_a_folder_that_is_not_there_is_named(source):
    with pytest.raises(StgEvalError, match=f"no folder {source}; give an existing folder or a hub id"):
        STDiT3.from_pretrained(source)


@pytest.mark.parametrize("source", ["owner/name", VAE])
def test_a_hub_id_out_of_reach_says_what_to_do(source, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(
        StgEvalError, match=f"cannot get {source} from the hub; connect once, or give a folder"
    ) as error:
        OpenSoraVAE.from_pretrained(source)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("part", ["text_encoder/model.safetensors", "tokenizer/tokenizer_config.json"])
def test_a_text_encoder_without_weights_or_tokenizer_is_refused(tmp_path, small_pipe, part):
    small_pipe.text_encoder.save_pretrained(tmp_path / "text_encoder")
    ByT5Tokenizer().save_pretrained(tmp_path / "tokenizer")
    load_text_encoder(tmp_path)
    (tmp_path / part).unlink()
    with pytest.raises(StgEvalError, match="not a complete T5 text encoder") as error:
        load_text_encoder(tmp_path)
    assert "\n" not in str(error.value)


def test_a_text_encoder_that_lacks_a_tensor_is_refused(tmp_path, small_pipe):
    small_pipe.text_encoder.save_pretrained(tmp_path / "text_encoder")
    ByT5Tokenizer().save_pretrained(tmp_path / "tokenizer")
    file = tmp_path / "text_encoder" / "model.safetensors"
    tensors = load_file(file)
    del tensors["encoder.final_layer_norm.weight"]
    save_file(tensors, file, {"format": "pt"})
    with pytest.raises(StgEvalError, match=r"lacks encoder\.final_layer_norm\.weight"):
        load_text_encoder(tmp_path)
