"""BERT's layer (Devlin et al., NAACL 2019) as GRiT and Tag2Text use it, and the joining of word pieces to text.

Parameters bear BERT's names, which both checkpoints have.
"""

from __future__ import annotations

from collections.abc import Container
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Keys = tuple[Tensor, Tensor]
"""Keys and values [n, heads, t, D] of t tokens."""
PAD, UNKNOWN, CLASS, SEPARATOR, MASK = 0, 100, 101, 102, 103
SPECIAL = frozenset((PAD, UNKNOWN, CLASS, SEPARATOR, MASK))


class Layer(nn.Module):
    """Attention among the tokens, then to other features where `other` gives their width, then two linear layers.

    Args:
        among: False leaves the attention among the tokens out.
    """

    def __init__(self, width: int, inner: int, heads: int, other: int = 0, among: bool = True) -> None:
        super().__init__()
        if among:
            self.attention: Any = _Attention(width, width, heads)
        if other:
            self.crossattention: Any = _Attention(width, other, heads)
        self.intermediate = nn.ModuleDict({"dense": nn.Linear(width, inner)})
        self.output: Any = _output(inner, width)

    def forward(
        self, x: Tensor, seen: Keys | None = None, other: Keys | None = None, mask: Tensor | None = None
    ) -> Any:
        """Map new tokens [n, t, D] -> the same after the layer, and the keys of all tokens so far.

        Args:
            seen: Keys of earlier tokens.
            other: Keys of the other features, from `crossattention.attend_keys`.
            mask: Which tokens may be looked at, bool [n, 1, 1, t].
        """
        keys = None
        if hasattr(self, "attention"):
            keys = self.attention.attend_keys(x)
            if seen is not None:
                keys = torch.cat([seen[0], keys[0]], 2), torch.cat([seen[1], keys[1]], 2)
            x = self.attention(x, keys, mask)
        if other is not None:
            x = self.crossattention(x, other, None)
        hidden = F.gelu(self.intermediate["dense"](x))
        return self.output["LayerNorm"](self.output["dense"](hidden) + x), keys


class _Attention(nn.ModuleDict):
    """Holds "self" (query, key, value) and "output", BERT's names."""

    def __init__(self, width: int, other: int, heads: int) -> None:
        sizes = {"query": width, "key": other, "value": other}
        projections = nn.ModuleDict({name: nn.Linear(size, width) for name, size in sizes.items()})
        super().__init__({"self": projections, "output": _output(width, width)})
        self.heads = heads

    def attend_keys(self, features: Tensor) -> Keys:
        """Return keys and values of features [n, t, D]."""
        return self._project("key", features), self._project("value", features)

    def forward(self, x: Tensor, keys: Keys, mask: Tensor | None) -> Tensor:
        output: Any = self["output"]
        query = self._project("query", x)
        attended = F.scaled_dot_product_attention(query, *keys, attn_mask=mask).transpose(1, 2).flatten(2)
        out: Tensor = output["LayerNorm"](output["dense"](attended) + x)
        return out

    def _project(self, name: str, x: Tensor) -> Tensor:
        projections: Any = self["self"]
        heads: Tensor = projections[name](x).unflatten(2, (self.heads, -1)).transpose(1, 2)
        return heads


def _output(inside: int, width: int) -> nn.ModuleDict:
    return nn.ModuleDict({"dense": nn.Linear(inside, width), "LayerNorm": nn.LayerNorm(width, eps=1e-12)})


def read_words(vocabulary: Path) -> list[str]:
    """Return BERT's word pieces, one a line of vocab.txt."""
    return vocabulary.read_text(encoding="utf-8").splitlines()


def to_text(ids: list[int], words: list[str], special: Container[int] = SPECIAL) -> str:
    """Map token ids -> text, as BERT's tokenizer joins it and tidies up in front of punctuation."""
    text = " ".join(words[i] for i in ids if i not in special).replace(" ##", "").strip()
    for mark in (" .", " ?", " !", " ,"):
        text = text.replace(mark, mark[1])
    text = text.replace(" ' ", "'")
    for ending in (" n't", " 'm", " 's", " 've", " 're"):
        text = text.replace(ending, ending[1:])
    return text
