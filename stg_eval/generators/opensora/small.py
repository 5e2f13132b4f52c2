"""Open-Sora 1.2 with random weights: small, to try the whole path on a CPU; full size, to time it. Clips are noise."""

from __future__ import annotations

import re
from typing import Any

import torch
from torch import nn
from transformers import ByT5Tokenizer, T5Config, T5EncoderModel

from stg_eval.generators.opensora.pipeline import OpenSoraPipeline, rectified_flow
from stg_eval.generators.opensora.stdit3 import STDiT3
from stg_eval.generators.opensora.vae import OpenSoraVAE
from stg_eval.types import StgEvalError

SMALL_TRANSFORMER: dict[str, Any] = {"hidden_size": 32, "num_heads": 2, "caption_channels": 32}
"""All 28 layers, so that layers are named as in the released model."""

SMALL_VAE: dict[str, Any] = {
    "vae_2d": {"block_out_channels": [8, 8, 16, 16], "layers_per_block": 1, "norm_num_groups": 4},
    "vae_temporal": {"filters": 8, "num_res_blocks": 1, "num_groups": 4},
}


def small_pipeline(name: str, torch_dtype: torch.dtype) -> OpenSoraPipeline:
    """Return the pipeline `random-weights(seed=N)`, or at full size `random-weights(full,seed=N)`; the same for the
    same N.

    The text encoder is a one-layer T5 over bytes in both, since T5-XXL's size has no part in a denoising step.
    Raises StgEvalError for other names.
    """
    match = re.fullmatch(r"random-weights\((full,)?seed=(\d+)\)", name)
    if not match:
        raise StgEvalError(f"write random weights as random-weights(seed=0) or random-weights(full,seed=0), not {name}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(match[2]))
        transformer = STDiT3(**({} if match[1] else SMALL_TRANSFORMER))
        vae = OpenSoraVAE(**({} if match[1] else SMALL_VAE))
        encoder = T5EncoderModel(
            T5Config(
                vocab_size=384,
                d_model=transformer.config.caption_channels,
                d_kv=8,
                d_ff=64,
                num_layers=1,
                num_heads=4,
                feed_forward_proj="gated-gelu",
            )
        )
    for model in (transformer, vae):
        nn.Module.to(model, torch_dtype)  # ModelMixin.to warns of parts to keep in float32, of which there are none
    for model in (encoder, transformer, vae):
        model.requires_grad_(False).eval()
    return OpenSoraPipeline(ByT5Tokenizer(), encoder, transformer, vae, rectified_flow())
