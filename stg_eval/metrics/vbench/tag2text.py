"""Tag2Text (Huang et al., ICLR 2024): tags what a picture shows and captions it from the tags.

Sources: vbench 0.1.5, vbench/third_party/tag2Text (its Swin and list of tags); beam search after transformers 4.33.2,
which VBench pins. Parameters bear the names of the published checkpoint.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from stg_eval.metrics.vbench import import_vbench
from stg_eval.metrics.vbench.bert import PAD, SEPARATOR, SPECIAL, Keys, Layer, read_words, to_text

SIZE = 384
PROMPT = "a picture of "
CONFIDENCE = 0.7
"""Least probability of a tag."""
IGNORED = (127, 3351, 3265, 3338, 3355, 3359)
"""Tags that the original never gives."""
BEAMS, SHORTEST, LONGEST, TAG_TOKENS = 3, 10, 30, 40
BEGIN, ENCODE = 30522, 30523
"""Tokens added to BERT's: the first of a caption, and the first of the tags."""


class Tag2Text(nn.Module):
    """Captions pictures one at a time."""

    def __init__(self, state: Mapping[str, Tensor], vocabulary: Path) -> None:
        super().__init__()
        from tokenizers import BertWordPieceTokenizer

        text = _Text(state, "text_decoder.bert.")
        words, width = state["text_decoder.bert.embeddings.word_embeddings.weight"].shape
        self.visual_encoder = _swin(state)
        self.vision_multi = _layers(state, "vision_multi.", heads=4, among=False)
        self.label_embed = nn.Embedding(*state["label_embed.weight"].shape)
        self.fc = nn.ParameterDict({"W": state["fc.W"], "b": state["fc.b"]})
        self.tag_encoder = _Text(state, "tag_encoder.")
        transform = nn.ModuleDict({"dense": nn.Linear(width, width), "LayerNorm": nn.LayerNorm(width, eps=1e-12)})
        head = nn.ModuleDict({"transform": transform, "decoder": nn.Linear(width, words)})
        self.text_decoder: Any = nn.ModuleDict({"bert": text, "cls": nn.ModuleDict({"predictions": head})})
        self.load_state_dict({name: state[name] for name, _ in self.named_parameters()}, strict=False)  # buffers stay
        self.tags = import_vbench("vbench.third_party.tag2Text.tag_class").tra_array.tolist()
        self.words, self.coder = read_words(vocabulary), BertWordPieceTokenizer(str(vocabulary), lowercase=True)

    def caption(self, image: Tensor) -> str:
        """Map image float32 [3, 384, 384], normalised -> what it shows, without "a picture of"."""
        features = self.visual_encoder(image[None])
        x = self.label_embed.weight[None]
        for layer in self.vision_multi["encoder"]["layer"]:
            x, _ = layer(x, other=layer.crossattention.attend_keys(features))
        confident = ((self.fc["W"] * x).sum(-1) + self.fc["b"])[0].sigmoid() > CONFIDENCE
        tags = " | ".join(self.tags[i] for i in confident.nonzero()[:, 0].tolist() if i not in IGNORED)
        ids = [ENCODE, *self.coder.encode(tags, add_special_tokens=False).ids[: TAG_TOKENS - 2], SEPARATOR]
        padded = torch.tensor([ids + [PAD] * (TAG_TOKENS - len(ids))], device=image.device)
        encoded, _ = self.tag_encoder(padded, features, mask=(padded != PAD)[:, None, None])
        prompt = [BEGIN, *self.coder.encode(PROMPT, add_special_tokens=False).ids]
        return to_text(self._search(prompt, encoded), self.words, SPECIAL | {BEGIN, ENCODE})[len(PROMPT) :]

    def _search(self, prompt: list[int], encoded: Tensor) -> list[int]:
        """Return best text by beam search: mean log-probability over all tokens, its end not counted."""
        decoder: _Text = self.text_decoder["bert"]
        other = [
            (key.expand(BEAMS, -1, -1, -1), value.expand(BEAMS, -1, -1, -1)) for key, value in decoder.keys(encoded)
        ]
        beams = torch.tensor([prompt] * BEAMS, device=encoded.device)
        totals = torch.tensor([0.0, -1e9, -1e9], device=encoded.device)
        seen: list[Keys] = []
        for position in range(len(prompt)):
            x, seen = decoder(beams[:, position : position + 1], other=other, seen=seen)
        finished: list[tuple[float, list[int]]] = []
        while True:
            scores = self._logits(x[:, 0]).log_softmax(-1)
            if beams.shape[1] < SHORTEST:
                scores[:, SEPARATOR] = -float("inf")
            best = (scores + totals[:, None]).flatten().topk(2 * BEAMS)
            rows, tokens = best.indices // scores.shape[1], best.indices % scores.shape[1]
            going: list[int] = []
            for rank, (row, token, total) in enumerate(
                zip(rows.tolist(), tokens.tolist(), best.values.tolist(), strict=True)
            ):
                if token != SEPARATOR:
                    going.append(rank)
                elif rank < BEAMS:
                    finished = _kept(finished, total / beams.shape[1], beams[row].tolist())
                if len(going) == BEAMS:
                    break
            length = beams.shape[1] + 1
            if len(finished) == BEAMS and finished[-1][0] >= best.values[0].item() / length:
                break
            rows, totals = rows[going], best.values[going]
            beams = torch.cat([beams[rows], tokens[going][:, None]], 1)
            if length >= LONGEST:
                for beam, total in zip(beams.tolist(), totals.tolist(), strict=True):
                    finished = _kept(finished, total / length, beam)
                break
            seen = [(key[rows], value[rows]) for key, value in seen]
            x, seen = decoder(beams[:, -1:], other=other, seen=seen)
        return finished[0][1]

    def _logits(self, x: Tensor) -> Tensor:
        head = self.text_decoder["cls"]["predictions"]
        x = torch.nn.functional.gelu(head["transform"]["dense"](x))
        out: Tensor = head["decoder"](head["transform"]["LayerNorm"](x))
        return out


def _kept(finished: list[tuple[float, list[int]]], score: float, text: list[int]) -> list[tuple[float, list[int]]]:
    """Return the best three texts, the best first."""
    return sorted([*finished, (score, text)], key=lambda pair: -pair[0])[:BEAMS]


class _Text(nn.Module):
    """BERT whose layers look at other features too: the encoder of tags and the decoder of captions."""

    def __init__(self, state: Mapping[str, Tensor], prefix: str) -> None:
        super().__init__()
        words, width = state[f"{prefix}embeddings.word_embeddings.weight"].shape
        positions = len(state[f"{prefix}embeddings.position_embeddings.weight"])
        self.embeddings: Any = nn.ModuleDict(
            {
                "word_embeddings": nn.Embedding(words, width),
                "position_embeddings": nn.Embedding(positions, width),
                "LayerNorm": nn.LayerNorm(width, eps=1e-12),
            }
        )
        self.encoder = _layers(state, prefix, heads=width // 64)["encoder"]

    def keys(self, features: Tensor) -> list[Keys]:
        return [layer.crossattention.attend_keys(features) for layer in self.encoder["layer"]]

    def forward(
        self,
        ids: Tensor,
        features: Tensor | None = None,
        other: list[Keys] | None = None,
        seen: list[Keys] | None = None,
        mask: Tensor | None = None,
    ) -> tuple[Tensor, list[Keys]]:
        """Map token ids [n, t] behind those in `seen` -> [n, t, D], and the keys of all of them."""
        if other is None:
            other = self.keys(features) if features is not None else []
        start = seen[0][0].shape[2] if seen else 0
        places = self.embeddings["position_embeddings"].weight[start : start + ids.shape[1]]
        x = self.embeddings["LayerNorm"](self.embeddings["word_embeddings"](ids) + places)
        now: list[Keys] = []
        for i, layer in enumerate(self.encoder["layer"]):
            x, keys = layer(x, seen[i] if seen else None, other[i], mask)
            now.append(keys)
        return x, now


def _layers(state: Mapping[str, Tensor], prefix: str, heads: int, among: bool = True) -> Any:
    here = f"{prefix}encoder.layer."
    count = 1 + max(int(key.removeprefix(here).split(".")[0]) for key in state if key.startswith(here))
    inner, width = state[f"{here}0.intermediate.dense.weight"].shape
    other = state[f"{here}0.crossattention.self.key.weight"].shape[1]
    layers = nn.ModuleList(Layer(width, inner, heads, other, among) for _ in range(count))
    return nn.ModuleDict({"encoder": nn.ModuleDict({"layer": layers})})


def _swin(state: Mapping[str, Tensor]) -> Any:
    """Return the package's Swin; its sizes are read off the tensors."""
    depths: list[int] = []
    heads: list[int] = []
    while (
        table := state.get(f"visual_encoder.layers.{len(depths)}.blocks.0.attn.relative_position_bias_table")
    ) is not None:
        prefix = f"visual_encoder.layers.{len(depths)}.blocks."
        depths.append(1 + max(int(key.removeprefix(prefix).split(".")[0]) for key in state if key.startswith(prefix)))
        heads.append(table.shape[1])
        window = (round(len(table) ** 0.5) + 1) // 2
    return import_vbench("vbench.third_party.tag2Text.swin_transformer").SwinTransformer(
        img_size=SIZE,
        patch_size=4,
        embed_dim=len(state["visual_encoder.patch_embed.proj.bias"]),
        depths=depths,
        num_heads=heads,
        window_size=window,
    )
