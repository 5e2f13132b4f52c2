"""Open-Sora 1.2's text: quality scores appended, cleaned twice, encoded by T5-v1.1-XXL to 300 tokens."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
from diffusers import PixArtSigmaPipeline
from torch import Tensor

from stg_eval.generators.opensora.checkpoint import fetch
from stg_eval.types import StgEvalError

logger = logging.getLogger(__name__)

_FILES = ("*.json", "*.model", "*.safetensors", "pytorch_model*", "*/*.json", "*/*.model", "text_encoder/*.safetensors")


def with_scores(
    prompt: str,
    aesthetic_score: float | None = None,
    motion_score: float | None = None,
    camera_motion: str | None = None,
) -> str:
    """Return the prompt with the scores it was captioned with in training, each unless the prompt already names it."""
    if aesthetic_score is not None and "aesthetic score:" not in prompt:
        prompt += f" aesthetic score: {aesthetic_score:.1f}."
    if motion_score is not None and "motion score:" not in prompt:
        prompt += f" motion score: {motion_score:.1f}."
    if camera_motion is not None and "camera motion:" not in prompt:
        prompt += f" camera motion: {camera_motion}."
    return prompt


def clean(prompt: str) -> str:
    """Return DeepFloyd's caption cleaning, which lowercases and strips links, markup and stray signs; twice, as
    upstream."""
    cleaner = PixArtSigmaPipeline._clean_caption
    return str(cleaner(PixArtSigmaPipeline, cleaner(PixArtSigmaPipeline, prompt)))


def encode(
    texts: Sequence[str], tokenizer: Any, text_encoder: Any, max_length: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Return features [B, max_length, C] in the encoder's dtype, and the mask int64 [B, max_length] of real tokens.

    A text longer than max_length tokens is cut; a warning says so, once for each text.
    """
    for text in texts:
        _warn_if_cut(text, len(tokenizer(text, verbose=False).input_ids), max_length)
    tokens = tokenizer(
        list(texts), max_length=max_length, padding="max_length", truncation=True, return_tensors="pt"
    ).to(device)  # an encoder that is offloaded layer by layer says meta
    features = text_encoder(input_ids=tokens.input_ids, attention_mask=tokens.attention_mask).last_hidden_state
    return features, tokens.attention_mask


@cache
def _warn_if_cut(text: str, length: int, max_length: int) -> None:
    if length > max_length:
        logger.warning("text of %d tokens cut to the model's %d: %.60s…", length, max_length, text)


def load_text_encoder(source: str | Path) -> tuple[Any, Any]:
    """Return (tokenizer, T5 encoder in float32) from a local folder or a hub id, at its top or in tokenizer/ and
    text_encoder/. Raises StgEvalError where it is not a complete T5 of that kind."""
    from transformers import AutoTokenizer, T5EncoderModel

    folder = fetch(source, _FILES)
    encoder, tokenizer = (
        folder / name if (folder / name).is_dir() else folder for name in ("text_encoder", "tokenizer")
    )
    try:
        model, loading = T5EncoderModel.from_pretrained(encoder, dtype=torch.float32, output_loading_info=True)
        missing = sorted(loading["missing_keys"])
        if missing:
            raise StgEvalError(f"{encoder} lacks {missing[0]} and {len(missing) - 1} more tensors; download it again")
        return AutoTokenizer.from_pretrained(tokenizer), model.requires_grad_(False).eval()
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise StgEvalError(f"{folder} is not a complete T5 text encoder with its tokenizer: {reason:.200}") from error
