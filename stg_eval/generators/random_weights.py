"""Small random pipelines of the real diffusers classes: for tests and smoke runs, never for results.

A model's file builds its own (`small`); here is what they share. They have as many layers as the published models, so
presets and layer numbers mean the same, but a few channels. They are chosen with ``weights="random-weights(seed=0)"``,
which stands in every request made with them.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from stg_eval.types import StgEvalError


def is_random(weights: str) -> bool:
    """Tell whether a weights string asks for random weights."""
    return weights.startswith("random-weights")


def seeded(weights: str, build: Callable[[], Any]) -> Any:
    """Return the pipeline that `build` makes, the same for the same seed, in evaluation mode.

    Raises StgEvalError for a weights string that is not ``random-weights(seed=N)``.
    """
    import torch

    match = re.fullmatch(r"random-weights\(seed=(\d+)\)", weights)
    if not match:
        raise StgEvalError(f"write random weights as random-weights(seed=0), not {weights!r}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(match[1]))
        pipeline = build()
    for component in pipeline.components.values():
        if isinstance(component, torch.nn.Module):
            component.eval()
    return pipeline


T5: dict[str, Any] = {"vocab_size": 258, "d_model": 32, "d_kv": 8, "d_ff": 32, "num_layers": 1, "num_heads": 4}
"""A text encoder of one layer over `byte_tokenizer`'s tokens, 32 features each."""


def t5() -> Any:
    """Return a T5 encoder of that size."""
    from transformers import T5Config, T5EncoderModel

    return T5EncoderModel(T5Config(**T5))


def byte_tokenizer(length: int = 512) -> Any:
    """Return one token a byte, so every prompt has tokens of its own and no vocabulary file is needed."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {symbol: i for i, symbol in enumerate(["<pad>", "</s>", *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocabulary, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", model_max_length=length
    )
