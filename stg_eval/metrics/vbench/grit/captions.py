"""GRiT's mouth: a transformer that names or describes what lies in a box, word piece by word piece.

Source: vbench 0.1.5, vbench/third_party/grit_src/grit/modeling/text/text_decoder.py (after GIT, Wang et al., 2022). The
original computes all tokens anew at each step; here keys and values of earlier ones are kept, which changes rounding
alone. Parameters bear the names of the published checkpoint.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

LONGEST = 40
"""Tokens with the first, which says the task."""
CLASS, SEPARATOR = 101, 102
NAME, DESCRIBE = CLASS, 104
"""First token of the two tasks."""
SPECIAL = frozenset((0, 100, CLASS, SEPARATOR, 103))
Memory = list[tuple[Tensor, Tensor]]


class Captioner(nn.Module):
    """Features [n, C, s, s] of boxes -> token ids of n texts."""

    def __init__(self, channels: int, width: int, layers: int, words: int, positions: int) -> None:
        super().__init__()
        self.object_feature_projection = nn.Sequential(nn.Linear(channels, width), nn.LayerNorm(width))
        self.embedding: Any = nn.ModuleDict(
            {
                "words": nn.Embedding(words, width),
                "positions": nn.Embedding(positions, width),
                "layer_norm": nn.LayerNorm(width, eps=1e-8),
            }
        )
        encoder = nn.ModuleDict({"layer": nn.ModuleList(_Layer(width) for _ in range(layers))})
        self.transformer: Any = nn.ModuleDict({"encoder": encoder})
        self.output = nn.Linear(width, words)

    def forward(self, features: Tensor, first: int) -> list[list[int]]:
        """Greedy texts without their first token, up to and without the end."""
        memory: Memory = []
        self._layers(self.object_feature_projection(features.flatten(2).transpose(1, 2)), memory)
        last = torch.full((len(features),), first, device=features.device)
        done, texts = torch.zeros_like(last, dtype=torch.bool), []
        for position in range(LONGEST - 1):
            embedding = self.embedding["words"](last) + self.embedding["positions"].weight[position]
            logits = self.output(self._layers(self.embedding["layer_norm"](embedding)[:, None], memory)[:, 0])
            if position:  # no word twice in a row
                logits = logits.scatter(1, last[:, None], -10000.0)
            last = torch.where(done, SEPARATOR, logits.argmax(1))
            done = done | (last == SEPARATOR)
            texts.append(last)
            if done.all():
                break
        return [[t for t in row if t != SEPARATOR] for row in torch.stack(texts, 1).tolist()]

    def _layers(self, x: Tensor, memory: Memory) -> Tensor:
        """New tokens [n, t, D] through the layers; they see those in `memory` and each other, and join it."""
        for i, layer in enumerate(self.transformer["encoder"]["layer"]):
            x, seen = layer(x, memory[i] if len(memory) > i else None)
            memory[i : i + 1] = [seen]
        return x


class _Layer(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.heads = width // 64
        self.attention: Any = nn.ModuleDict(
            {
                "self": nn.ModuleDict({name: nn.Linear(width, width) for name in ("query", "key", "value")}),
                "output": _output(width, width),
            }
        )
        self.intermediate = nn.ModuleDict({"dense": nn.Linear(width, 4 * width)})
        self.output: Any = _output(4 * width, width)

    def forward(self, x: Tensor, seen: tuple[Tensor, Tensor] | None) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        project, output = self.attention["self"], self.attention["output"]
        query, key, value = (
            project[name](x).unflatten(2, (self.heads, -1)).transpose(1, 2) for name in ("query", "key", "value")
        )
        if seen is not None:
            key, value = torch.cat([seen[0], key], 2), torch.cat([seen[1], value], 2)
        attended = F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
        x = output["LayerNorm"](output["dense"](attended) + x)
        hidden = F.gelu(self.intermediate["dense"](x))
        return self.output["LayerNorm"](self.output["dense"](hidden) + x), (key, value)


def _output(inside: int, width: int) -> nn.ModuleDict:
    return nn.ModuleDict({"dense": nn.Linear(inside, width), "LayerNorm": nn.LayerNorm(width, eps=1e-12)})


def read_words(vocabulary: Path) -> list[str]:
    """BERT's word pieces, one a line of vocab.txt."""
    return vocabulary.read_text(encoding="utf-8").splitlines()


def to_text(ids: list[int], words: list[str]) -> str:
    """Token ids -> text, as BERT's tokenizer joins it and tidies up in front of punctuation."""
    text = " ".join(words[i] for i in ids if i not in SPECIAL).replace(" ##", "").strip()
    for mark in (" .", " ?", " !", " ,"):
        text = text.replace(mark, mark[1])
    text = text.replace(" ' ", "'")
    for ending in (" n't", " 'm", " 's", " 've", " 're"):
        text = text.replace(ending, ending[1:])
    return text
