"""CoTracker2 (Karaev et al., ECCV 2024): where the points of the first frame go, in windows of 8 frames, 4 at a time.

Source: facebookresearch/co-tracker, cotracker/models/core/cotracker, the model cotracker2 that VBench-I2V takes from
torch.hub; here for points of the first frame alone, which needs no masks, and with frames as they come. Parameters bear
the names of the published checkpoint.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stg_eval import weights

WINDOW, STEP, STRIDE, ITERATIONS = 8, 4, 4, 6
SIZE = (384, 512)
"""Height and width of what it sees."""
LATENT, LEVELS, RADIUS, HEADS = 128, 4, 3, 8


class CoTracker(nn.Module):
    """Parts of the tracker; `Tracks` runs them over a clip."""

    def __init__(self, state: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.fnet = _Encoder()
        self.updateformer = _Former(state)
        self.norm = nn.GroupNorm(1, LATENT)
        self.track_feat_updater = nn.Sequential(nn.Linear(LATENT, LATENT), nn.GELU())
        self.vis_predictor = nn.Sequential(nn.Linear(LATENT, 1))
        self.time_emb, self.pos_emb = nn.Buffer(state["time_emb"]), nn.Buffer(state["pos_emb"])
        self.load_state_dict(state)

    def features(self, frames: Tensor) -> Tensor:
        """Frames [n, 3, H, W], 0 to 255 -> features [n, 128, 96, 128]."""
        frames = F.interpolate(frames, SIZE, mode="bilinear", align_corners=True)
        out: Tensor = self.fnet(2 * (frames / 255.0) - 1.0)
        return out

    def window(self, maps: Tensor, coords: Tensor, track: Tensor, seen: Tensor, new: Tensor) -> tuple[Tensor, Tensor]:
        """Places [8, N, 2] and visibility [8, N, 1] of N points in 8 frames, from first guesses of both.

        Args:
            maps: Features [8, C, h, w] of the frames.
            coords: First guess, in steps of the features.
            track: Features [1, N, C] of the points in the first frame.
            seen: First guess of the visibility, as logits.
            new: Which frames are to be tracked, [8, 1, 1]; the others are known from the window before.
        """
        pyramid = [maps]
        for _ in range(LEVELS - 1):
            pyramid.append(F.avg_pool2d(pyramid[-1], 2, stride=2))
        count = coords.shape[1]
        place = _sample(self.pos_emb, coords[:1])[0].T[:, None]
        state = torch.cat([new.expand(-1, count, -1).to(seen.dtype), seen], -1).transpose(0, 1)
        track = track.expand(WINDOW, -1, -1)
        for _ in range(ITERATIONS):
            found = torch.cat([_neighbourhood(level, track, coords / 2**i) for i, level in enumerate(pyramid)], -1)
            moves = _waves((coords - coords[:1]).transpose(0, 1))
            x = torch.cat([moves, found.transpose(0, 1), track.transpose(0, 1), state], -1) + place + self.time_emb
            delta = self.updateformer(x)
            coords = coords + delta[..., :2].transpose(0, 1)
            update = self.track_feat_updater(self.norm(delta[..., 2:].reshape(-1, LATENT)))
            track = update.view(count, WINDOW, LATENT).transpose(0, 1) + track
        return coords, self.vis_predictor(track)


class Tracks:
    """Tracks of a grid of points over one clip, from frames as they come.

    Args:
        grid: Points a side.
    """

    def __init__(self, network: CoTracker, grid: int) -> None:
        self._network = network
        device = network.pos_emb.device
        margin = SIZE[1] / 64
        rows, columns = (torch.linspace(margin, side - margin, grid, device=device) for side in SIZE)
        y, x = torch.meshgrid(rows, columns, indexing="ij")
        self.start = torch.stack([x, y], -1).view(-1, 2)
        self._maps: list[Tensor] = []
        self._seen_frames = 0
        self._coords = (self.start / STRIDE).expand(WINDOW, -1, -1)
        self._visible = torch.full((WINDOW, len(self.start), 1), 10.0, device=device)
        self._last = torch.zeros_like(self.start)

    def update(self, frames: Tensor) -> None:
        """The next frames, float32 [t, 3, H, W], 0 to 255."""
        for frame in frames:
            self._maps.append(self._network.features(frame[None]))
            if self._seen_frames == 0:
                self._track = _sample(self._maps[0], self._coords[:1])[0].T[None]
            self._seen_frames += 1
            if len(self._maps) == WINDOW:
                self._advance(WINDOW)

    def end(self) -> tuple[Tensor, Tensor]:
        """Places [grid * grid, 2] (x, y) in the first and in the last frame, in pixels of SIZE.

        As in the original, a clip of 2 to 4 frames has no window: its points end at 0, 0.
        """
        left = len(self._maps)
        if left > STEP:  # fewer were tracked in the window before
            self._maps += [self._maps[-1]] * (WINDOW - left)
            self._advance(left)
        return self.start, self.start if self._seen_frames == 1 else self._last

    def _advance(self, real: int) -> None:
        """Track the window at hand, of which `real` frames are the clip's, and keep its second half for the next."""
        maps = torch.cat(self._maps)
        new = torch.ones(WINDOW, 1, 1, dtype=torch.bool, device=maps.device)
        new[:STEP] = self._first
        coords, visible = self._network.window(maps, self._coords, self._track, self._visible, new)
        self._last = coords[real - 1] * STRIDE
        ahead = coords[STEP:], visible[STEP:]
        self._coords, self._visible = (torch.cat([half, half[-1:].expand(STEP, -1, -1)]) for half in ahead)
        self._maps = self._maps[STEP:]
        self._tracked = True

    _tracked = False

    @property
    def _first(self) -> bool:
        return not self._tracked


class _Encoder(nn.Module):
    """Features at a quarter of the size from four scales."""

    def __init__(self) -> None:
        super().__init__()
        widths = (LATENT // 2, LATENT // 2, LATENT // 4 * 3, LATENT, LATENT)
        self.conv1 = nn.Conv2d(3, widths[0], 7, stride=2, padding=3)
        for i in range(1, 5):
            first = _Residual(widths[i - 1], widths[i], stride=1 if i == 1 else 2)
            setattr(self, f"layer{i}", nn.Sequential(first, _Residual(widths[i], widths[i])))
        self.conv2 = nn.Conv2d(sum(widths[1:]), 2 * LATENT, 3, padding=1)
        self.conv3 = nn.Conv2d(2 * LATENT, LATENT, 1)

    def forward(self, x: Tensor) -> Tensor:
        size = x.shape[-2] // STRIDE, x.shape[-1] // STRIDE
        x, scales = F.relu(F.instance_norm(self.conv1(x))), []
        for i in range(1, 5):
            x = getattr(self, f"layer{i}")(x)
            scales.append(F.interpolate(x, size, mode="bilinear", align_corners=True))
        out: Tensor = self.conv3(F.relu(F.instance_norm(self.conv2(torch.cat(scales, 1)))))
        return out


class _Residual(nn.Module):
    def __init__(self, before: int, width: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, width, 3, padding=1, stride=stride)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        self.downsample = None if stride == 1 else nn.Sequential(nn.Conv2d(before, width, 1, stride=stride))

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(F.instance_norm(self.conv1(x)))
        y = F.relu(F.instance_norm(self.conv2(y)))
        return F.relu(y + (x if self.downsample is None else F.instance_norm(self.downsample(x))))


class _Former(nn.Module):
    """Points and 64 virtual points [N, 8, D] that look at each other, over time and over space in turns."""

    def __init__(self, state: Mapping[str, Tensor]) -> None:
        super().__init__()
        width, inside = state["updateformer.input_transform.weight"].shape
        kinds = ("time_blocks", "space_virtual_blocks", "space_virtual2point_blocks", "space_point2virtual_blocks")
        for kind in kinds:
            count = sum(key.startswith(f"updateformer.{kind}.") and key.endswith("mlp.fc1.bias") for key in state)
            cross = "2" in kind
            setattr(self, kind, nn.ModuleList(_Block(width, cross) for _ in range(count)))
        self.input_transform = nn.Linear(inside, width)
        self.flow_head = nn.Linear(width, LATENT + 2)
        self.virual_tracks = nn.Parameter(torch.zeros_like(state["updateformer.virual_tracks"]))

    def forward(self, x: Tensor) -> Tensor:
        count, parts = len(x), dict(self.named_children())
        tokens = torch.cat([self.input_transform(x), self.virual_tracks[0].expand(-1, x.shape[1], -1)])
        blocks: Any = [parts[k] for k in ("time_blocks", "space_virtual2point_blocks")]
        spatial: Any = [parts[k] for k in ("space_virtual_blocks", "space_point2virtual_blocks")]
        every = len(blocks[0]) // len(blocks[1])
        for i, over_time in enumerate(blocks[0]):
            tokens = over_time(tokens)
            if i % every == 0:
                points, virtual = tokens.transpose(0, 1).split([count, len(tokens) - count], 1)
                virtual = spatial[0][i // every](blocks[1][i // every](virtual, points))
                points = spatial[1][i // every](points, virtual)
                tokens = torch.cat([points, virtual], 1).transpose(0, 1)
        out: Tensor = self.flow_head(tokens[:count])
        return out


class _Block(nn.Module):
    """Attention among tokens or, with `cross`, to others, and two linear layers."""

    def __init__(self, width: int, cross: bool) -> None:
        super().__init__()
        projections = {"to_q": width, "to_kv": 2 * width, "to_out": width}
        attention = nn.ModuleDict({name: nn.Linear(width, size) for name, size in projections.items()})
        self._name = "cross_attn" if cross else "attn"
        setattr(self, self._name, attention)
        if cross:
            self.norm_context = nn.LayerNorm(width)
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(width, 4 * width), "fc2": nn.Linear(4 * width, width)})

    def forward(self, x: Tensor, others: Tensor | None = None) -> Tensor:
        attention = getattr(self, self._name)
        normed = F.layer_norm(x, x.shape[-1:], eps=1e-6)
        others = normed if others is None else self.norm_context(others)
        query, (key, value) = attention["to_q"](normed), attention["to_kv"](others).chunk(2, -1)
        query, key, value = (t.unflatten(2, (HEADS, -1)).transpose(1, 2) for t in (query, key, value))
        x = x + attention["to_out"](F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2))
        hidden = F.gelu(self.mlp["fc1"](F.layer_norm(x, x.shape[-1:], eps=1e-6)), approximate="tanh")
        out: Tensor = x + self.mlp["fc2"](hidden)
        return out


def _sample(maps: Tensor, coords: Tensor) -> Tensor:
    """Maps [n, C, h, w] at places [n, ..., 2] (x, y, in steps) -> [n, C, ...], bilinear, the border beyond."""
    height, width = maps.shape[-2:]
    scale = torch.tensor([2 / max(width - 1, 1), 2 / max(height - 1, 1)], device=maps.device)
    grid = (coords * scale - 1).flatten(1, -2)[:, :, None]
    out: Tensor = F.grid_sample(maps, grid, align_corners=True, padding_mode="border")[..., 0]
    shaped: Tensor = out.unflatten(2, coords.shape[1:-1])
    return shaped


def _neighbourhood(level: Tensor, track: Tensor, coords: Tensor) -> Tensor:
    """Correlation [8, N, 49] of each point's features with those in 7 x 7 steps around it."""
    maps = torch.einsum("snc,schw->snhw", track, level) / LATENT**0.5
    steps = torch.arange(-RADIUS, RADIUS + 1, dtype=torch.float32, device=level.device)
    around = torch.stack(torch.meshgrid(steps, steps, indexing="ij"), -1)
    places = coords[:, :, None, None] + around
    found: Tensor = _sample(maps.flatten(0, 1)[:, None], places.flatten(0, 1))[:, 0].flatten(1)
    return found.view(*coords.shape[:2], -1)


def _waves(moves: Tensor) -> Tensor:
    """Moves [N, 8, 2] -> [N, 8, 130]: themselves, and sines and cosines of x and of y in turns."""
    rates = torch.arange(0, 64, 2, device=moves.device, dtype=torch.float32) * (1000.0 / 64)
    x, y = (moves[..., i : i + 1] * rates for i in (0, 1))
    parts = [torch.stack([part.sin(), part.cos()], -1).flatten(2) for part in (x, y)]
    return torch.cat([moves, *parts], -1)


@lru_cache(maxsize=1)
def load_cotracker(checkpoint: weights.Checkpoint, device: str) -> CoTracker:
    """The network from the published file."""
    state: Any = weights.load_torch(checkpoint)
    return CoTracker(state.get("model", state)).eval().requires_grad_(False).to(device)
