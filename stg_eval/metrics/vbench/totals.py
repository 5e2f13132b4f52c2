"""VBench's leaderboard scores: Total, Quality and Semantic of text to video; Total, Quality and I2V of image to video.

Source: scripts/constant.py, cal_final_score.py and cal_i2v_final_score.py of VBench's repository. Each dimension is
brought to 0-1 by a range of its own; dynamic degree weighs half, camera motion a tenth. Where a submission lacks a
dimension the leaderboard counts 0; here there is no total then.
"""

from __future__ import annotations

from collections.abc import Mapping

from stg_eval.metrics import MetricCard, Part
from stg_eval.metrics.vbench import VBENCH, VBENCH_I2V

RANGES = {
    "subject_consistency": (0.1462, 1.0),
    "i2v_subject": (0.1462, 1.0),
    "background_consistency": (0.2615, 1.0),
    "i2v_background": (0.2615, 1.0),
    "temporal_flickering": (0.6293, 1.0),
    "motion_smoothness": (0.706, 0.9975),
    "scene": (0.0, 0.8222),
    "appearance_style": (0.0009, 0.2855),
    "temporal_style": (0.0, 0.364),
    "overall_consistency": (0.0, 0.364),
}
"""Dimension -> what counts as 0 and as 1; (0, 1) for all others."""

QUALITY = {
    "subject_consistency": 1.0,
    "background_consistency": 1.0,
    "temporal_flickering": 1.0,
    "motion_smoothness": 1.0,
    "dynamic_degree": 0.5,
    "aesthetic_quality": 1.0,
    "imaging_quality": 1.0,
}
SEMANTIC = dict.fromkeys(
    (
        "object_class",
        "multiple_objects",
        "human_action",
        "color",
        "spatial_relationship",
        "scene",
        "appearance_style",
        "temporal_style",
        "overall_consistency",
    ),
    1.0,
)
I2V_QUALITY = {name: weight for name, weight in QUALITY.items() if name != "temporal_flickering"}
I2V = {"camera_motion": 0.1, "i2v_subject": 1.0, "i2v_background": 1.0}


def _parts(weights: Mapping[str, float], share: float = 1.0) -> tuple[Part, ...]:
    """Return a weighted mean of dimensions, as that share of a score."""
    total = sum(weights.values())
    return tuple(Part(n, share * weight / total, *RANGES.get(n, (0.0, 1.0))) for n, weight in weights.items())


def _card(name: str, title: str, short: str, parts: tuple[Part, ...], note: str) -> MetricCard:
    return MetricCard(
        name=name,
        title=title,
        short=short,
        higher_is_better=True,
        parts=parts,
        needs_case=True,
        scale=100.0,
        digits=2,
        margin=0.005,
        citations=(VBENCH_I2V if "i2v" in name else VBENCH,),
        note=f"{note}, in per cent as on VBench's leaderboard. Its interval resamples prompts over all dimensions.",
    )


CARDS = (
    _card(
        "vbench_total",
        "VBench Total",
        "Total",
        (*_parts(QUALITY, 4 / 5), *_parts(SEMANTIC, 1 / 5)),
        "(4 Quality + Semantic) / 5",
    ),
    _card("vbench_quality", "VBench Quality", "Quality", _parts(QUALITY), "Mean of seven dimensions"),
    _card("vbench_semantic", "VBench Semantic", "Semantic", _parts(SEMANTIC), "Mean of nine dimensions"),
    _card(
        "vbench_i2v_total",
        "VBench-I2V Total",
        "I2V Total",
        (*_parts(I2V_QUALITY, 1 / 2), *_parts(I2V, 1 / 2)),
        "(Quality + I2V) / 2",
    ),
    _card("vbench_i2v_quality", "VBench-I2V Quality", "I2V Quality", _parts(I2V_QUALITY), "Mean of six dimensions"),
    _card(
        "vbench_i2v_score",
        "VBench-I2V Score",
        "I2V",
        _parts(I2V),
        "Mean of subject and background, with a tenth of camera motion",
    ),
)
