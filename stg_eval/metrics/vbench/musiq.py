"""MUSIQ (Ke et al., ICCV 2021) by pyiqa, without two things that change nothing: convolution weights are standardised
once instead of at every call, and the padding tokens, which the attention masks, are dropped."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from stg_eval import weights
from stg_eval.metrics.linear import use_onednn


def load_musiq(checkpoint: weights.Checkpoint, device: str) -> Any:
    """Return the network, which takes `tokens`; each image's score, 0 to 100, is in the first column."""
    from pyiqa.archs.musiq_arch import MUSIQ

    network = MUSIQ(pretrained=False)
    network.load_state_dict(weights.load_torch(checkpoint))
    streamline(network.eval().requires_grad_(False).to(device))
    use_onednn(network, device)
    return network


def tokens(images: Tensor, options: dict[str, Any]) -> Tensor:
    """Map images [n, 3, H, W], 0 to 1 -> patches of three scales with position, scale and mask, [n, tokens, 3075].

    Only the valid ones: which they are depends on H and W alone.
    """
    from pyiqa.data.multiscale_trans_util import get_multiscale_patches

    patches: Tensor = get_multiscale_patches((images - 0.5) * 2, **options)
    scales = [*options["longer_side_lengths"], None]
    height, width = images.shape[-2:]
    return patches[:, valid_tokens(height, width, options["patch_size"], scales)]


def valid_tokens(height: int, width: int, patch: int, scales: list[int | None]) -> list[int]:
    """Return positions of the patches that hold pixels. Each scale but the last (None, the image itself) is filled up
    with masked tokens to the number of patches of a square image. Counted here, as reading the mask would stop a
    GPU."""
    found: list[int] = []
    start = 0
    for side in scales:
        ratio = side / max(height, width) if side else 1.0
        count = -(-round(height * ratio) // patch) * -(-round(width * ratio) // patch)
        found += range(start, start + count)
        start += (-(-side // patch)) ** 2 if side else count
    return found


def streamline(network: Any) -> None:
    """Replace layers of a MUSIQ by equal and faster ones. It then takes `tokens` instead of images."""
    for block in (network, network.block1):
        for name, layer in list(block.named_children()):
            if type(layer).__name__ == "StdConv":
                setattr(block, name, _StandardisedConv(layer))
    for layer in network.transformer_encoder.transformer.values():
        layer.attention = _Attention(layer.attention)
    network.training = True  # of this module alone: pyiqa's switch between tokens and images as the input


class _StandardisedConv(nn.Module):
    """pyiqa's StdConv with its weight standardised beforehand."""

    def __init__(self, conv: Any) -> None:
        super().__init__()
        weight = conv.weight - conv.weight.mean((1, 2, 3), keepdim=True)
        self.weight = nn.Parameter(weight / (weight.std((1, 2, 3), keepdim=True) + 1e-5), requires_grad=False)
        self.kernel_size, self.stride = conv.kernel_size, conv.stride

    def forward(self, x: Tensor) -> Tensor:
        from pyiqa.matlab_utils import exact_padding_2d

        return F.conv2d(exact_padding_2d(x, self.kernel_size, self.stride, mode="same"), self.weight, None, self.stride)


class _Attention(nn.Module):
    """pyiqa's MultiHeadAttention for tokens that are all valid."""

    def __init__(self, attention: Any) -> None:
        super().__init__()
        self.num_heads = attention.num_heads
        self.query, self.key, self.value, self.out = attention.query, attention.key, attention.value, attention.out

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        query, key, value = (
            layer(x).unflatten(2, (self.num_heads, -1)).transpose(1, 2) for layer in (self.query, self.key, self.value)
        )
        attended = F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
        out: Tensor = self.out(attended)
        return out
