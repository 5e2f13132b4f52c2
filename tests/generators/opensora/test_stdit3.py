"""STDiT3 against the original code, and what must stay float32 in a bfloat16 model."""

from __future__ import annotations

import pytest
import torch
from diffusers.models.embeddings import apply_rotary_emb, get_timestep_embedding
from diffusers.models.normalization import RMSNorm
from torch import nn

from stg_eval.generators.opensora.stdit3 import Rope, STDiT3, position_embedding

CASES = (
    "basic",
    "cfg_batch",
    "image",
    "long_t",
    "mask_with_holes",
    "no_text_mask",
    "odd_hw",
    "odd_hw_x_mask",
    "x_mask",
)


def _close(actual, expected, atol=2e-5):
    torch.testing.assert_close(actual, expected, rtol=0, atol=atol)


@pytest.mark.parametrize("case", CASES)
def test_forward_equals_the_original(stdit3, golden, inputs, case):
    _close(stdit3(**inputs(case)), golden("stdit3_cases.safetensors")[f"{case}/out"])


def test_hidden_states_and_attentions_equal_the_original(stdit3, golden, inputs):
    cases, seen = golden("stdit3_cases.safetensors"), {}

    def record(name):
        return lambda module, args, output: seen.__setitem__(name, output)

    for i in range(4):
        for j, kind in enumerate(("spatial_blocks", "temporal_blocks")):
            block = stdit3.get_submodule(f"{kind}.{i}")
            block.register_forward_hook(record(f"basic/hidden.{2 * i + j:02d}.{kind}.{i}"))
            if i == 1:
                block.attn.register_forward_hook(record(f"basic/module.{kind}.1.attn"))
    stdit3.t_embedder.register_forward_hook(record("basic/module.t_embedder"))
    stdit3.spatial_blocks[0].register_forward_pre_hook(lambda m, args: seen.__setitem__("basic/hidden.input", args[0]))
    stdit3(**inputs("basic"))
    assert len(seen) == 12
    for name, output in seen.items():
        _close(output.reshape(cases[name].shape), cases[name])


def test_text_that_comes_projected_gives_the_same(stdit3, golden, inputs):
    cases, given = golden("stdit3_cases.safetensors"), inputs("basic")
    lengths = cases["skip_y_embedder/in.mask"].tolist()
    rows = cases["skip_y_embedder/in.y"][0].split(lengths)
    given["encoder_hidden_states"] = nn.utils.rnn.pad_sequence(list(rows), batch_first=True)
    given["encoder_attention_mask"] = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    stdit3.y_embedder.y_proj = nn.Identity()
    _close(stdit3(**given), cases["skip_y_embedder/out"])


def test_null_rows_under_a_full_mask_would_be_another_model(stdit3, golden, inputs):
    given = inputs("cfg_batch")
    given["encoder_attention_mask"][2:] = 1
    difference = stdit3(**given) - golden("stdit3_cases.safetensors")["cfg_batch/out"]
    assert difference.abs().max() > 0.1


def test_a_frame_mask_of_made_frames_only_changes_nothing(stdit3, inputs):
    given = inputs("basic")
    without = stdit3(**given)
    given["frame_mask"] = torch.ones(2, 5, dtype=torch.bool)
    assert torch.equal(stdit3(**given), without)


def test_state_dict_of_the_full_size_model_equals_the_published_checkpoint(golden):
    with torch.device("meta"):
        model = STDiT3()
    names = {name: list(tensor.shape) for name, tensor in model.state_dict().items()}
    assert names == golden("state_dict_manifest.json")["stdit3_xl_2"]
    assert len(names) == 973


@pytest.mark.parametrize("head_dim", [16, 72])
def test_rotary_embedding_equals_the_original(golden, head_dim):
    data, rope = golden("embeddings.safetensors"), Rope(head_dim)
    key = f"rope_d{head_dim}"
    _close(rope.freqs, data[f"{key}/freqs"], atol=1e-7)
    _close(apply_rotary_emb(data[f"{key}/in"], rope.angles(7)), data[f"{key}/out"], atol=2e-6)


def test_position_embedding_equals_the_original(golden):
    for entry in golden("configs.json")["pos_embed"]:
        actual = position_embedding(
            entry["dim"], (entry["grid_h"], entry["grid_w"]), entry["scale"], entry["base_size"]
        )
        expected = golden("embeddings.safetensors")[f"pos_{entry['name']}/emb"][0]
        _close(actual[:: entry["token_stride_saved"]], expected, atol=1e-5)


@pytest.mark.parametrize("name", ["timestep", "fps"])
def test_sinusoidal_features_equal_the_original(stdit3, golden, name):
    data, seen = golden("embeddings.safetensors"), []
    stdit3.t_embedder.mlp.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    stdit3.t_embedder(data[f"{name}/in"])
    _close(seen[0], data[f"{name}/embedding256"], atol=1e-5)


def test_rms_norm_rounds_before_its_weight_as_the_original(golden):
    data, norm = golden("embeddings.safetensors"), RMSNorm(16, eps=1e-6)
    norm.weight.data.copy_(data["rmsnorm/weight"])
    _close(norm(data["rmsnorm/in"]), data["rmsnorm/out"], atol=1e-6)
    assert torch.equal(norm.bfloat16()(data["rmsnorm/in"].bfloat16()), data["rmsnorm/out_bf16"])


def test_a_bfloat16_model_rounds_no_timestep_rotary_angle_or_position(stdit3, inputs):
    nn.Module.to(stdit3, torch.bfloat16)
    given, seen = inputs("basic"), {}
    given["timestep"] = torch.tensor([966.67, 10.3])
    stdit3.t_embedder.mlp.register_forward_pre_hook(lambda module, args: seen.update(waves=args[0]))
    stdit3.temporal_blocks[0].register_forward_pre_hook(lambda module, args: seen.update(x=args[0], rope=args[4]))
    stdit3.x_embedder.register_forward_hook(lambda module, args, output: seen.update(tokens=output))
    stdit3(**given)
    exact = get_timestep_embedding(given["timestep"], 256, flip_sin_to_cos=True, downscale_freq_shift=0)
    assert torch.equal(seen["waves"], exact.bfloat16())
    for angle, expected in zip(seen["rope"], Rope(16).angles(5), strict=True):
        assert angle.dtype == torch.float32
        assert torch.equal(angle, expected)
