"""CLIP's two halves (Radford et al., ICML 2021) by transformers, from its own files and from OpenAI's.

Sizes are read off the tensors. OpenAI's layout is that of ViT-B-32.pt and of ViCLIP, which grew out of it.
"""

from __future__ import annotations

import gzip
import html
import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.transforms import InterpolationMode
from torchvision.transforms.functional import center_crop, normalize, resize

from stg_eval import weights
from stg_eval.metrics.linear import use_onednn

SIZE = 224
BATCH = 16
"""Images of ViT-B/32 at a time: with 50 tokens each, one alone keeps no core busy."""
MEAN = [0.48145466, 0.4578275, 0.40821073]
STD = [0.26862954, 0.26130258, 0.27577711]
START, END = "<|startoftext|>", "<|endoftext|>"

State = dict[str, Tensor]

_RENAMED = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
    "attn.out_proj": "self_attn.out_proj",
}
_VISION = {
    "class_embedding": "embeddings.class_embedding",
    "positional_embedding": "embeddings.position_embedding.weight",
    "conv1.weight": "embeddings.patch_embedding.weight",
    "ln_pre": "pre_layrnorm",
    "ln_post": "post_layernorm",
}
_TEXT = {
    "token_embedding.weight": "embeddings.token_embedding.weight",
    "positional_embedding": "embeddings.position_embedding.weight",
    "ln_final": "final_layer_norm",
}


def preprocess(images: Tensor) -> Tensor:
    """Map images [n, 3, H, W], 0 to 255 -> CLIP's input [n, 3, 224, 224] (VBench's `clip_transform`).

    Bicubic on floats, without antialias and without clamping: rounding to grey levels would move scores by 5e-4.
    """
    images = resize(images, SIZE, interpolation=InterpolationMode.BICUBIC, antialias=False)
    out: Tensor = normalize(center_crop(images, SIZE).div(255.0), MEAN, STD)
    return out


def read_vision(path: Path) -> Any:
    """Return the image half of a CLIP in transformers' safetensors layout."""
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        wanted = ("vision_model.", "visual_projection.")
        return vision({key: file.get_tensor(key) for key in file.keys() if key.startswith(wanted)})  # noqa: SIM118


def vision(state: State) -> Any:
    """Return the image half from transformers' names; every layer but the last sees all tokens, the last the class
    token's."""
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    state.pop("vision_model.embeddings.position_ids", None)  # a constant that older files hold
    patches = state["vision_model.embeddings.patch_embedding.weight"]
    positions = state["vision_model.embeddings.position_embedding.weight"]
    config = CLIPVisionConfig(
        **_sizes(state, patches.shape[0], "visual_projection"),
        patch_size=patches.shape[-1],
        image_size=patches.shape[-1] * round((positions.shape[0] - 1) ** 0.5),
    )
    return _filled(CLIPVisionModelWithProjection, config, state, "vision_model")


def text(state: State) -> Any:
    """Return the text half from transformers' names."""
    from transformers import CLIPTextConfig, CLIPTextModelWithProjection

    tokens = state["text_model.embeddings.token_embedding.weight"]
    config = CLIPTextConfig(
        **_sizes(state, tokens.shape[1], "text_projection"),
        vocab_size=len(tokens),
        max_position_embeddings=len(state["text_model.embeddings.position_embedding.weight"]),
        eos_token_id=len(tokens) - 1,
    )
    return _filled(CLIPTextModelWithProjection, config, state, "text_model")


def _sizes(state: State, width: int, projection: str) -> dict[str, int]:
    hidden = next(value for key, value in state.items() if key.endswith("layers.0.mlp.fc1.weight"))
    return {
        "hidden_size": width,
        "intermediate_size": hidden.shape[0],
        "projection_dim": state[f"{projection}.weight"].shape[0],
        "num_hidden_layers": 1 + max(int(key.split(".")[3]) for key in state if ".layers." in key),
        "num_attention_heads": width // 64,
    }


def _filled(kind: Any, config: Any, state: State, half: str) -> Any:
    with torch.device("meta"):  # no time for random weights that are replaced at once
        network = kind(config)
    network.load_state_dict(state, assign=True)
    embeddings = getattr(network, half).embeddings
    embeddings.position_ids = torch.arange(embeddings.position_embedding.num_embeddings).unsqueeze(0)
    return network.float().eval().requires_grad_(False)


def only_class_token(network: Any, device: str) -> Any:
    """Return the image half made faster where only its class token is read, as `image_embeds` does."""
    network = network.to(device)
    use_onednn(network, device)
    layers = network.vision_model.encoder.layers
    layers[-1] = _LastLayer(layers[-1])
    return network


class _LastLayer(nn.Module):
    """CLIP's last layer for the class token alone: nobody reads the others behind it."""

    def __init__(self, layer: Any) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, hidden_states: Tensor, *_: Any, **__: Any) -> Tensor:
        attention, normed = self.layer.self_attn, self.layer.layer_norm1(hidden_states)
        query, key, value = (
            project(x).unflatten(2, (attention.num_heads, -1)).transpose(1, 2)
            for project, x in (
                (attention.q_proj, normed[:, :1]),
                (attention.k_proj, normed),
                (attention.v_proj, normed),
            )
        )
        attended = F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
        token = hidden_states[:, :1] + attention.out_proj(attended)
        out: Tensor = token + self.layer.mlp(self.layer.layer_norm2(token))
        return out


def read_openai(checkpoint: weights.Checkpoint) -> Mapping[str, Tensor]:
    """Return the tensors of a file as OpenAI publishes them: TorchScript, of which only the tensors are used."""
    return torch.jit.load(checkpoint.path, map_location="cpu").state_dict()  # type: ignore[no-any-return]


@lru_cache(maxsize=1)  # background consistency and appearance style share it
def load_b_32(checkpoint: weights.Checkpoint, device: str) -> Any:
    """Map the image half of OpenAI's ViT-B-32.pt: pixel_values [n, 3, 224, 224] -> image_embeds [n, 512]."""
    return only_class_token(vision(vision_from_openai(read_openai(checkpoint), "visual.")), device)


def vision_from_openai(state: Mapping[str, Tensor], prefix: str) -> State:
    """Map OpenAI's names of the image half (under `prefix`, such as "visual.") -> transformers'."""
    out = _from_openai(state, prefix, "vision_model.", _VISION)
    return out | {"visual_projection.weight": state[f"{prefix}proj"].T.float().contiguous()}


def text_from_openai(state: Mapping[str, Tensor], prefix: str) -> State:
    """Map OpenAI's names of the text half (under `prefix`; in CLIP itself there is none) -> transformers'."""
    out = _from_openai(state, prefix, "text_model.", _TEXT)
    return out | {"text_projection.weight": state[f"{prefix}text_projection"].T.float().contiguous()}


def _from_openai(state: Mapping[str, Tensor], prefix: str, new: str, names: Mapping[str, str]) -> State:
    out = {}
    for key, value in state.items():
        name = key.removeprefix(prefix)
        stem, _, kind = name.rpartition(".")
        if not key.startswith(prefix):
            continue
        if name in names or stem in names:
            out[new + (names.get(name) or f"{names[stem]}.{kind}")] = value.float()
        elif layer := re.match(r"transformer\.resblocks\.(\d+)\.(.+)", name):
            here = f"{new}encoder.layers.{layer[1]}."
            if in_proj := re.fullmatch(r"attn\.in_proj_(weight|bias)", layer[2]):
                for which, part in zip("qkv", value.float().chunk(3), strict=True):
                    out[f"{here}self_attn.{which}_proj.{in_proj[1]}"] = part.contiguous()
            else:
                module, _, kind = layer[2].rpartition(".")
                out[f"{here}{_RENAMED[module]}.{kind}"] = value.float()
    return out


@lru_cache(maxsize=1)
def tokenizer(vocabulary: Path) -> Any:
    """Return CLIP's byte-pair encoding from bpe_simple_vocab_16e6.txt.gz, as a tokenizers.Tokenizer."""
    from tokenizers import Regex, Tokenizer
    from tokenizers.decoders import ByteLevel as Letters
    from tokenizers.models import BPE
    from tokenizers.normalizers import Lowercase, Replace, Sequence
    from tokenizers.pre_tokenizers import ByteLevel, Split
    from tokenizers.pre_tokenizers import Sequence as Steps

    letters = [*map(chr, [*range(33, 127), *range(161, 173), *range(174, 256)])]
    letters += sorted(set(ByteLevel.alphabet()) - set(letters))
    lines = gzip.decompress(vocabulary.read_bytes()).decode("utf-8").split("\n")
    merges = [(line.split()[0], line.split()[1]) for line in lines[1 : 49152 - 256 - 2 + 1]]
    words = [*letters, *(f"{letter}</w>" for letter in letters), *map("".join, merges), START, END]
    out = Tokenizer(BPE({word: i for i, word in enumerate(words)}, merges, end_of_word_suffix="</w>"))
    pattern = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
    out.normalizer = Sequence([Replace(Regex(r"\s+"), " "), Lowercase()])
    out.pre_tokenizer = Steps(
        [Split(Regex(pattern), behavior="removed", invert=True), ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    out.decoder = Letters()
    return out


def tokens(vocabulary: Path, prompt: str, length: int) -> Tensor:
    """Map a prompt -> token ids, int64 [1, length], padded with 0; one that is too long is cut and keeps its end
    token."""
    import ftfy

    coder = tokenizer(vocabulary)
    cleaned = html.unescape(html.unescape(ftfy.fix_text(prompt))).strip()
    start, end = coder.token_to_id(START), coder.token_to_id(END)
    ids = [start, *coder.encode(cleaned).ids, end]
    if len(ids) > length:
        ids = [*ids[: length - 1], end]
    return torch.tensor([ids + [0] * (length - len(ids))])
