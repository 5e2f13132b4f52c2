"""FLUX.1 [dev] draws first frames from prompts, so that image-to-video models can run prompt suites (EvalCrafter)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from stg_eval.generators.random_weights import byte_tokenizer, t5
from stg_eval.storage import atomic
from stg_eval.types import Case, JSONValue, StgEvalError

WEIGHTS = "black-forest-labs/FLUX.1-dev@3de623fc3c33e44ffbe2bad470d0f45bccf2eb21"


def first_frames(
    cases: Sequence[Case],
    folder: Path,
    *,
    device: str,
    weights: str = WEIGHTS,
    dtype: str = "bfloat16",
    height: int = 576,
    width: int = 1024,
    num_inference_steps: int = 50,
    guidance_scale: float = 3.5,
    seed: int = 0,
    offload: str = "none",
    vae_tiling: bool = False,
) -> list[Case]:
    """Return the cases with a first frame each, a PNG of height x width in `folder`, drawn from the prompt.

    Defaults are the model card's. A file's name is the digest of all that determines it: what is there already is kept,
    and an interrupted call continues where it was. offload, vae_tiling: see `loading.MEMORY_SETTINGS`.

    Raises StgEvalError for a case without a prompt, a size not divisible by 16, and a checkpoint that is missing.
    """
    if min(height, width) <= 0 or height % 16 or width % 16:
        raise StgEvalError(f"FLUX needs height and width divisible by 16, not {height}x{width}")
    if num_inference_steps <= 0:
        raise StgEvalError(f"FLUX needs a step at least, not {num_inference_steps}")
    recipe: dict[str, JSONValue] = {
        "weights": weights,
        "dtype": dtype,
        "height": height,
        "width": width,
        "num_inference_steps": num_inference_steps,
        "guidance_scale": guidance_scale,
        "seed": seed,
        **({"vae_tiling": True} if vae_tiling else {}),
    }
    files = [folder / f"{_digest({**recipe, 'prompt': _prompt(case)})[:32]}.png" for case in cases]
    missing = {file: case for file, case in zip(files, cases, strict=True) if not file.is_file()}
    if missing:
        _draw(missing, recipe, device, {"offload": offload, "vae_tiling": vae_tiling})
    return [
        replace(case, image=str(file), image_sha256=hashlib.sha256(file.read_bytes()).hexdigest())
        for file, case in zip(files, cases, strict=True)
    ]


SETTINGS: dict[str, JSONValue] = dict(first_frames.__kwdefaults__ or {})
"""What may be told to `first_frames`, with its defaults."""


def _draw(
    missing: Mapping[Path, Case], recipe: Mapping[str, JSONValue], device: str, settings: Mapping[str, JSONValue]
) -> None:
    import torch

    from stg_eval.generators.loading import enough_memory, open_pipeline, place

    with enough_memory("FLUX.1", device, settings, "a smaller size"):
        pipeline = open_pipeline("FluxPipeline", small, dtype=str(recipe["dtype"]), weights=str(recipe["weights"]))
        place(pipeline, device, settings)
        pipeline.set_progress_bar_config(disable=True)
        for file, case in missing.items():
            noise_seed = int(_digest({"prompt": case.prompt, "seed": recipe["seed"]})[:16], 16) >> 1
            image = pipeline(
                case.prompt,
                **{k: v for k, v in recipe.items() if k not in ("weights", "dtype", "seed", "vae_tiling")},
                generator=torch.Generator("cpu").manual_seed(noise_seed),
            ).images[0]
            try:
                with atomic.replacing(file) as partial:
                    image.save(partial, format="PNG")
            except OSError as error:
                raise StgEvalError(f"cannot write {file} ({error.strerror}); what is drawn is kept") from error


def small() -> Any:
    """Return a small pipeline for random weights, see `DiffusersModel.small`."""
    from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, FluxPipeline, FluxTransformer2DModel
    from transformers import CLIPTextConfig, CLIPTextModel

    text = CLIPTextConfig(
        vocab_size=258,
        hidden_size=32,
        intermediate_size=32,
        projection_dim=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=0,
    )
    return FluxPipeline(
        transformer=FluxTransformer2DModel(
            in_channels=16,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=32,
            pooled_projection_dim=32,
            axes_dims_rope=(4, 4, 8),
            guidance_embeds=True,
        ),
        vae=AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            block_out_channels=(8, 8, 8, 8),
            norm_num_groups=4,
            latent_channels=4,
            shift_factor=0.1,
            use_quant_conv=False,
            use_post_quant_conv=False,
        ),
        scheduler=FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
        text_encoder=CLIPTextModel(text),
        text_encoder_2=t5(),
        tokenizer=byte_tokenizer(77),
        tokenizer_2=byte_tokenizer(),
    )


def _prompt(case: Case) -> str:
    if not case.prompt:
        raise StgEvalError(f"case {case.id!r} has no prompt to draw a first frame from")
    return case.prompt


def _digest(value: Mapping[str, JSONValue]) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=False).encode()).hexdigest()
