"""GRiT's hands: CenterNet proposes boxes, three heads in a row move them and tell objects from background.

Sources: vbench 0.1.5, vbench/third_party/grit_src (centernet2/centernet/modeling/dense_heads, grit/modeling/roi_heads),
and the detectron2 that it stands on; Zhou et al., "Probabilistic two-stage detection", 2021. Inference of one image,
with VBench's settings. Parameters bear the names of the published checkpoint.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import batched_nms, clip_boxes_to_image, roi_align

from stg_eval.metrics.vbench.grit.backbone import STRIDES

CANDIDATES, CANDIDATE_SCORE, PROPOSALS, PROPOSAL_OVERLAP = 1000, 1e-4, 256, 0.9
CONFIDENCE, OVERLAP, OBJECTS = 0.5, 0.5, 256
"""VBench's: a box counts from this score, below this overlap with a better one, up to so many."""
CASCADE = ((10.0, 10.0, 5.0, 5.0), (20.0, 20.0, 10.0, 10.0), (30.0, 30.0, 15.0, 15.0))
"""By what the three heads' moves (x, y, width, height) are divided."""
LARGEST_MOVE = math.log(1000.0 / 16)
POOLED = 7


class Proposals(nn.Module):
    """Feature maps -> boxes [n, 4] (x0, y0, x1, y1, in pixels) and how surely there is an object, [n], 0 to 1."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        tower = [(nn.Conv2d(channels, channels, 3, padding=1), nn.GroupNorm(32, channels), nn.ReLU()) for _ in range(4)]
        self.centernet_head: Any = nn.ModuleDict(
            {
                "bbox_tower": nn.Sequential(*(layer for layers in tower for layer in layers)),
                "bbox_pred": nn.Conv2d(channels, 4, 3, padding=1),
                "agn_hm": nn.Conv2d(channels, 1, 3, padding=1),
                "scales": nn.ModuleList(nn.ParameterDict({"scale": torch.ones(1)}) for _ in STRIDES),
            }
        )

    def forward(self, maps: list[Tensor]) -> tuple[Tensor, Tensor]:
        levels = [self._level(x, stride, i) for i, (x, stride) in enumerate(zip(maps, STRIDES, strict=True))]
        boxes, scores = (torch.cat(parts) for parts in zip(*levels, strict=True))
        kept = batched_nms(boxes, scores, torch.zeros_like(scores), PROPOSAL_OVERLAP)
        boxes, scores = boxes[kept], scores[kept]
        if len(scores) > PROPOSALS:
            least = scores.cpu().kthvalue(len(scores) - PROPOSALS + 1).values.item()
            boxes, scores = boxes[scores >= least], scores[scores >= least]
        return boxes, scores

    def _level(self, x: Tensor, stride: int, level: int) -> tuple[Tensor, Tensor]:
        head = self.centernet_head
        tower = head["bbox_tower"](x)
        heat = head["agn_hm"](tower).sigmoid().flatten()
        reach = F.relu(head["scales"][level]["scale"] * head["bbox_pred"](tower))[0] * stride
        rows, columns = (torch.arange(size, device=x.device) * stride + stride // 2 for size in x.shape[-2:])
        y, x_ = torch.meshgrid(rows.float(), columns.float(), indexing="ij")
        places = (heat > CANDIDATE_SCORE).nonzero()[:, 0]
        heat = heat[places]
        if len(places) > CANDIDATES:
            heat, best = heat.topk(CANDIDATES, sorted=False)
            places = places[best]
        left, top, right, bottom = reach.flatten(1)[:, places]
        y, x_ = y.flatten()[places], x_.flatten()[places]
        start_x, start_y = x_ - left, y - top
        ends = torch.maximum(x_ + right, start_x + 0.01), torch.maximum(y + bottom, start_y + 0.01)
        return torch.stack([start_x, start_y, *ends], dim=1), heat.sqrt()


class BoxHeads(nn.Module):
    """Proposals -> boxes [m, 4] of objects, the surest first, at most 256 and inside the image."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.box_head: Any = nn.ModuleList(
            nn.ModuleDict({"fc1": nn.Linear(channels * POOLED**2, width), "fc2": nn.Linear(width, width)})
            for _ in CASCADE
        )
        self.box_predictor: Any = nn.ModuleList(
            nn.ModuleDict(
                {
                    "cls_score": nn.Linear(width, 2),
                    "bbox_pred": nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 4)),
                }
            )
            for _ in CASCADE
        )

    def forward(self, maps: list[Tensor], boxes: Tensor, proposed: Tensor, size: tuple[int, int]) -> Tensor:
        probabilities = []
        for stage, weights in enumerate(CASCADE):
            if stage:
                boxes = clip_boxes_to_image(boxes, size)
            head, predictor = self.box_head[stage], self.box_predictor[stage]
            features = pool(maps, boxes, POOLED).flatten(1)
            features = F.relu(head["fc2"](F.relu(head["fc1"](features))))
            probabilities.append(predictor["cls_score"](features).softmax(dim=-1))
            boxes = moved(boxes, predictor["bbox_pred"](features), weights)
        scores = (sum(probabilities) * (1.0 / len(CASCADE)) * proposed[:, None]) ** 0.5
        finite = boxes.isfinite().all(1) & scores.isfinite().all(1)
        boxes, scores = clip_boxes_to_image(boxes[finite], size), scores[finite, 0]
        sure = scores > CONFIDENCE
        boxes, scores = boxes[sure], scores[sure]
        kept = batched_nms(boxes, scores, torch.zeros_like(scores, dtype=torch.int64), OVERLAP)
        return boxes[kept[:OBJECTS]]


def pool(maps: list[Tensor], boxes: Tensor, size: int) -> Tensor:
    """Return features [n, C, size, size] under boxes, each from the one of the first three maps that fits its size."""
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    levels = torch.floor(4 + torch.log2(areas.sqrt() / 224 + 1e-8)).clamp(3, 5).to(torch.int64) - 3
    out = boxes.new_zeros(len(boxes), maps[0].shape[1], size, size)
    for level in range(3):
        here = (levels == level).nonzero()[:, 0]
        out[here] = roi_align(maps[level], [boxes[here]], size, 1.0 / STRIDES[level], 0, aligned=True)
    return out


def moved(boxes: Tensor, moves: Tensor, weights: tuple[float, ...]) -> Tensor:
    """Return boxes moved by what a head predicts, in shares of their size."""
    sides = boxes[:, 2:] - boxes[:, :2]
    centres = boxes[:, :2] + 0.5 * sides
    dx, dy, dw, dh = (moves[:, i] / weight for i, weight in enumerate(weights))
    centres = torch.stack([dx, dy], 1) * sides + centres
    sides = torch.stack([dw, dh], 1).clamp(max=LARGEST_MOVE).exp() * sides
    return torch.cat([centres - 0.5 * sides, centres + 0.5 * sides], 1)
