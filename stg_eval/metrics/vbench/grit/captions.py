"""GRiT's mouth: a transformer that names or describes what lies in a box, word piece by word piece.

Source: vbench 0.1.5, vbench/third_party/grit_src/grit/modeling/text/text_decoder.py (after GIT, Wang et al., 2022). The
original computes all tokens anew at each step; here keys and values of earlier ones are kept, which changes rounding
alone. Parameters bear the names of the published checkpoint.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from stg_eval.metrics.vbench.bert import CLASS, SEPARATOR, Keys, Layer

LONGEST = 40
"""Tokens with the first, which says the task."""
NAME, DESCRIBE = CLASS, 104
"""First token of the two tasks."""
Memory = list[Keys]


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
        encoder = nn.ModuleDict({"layer": nn.ModuleList(Layer(width, 4 * width, width // 64) for _ in range(layers))})
        self.transformer: Any = nn.ModuleDict({"encoder": encoder})
        self.output = nn.Linear(width, words)

    def forward(self, features: Tensor, first: int) -> list[list[int]]:
        """Return greedy texts without their first token, up to and without the end."""
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
        """Return new tokens [n, t, D] through the layers; they see those in `memory` and each other, and join it."""
        for i, layer in enumerate(self.transformer["encoder"]["layer"]):
            x, seen = layer(x, memory[i] if len(memory) > i else None)
            memory[i : i + 1] = [seen]
        return x
