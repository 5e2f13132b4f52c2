"""What a guidance costs: FLOPs of a step with CFG + guidance over one with CFG alone, full-size models, counted.

    python benchmarks/guidance_flops.py           a table, with the cost of running every weak pass in full beside it
    python benchmarks/guidance_flops.py --json    one object, name -> ratio
    python benchmarks/guidance_flops.py --shares  each layer's share of the model from its blocks on (costs in cards)

Everything is on the meta device: no weights, no memory, the shapes of the published models. To add a case, append a
Case; `inputs` are for a batch [u, c].
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.fx.experimental._config as meta_config
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from stg_eval import generators
from stg_eval.generators.guidance import LayerMap, guided
from stg_eval.types import Guidance

meta_config.meta_nonzero_assume_all_nonzero = True  # Mochi looks up which text tokens are valid: all


@dataclass(frozen=True)
class Case:
    """One line of the table."""

    name: str
    model: Callable[[], nn.Module]
    inputs: Callable[[], dict[str, Any]]
    layer_map: LayerMap
    guidance: str


def svd() -> nn.Module:
    from diffusers import UNetSpatioTemporalConditionModel

    return UNetSpatioTemporalConditionModel()  # the defaults are the published configuration


def svd_inputs() -> dict[str, Any]:
    """25 frames, 576 x 1024."""
    return {
        "sample": torch.empty(2, 25, 8, 72, 128),
        "timestep": torch.empty(()),
        "encoder_hidden_states": torch.empty(2, 1, 1024),
        "added_time_ids": torch.empty(2, 3),
    }


class _Rope(nn.Module):
    """Mochi's rotary table by shape alone: the real one opens an autocast, which the meta device does not have."""

    def forward(self, frequencies: torch.Tensor, frames: int, height: int, width: int, **_: Any) -> Any:
        shape = (frames * height * width, *frequencies.shape[1:])
        return torch.empty(shape), torch.empty(shape)


def mochi() -> nn.Module:
    from diffusers import MochiTransformer3DModel

    model = MochiTransformer3DModel()  # the defaults are the published configuration
    model.rope = _Rope()
    return model


def mochi_inputs() -> dict[str, Any]:
    """163 frames, 480 x 848."""
    return {
        "hidden_states": torch.empty(2, 12, 28, 60, 106),
        "encoder_hidden_states": torch.empty(2, 256, 4096),
        "timestep": torch.empty(2),
        "encoder_attention_mask": torch.ones(2, 256, dtype=torch.bool),
    }


def ltx() -> nn.Module:
    from diffusers import LTXVideoTransformer3DModel

    return LTXVideoTransformer3DModel()


def ltx_inputs() -> dict[str, Any]:
    """161 frames, 512 x 704."""
    return {
        "hidden_states": torch.empty(2, 21 * 16 * 22, 128),
        "encoder_hidden_states": torch.empty(2, 128, 4096),
        "timestep": torch.empty(2),
        "encoder_attention_mask": torch.ones(2, 128),
        "num_frames": 21,
        "height": 16,
        "width": 22,
        "rope_interpolation_scale": (8 / 25, 32, 32),
    }


def cogvideox() -> nn.Module:
    from diffusers import CogVideoXTransformer3DModel

    return CogVideoXTransformer3DModel(
        num_attention_heads=48, num_layers=42, use_rotary_positional_embeddings=True, sample_frames=49
    )


def cogvideox_inputs() -> dict[str, Any]:
    """49 frames, 480 x 720."""
    return {
        "hidden_states": torch.empty(2, 13, 16, 60, 90),
        "encoder_hidden_states": torch.empty(2, 226, 4096),
        "timestep": torch.empty(2),
        "image_rotary_emb": (torch.empty(13 * 30 * 45, 64), torch.empty(13 * 30 * 45, 64)),
    }


def cogvideox_i2v() -> nn.Module:
    from diffusers import CogVideoXTransformer3DModel

    return CogVideoXTransformer3DModel(
        num_attention_heads=48,
        num_layers=42,
        in_channels=32,
        use_rotary_positional_embeddings=True,
        use_learned_positional_embeddings=True,
        sample_frames=49,
    )


def cogvideox_i2v_inputs() -> dict[str, Any]:
    """49 frames, 480 x 720."""
    return {**cogvideox_inputs(), "hidden_states": torch.empty(2, 13, 32, 60, 90)}


def wan() -> nn.Module:
    from diffusers import WanTransformer3DModel

    return WanTransformer3DModel(num_attention_heads=12, ffn_dim=8960, num_layers=30)


def wan_inputs() -> dict[str, Any]:
    """81 frames, 480 x 832."""
    return {
        "hidden_states": torch.empty(2, 16, 21, 60, 104),
        "encoder_hidden_states": torch.empty(2, 512, 4096),
        "timestep": torch.empty(2),
    }


def wan14b() -> nn.Module:
    from diffusers import WanTransformer3DModel

    return WanTransformer3DModel(num_attention_heads=40, ffn_dim=13824, num_layers=40)


def ltx13b() -> nn.Module:
    from diffusers import LTXVideoTransformer3DModel

    return LTXVideoTransformer3DModel(
        num_attention_heads=32, attention_head_dim=128, cross_attention_dim=4096, num_layers=48
    )


def ltx13b_inputs() -> dict[str, Any]:
    """121 frames, 704 x 1216."""
    return {
        "hidden_states": torch.empty(2, 16 * 22 * 38, 128),
        "encoder_hidden_states": torch.empty(2, 128, 4096),
        "timestep": torch.empty(2),
        "encoder_attention_mask": torch.ones(2, 128),
        "num_frames": 16,
        "height": 22,
        "width": 38,
        "rope_interpolation_scale": (8 / 30, 32, 32),
    }


def hunyuan() -> nn.Module:
    from diffusers import HunyuanVideoTransformer3DModel

    return HunyuanVideoTransformer3DModel()  # the defaults are the published configuration


def hunyuan_inputs() -> dict[str, Any]:
    """129 frames, 720 x 1280."""
    return {
        "hidden_states": torch.empty(2, 16, 33, 90, 160),
        "timestep": torch.empty(2),
        "encoder_hidden_states": torch.empty(2, 256, 4096),
        "encoder_attention_mask": torch.ones(2, 256, dtype=torch.bool),
        "pooled_projections": torch.empty(2, 768),
        "guidance": torch.empty(2),
    }


class _Image(nn.Module):
    """HunyuanVideo 1.5's tokens of no image. It looks whether there is one, which the meta device cannot tell."""

    def forward(self, image_embeds: torch.Tensor) -> torch.Tensor:
        return torch.empty(*image_embeds.shape[:2], 2048)


def hunyuan15() -> nn.Module:
    from diffusers import HunyuanVideo15Transformer3DModel

    model = HunyuanVideo15Transformer3DModel()  # the defaults are the published configuration
    model.image_embedder = _Image()
    return model


def hunyuan15_inputs() -> dict[str, Any]:
    """121 frames, 480 x 848. Half of the text's 1000, 256 and 729 tokens: it sorts the valid ones from the others, and
    on the meta device all are both."""
    return {
        "hidden_states": torch.empty(2, 65, 31, 30, 53),
        "timestep": torch.empty(2),
        "encoder_hidden_states": torch.empty(2, 500, 3584),
        "encoder_attention_mask": torch.ones(2, 500, dtype=torch.bool),
        "encoder_hidden_states_2": torch.empty(2, 128, 1472),
        "encoder_attention_mask_2": torch.ones(2, 128, dtype=torch.bool),
        "image_embeds": torch.zeros(2, 364, 1152, device="cpu"),
        "return_dict": False,
    }


def ltx23() -> nn.Module:
    from diffusers import LTX2VideoTransformer3DModel

    return LTX2VideoTransformer3DModel(
        gated_attn=True,
        cross_attn_mod=True,
        audio_gated_attn=True,
        audio_cross_attn_mod=True,
        use_prompt_embeddings=False,
        perturbed_attn=True,
        rope_type="split",
    )


def ltx23_inputs() -> dict[str, Any]:
    """121 frames, 512 x 768, and five seconds of audio."""
    return {
        **ltx2_inputs(),
        "encoder_hidden_states": torch.empty(2, 1024, 4096),
        "audio_encoder_hidden_states": torch.empty(2, 1024, 2048),
    }


def ltx2() -> nn.Module:
    from diffusers import LTX2VideoTransformer3DModel

    return LTX2VideoTransformer3DModel()  # the defaults are the published configuration


def ltx2_inputs() -> dict[str, Any]:
    """121 frames, 512 x 768, and five seconds of audio."""
    frames, height, width, audio = 16, 16, 24, 126
    tokens = frames * height * width
    return {
        "hidden_states": torch.empty(2, tokens, 128),
        "audio_hidden_states": torch.empty(2, audio, 128),
        "encoder_hidden_states": torch.empty(2, 1024, 3840),
        "audio_encoder_hidden_states": torch.empty(2, 1024, 3840),
        "timestep": torch.empty(2),
        "sigma": torch.empty(2),
        "encoder_attention_mask": torch.ones(2, 1024),
        "audio_encoder_attention_mask": torch.ones(2, 1024),
        "num_frames": frames,
        "height": height,
        "width": width,
        "fps": 24.0,
        "audio_num_frames": audio,
        "video_coords": torch.empty(2, 3, tokens, 2),
        "audio_coords": torch.empty(2, 1, audio, 2),
        "use_cross_timestep": True,
        "return_dict": False,
    }


def opensora() -> nn.Module:
    from stg_eval.generators.opensora.stdit3 import STDiT3

    return STDiT3()  # the defaults are the published configuration


def opensora_inputs() -> dict[str, Any]:
    """51 frames, 240 x 426."""
    return {
        "hidden_states": torch.empty(2, 4, 15, 30, 53),
        "timestep": torch.empty(2),
        "encoder_hidden_states": torch.empty(2, 300, 4096),
        "fps": torch.empty(2),
        "height": 240,
        "width": 426,
    }


SVD, MOCHI, LTX, COGVIDEOX, WAN, OPEN_SORA, HUNYUAN = (
    generators.get(name).layer_map for name in ("svd", "mochi", "ltx", "cogvideox", "wan", "opensora", "hunyuan")
)

CASES = [
    Case("svd-8-spatial-temporal", svd, svd_inputs, SVD, "cfg3+stg-a[8]s2t2"),
    Case("svd-8-spatial", svd, svd_inputs, SVD, "cfg3+stg-a[8]s2"),
    Case("svd-8-r-spatial-temporal", svd, svd_inputs, SVD, "cfg3+stg-r[8]s1t1"),
    Case("mochi-stg-r-35", mochi, mochi_inputs, MOCHI, "cfg4.5+stg-r[35]w1"),
    Case("mochi-stg-r-34", mochi, mochi_inputs, MOCHI, "cfg4.5+stg-r[34]w1"),
    Case("mochi-stg-a-35", mochi, mochi_inputs, MOCHI, "cfg4.5+stg-a[35]w2"),
    Case("mochi-stg-a-34", mochi, mochi_inputs, MOCHI, "cfg4.5+stg-a[34]w2"),
    Case("opensora-11-spatial-temporal", opensora, opensora_inputs, OPEN_SORA, "cfg7+stg-a[11]s2t2"),
    Case("ltx-stg-a-19", ltx, ltx_inputs, LTX, "cfg3+stg-a[19]w1"),
    Case("cogvideox-stg-a-11", cogvideox, cogvideox_inputs, COGVIDEOX, "cfg6+stg-a[11]w1"),
    Case("wan-stg-a-8", wan, wan_inputs, WAN, "cfg5+stg-a[8]w1"),
    Case("wan-slg-9", wan, wan_inputs, WAN, "cfg5+stg-r[9]u"),
    Case("wan14b-stg-a-8", wan14b, wan_inputs, WAN, "cfg5+stg-a[8]w1"),
    Case("wan14b-slg-9", wan14b, wan_inputs, WAN, "cfg5+stg-r[9]u"),
    Case("ltx13b-stg-a-28", ltx13b, ltx13b_inputs, LTX, "cfg6+stg-a[28]w4"),
    Case("ltx2-stg-a-28", ltx2, ltx2_inputs, generators.get("ltx2").layer_map, "cfg3+stg-a[28]w1"),
    Case("ltx23-stg-a-28", ltx23, ltx23_inputs, generators.get("ltx23").layer_map, "cfg3+stg-a[28]w1"),
    Case("hunyuan-stg-r-2", hunyuan, hunyuan_inputs, HUNYUAN, "cfg6+stg-r[2]w1"),
    Case("hunyuan15-stg-r-2", hunyuan15, hunyuan15_inputs, generators.get("hunyuan15").layer_map, "cfg6+stg-r[2]w1"),
    Case("cogvideox-i2v-stg-a-11", cogvideox_i2v, cogvideox_i2v_inputs, COGVIDEOX, "cfg6+stg-a[11]w1"),
]


def flops(model: nn.Module, case: Case, guidance: Guidance, **options: Any) -> int:
    """FLOPs of one guided step's denoiser calls."""
    with (
        torch.no_grad(),
        FlopCounterMode(display=False) as counter,
        guided(model, guidance, case.layer_map, batch_order="uc", **options),
    ):
        model(**case.inputs())
    return counter.get_total_flops()


def ratios(case: Case) -> tuple[float, float, int]:
    """(shared prefix, full weak passes): FLOPs over CFG's; and CFG's FLOPs."""
    with torch.device("meta"):
        model = case.model().eval().to("meta")
        guidance = Guidance.parse(case.guidance)
        base = flops(model, case, Guidance(cfg_scale=guidance.cfg_scale))
        shared = flops(model, case, guidance)
        naive = flops(model, case, guidance, share_prefix=False)
    return shared / base, naive / base, base


def shares(
    model: Callable[[], nn.Module], inputs: Callable[[], dict[str, Any]], layer_map: LayerMap
) -> list[list[float]]:
    """For each layer, the share of one pass that each of its blocks' weak passes costs with a shared prefix (STG-A)."""
    table = []
    with torch.device("meta"):
        network = model().eval().to("meta")
        case = Case("", model, inputs, layer_map, "")
        base = flops(network, case, Guidance())
        for number, layer in enumerate(layer_map.layers(network), layer_map.first):
            row = []
            for kind in layer.blocks:
                letter = {"spatial": "s", "temporal": "t", "joint": "w"}[kind]
                guidance = Guidance.parse(f"cfg1+stg-a[{number}]{letter}1")
                row.append(round(2 * (flops(network, case, guidance) / base - 1), 4))
            table.append(row)
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--json", action="store_true", help="print one object, name -> ratio")
    parser.add_argument("--shares", action="store_true", help="print every layer's cost in passes")
    options = parser.parse_args()
    if options.shares:
        for name, model, inputs, layer_map in (("svd", svd, svd_inputs, SVD), ("mochi", mochi, mochi_inputs, MOCHI)):
            print(name, json.dumps(shares(model, inputs, layer_map)))
        return
    rows = {case.name: ratios(case) for case in CASES}
    if options.json:
        print(json.dumps({name: round(shared, 4) for name, (shared, _, _) in rows.items()}))
        return
    print(f"{'case':28} {'shared':>8} {'full passes':>12} {'TFLOP of a CFG step':>20}")
    for name, (shared, naive, base) in rows.items():
        print(f"{name:28} {shared:8.3f} {naive:12.3f} {base / 1e12:20.1f}")


if __name__ == "__main__":
    main()
