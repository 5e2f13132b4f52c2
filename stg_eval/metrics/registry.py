"""Which metrics there are: one `MetricCard` each, and the metrics that other packages bring along.

A package adds metrics by naming cards in its metadata, under the entry point group ``stg_eval.metrics``::

    [project.entry-points."stg_eval.metrics"]
    sharpness = "my_package.metrics:CARD"
"""

from __future__ import annotations

import importlib
import logging
import math
from collections.abc import Mapping
from difflib import get_close_matches
from functools import cache
from importlib.metadata import entry_points
from typing import Any

from stg_eval.metrics import ClipScorer, MetricCard, SetMetric, Statistic, checkpoints
from stg_eval.types import StgEvalError

ENTRY_POINT_GROUP = "stg_eval.metrics"

_EMBEDDED = (
    "Uses the small networks and clips that ship with stg-eval: compare it only with itself, never with published "
)
_DIMENSION = "VBench's own definition and networks, printed from 0 to 1 as in the paper."

_CARDS = (
    MetricCard(
        name="temporal_flickering",
        title="Temporal Flickering",
        short="TF",
        kind="clip",
        higher_is_better=True,
        module="stg_eval.metrics.vbench.temporal_flickering",
        note=_DIMENSION + " A still clip scores 1.",
    ),
    MetricCard(
        name="motion_smoothness",
        title="Motion Smoothness",
        short="MS",
        kind="clip",
        higher_is_better=True,
        module="stg_eval.metrics.vbench.motion_smoothness",
        weights=(checkpoints.AMT,),
        note=_DIMENSION + " A still clip scores nearly 1.",
    ),
    MetricCard(
        name="dynamic_degree",
        title="Dynamic Degree",
        short="DD",
        kind="clip",
        higher_is_better=True,
        module="stg_eval.metrics.vbench.dynamic_degree",
        weights=(checkpoints.RAFT,),
        note=_DIMENSION + " Each clip is 0 or 1 (moving), so intervals are wide.",
    ),
    MetricCard(
        name="static_filter",
        title="Static clips",
        short="Static",
        kind="clip",
        higher_is_better=None,
        module="stg_eval.metrics.vbench.static_filter",
        needs_case=True,
        weights=(checkpoints.RAFT,),
        note="Share of clips that VBench's static filter passes; temporal flickering counts the first few of them.",
    ),
    MetricCard(
        name="imaging_quality",
        title="Imaging Quality",
        short="IQ",
        kind="clip",
        higher_is_better=True,
        module="stg_eval.metrics.vbench.imaging_quality",
        weights=(checkpoints.MUSIQ,),
        note=_DIMENSION,
    ),
    MetricCard(
        name="aesthetic_quality",
        title="Aesthetic Quality",
        short="AQ",
        kind="clip",
        higher_is_better=True,
        module="stg_eval.metrics.vbench.aesthetic_quality",
        weights=(checkpoints.CLIP_L_14, checkpoints.LAION),
        note=_DIMENSION,
    ),
    MetricCard(
        name="fvd",
        title="Fréchet Video Distance",
        short="FVD",
        kind="set",
        higher_is_better=False,
        module="stg_eval.metrics.fvd",
        digits=1,
        limits=(0.0, math.inf),
        needs_reference=True,
        min_clips=256,
        weights=(checkpoints.VIDEOMAE,),
        note="Content-debiased FVD (VideoMAE-v2 ViT-g). It falls as n grows: compare equal n only (2,048 is usual).",
    ),
    MetricCard(
        name="is",
        title="Inception Score",
        short="IS",
        kind="set",
        higher_is_better=True,
        module="stg_eval.metrics.inception_score",
        digits=2,
        limits=(1.0, math.inf),
        min_clips=256,
        weights=(checkpoints.C3D, checkpoints.C3D_MEAN),
        note="C3D trained on UCF-101, so for its classes alone. StyleGAN-V's protocol: 10 shuffled splits, n 2,048.",
    ),
    MetricCard(
        name="fvd_unbiased",
        title="Fréchet Video Distance (n - 1)",
        short="FVD-u",
        kind="set",
        higher_is_better=False,
        module="stg_eval.metrics.fvd",
        digits=1,
        limits=(0.0, math.inf),
        needs_reference=True,
        min_clips=256,
        weights=(checkpoints.VIDEOMAE,),
        note="FVD with covariances over n - 1, as some scripts have it; content-debiased FVD divides by n.",
    ),
    MetricCard(
        name="is_tgan",
        title="Inception Score (TGAN)",
        short="IS-t1",
        kind="set",
        higher_is_better=True,
        module="stg_eval.metrics.inception_score",
        digits=2,
        limits=(1.0, math.inf),
        min_clips=256,
        weights=(checkpoints.C3D, checkpoints.C3D_MEAN),
        note="TGAN's protocol: one split, usually of 9,984 clips; frames through 128 x 128, cubic.",
    ),
    MetricCard(
        name="is_tganv2",
        title="Inception Score (TGANv2)",
        short="IS-t2",
        kind="set",
        higher_is_better=True,
        module="stg_eval.metrics.inception_score",
        digits=2,
        limits=(1.0, math.inf),
        min_clips=256,
        weights=(checkpoints.C3D, checkpoints.C3D_MEAN),
        note="TGANv2's protocol: the mean over splits of 2,048 clips, usually ten.",
    ),
    MetricCard(
        name="fvd_sprites",
        title="FVD (embedded)",
        short="FVD-s",
        kind="set",
        higher_is_better=False,
        module="stg_eval.metrics.sprites",
        digits=1,
        limits=(0.0, math.inf),
        needs_reference=True,
        min_clips=64,
        note=_EMBEDDED + "FVD. It hardly sees colour or missing variety: read recall and pixel distance beside it.",
    ),
    MetricCard(
        name="is_sprites",
        title="IS (embedded)",
        short="IS-s",
        kind="set",
        higher_is_better=True,
        module="stg_eval.metrics.sprites",
        digits=2,
        limits=(1.0, math.inf),
        min_clips=64,
        note=_EMBEDDED + "IS. At most 12, the number of classes.",
    ),
    MetricCard(
        name="accuracy_sprites",
        title="Class accuracy (embedded)",
        short="Acc-s",
        kind="clip",
        higher_is_better=True,
        module="stg_eval.metrics.sprites",
        needs_case=True,
        note=_EMBEDDED + "accuracies. 1 where the classifier names the class that was asked for.",
    ),
    MetricCard(
        name="recall_sprites",
        title="Recall (embedded)",
        short="Rec-s",
        kind="set",
        higher_is_better=True,
        module="stg_eval.metrics.sprites",
        limits=(0.0, 1.0),
        needs_reference=True,
        min_clips=64,
        note=_EMBEDDED + "recall. Share of real clips with a generated one nearby: low means missing variety.",
    ),
    MetricCard(
        name="pixel_distance_sprites",
        title="Pixel distance (embedded)",
        short="Pix-s",
        kind="set",
        higher_is_better=False,
        module="stg_eval.metrics.sprites",
        digits=3,
        limits=(0.0, math.inf),
        needs_reference=True,
        min_clips=64,
        note=_EMBEDDED + "distances. Fréchet distance of coarse pixel averages: sees the colours that FVD-s does not.",
    ),
    MetricCard(
        name="frame_difference_sprites",
        title="Frame difference over real",
        short="dF-s",
        kind="set",
        higher_is_better=None,
        module="stg_eval.metrics.sprites",
        limits=(0.0, math.inf),
        needs_reference=True,
        min_clips=1,
        note=_EMBEDDED + "values. Mean frame difference over that of real clips: below 1 is frozen, above jitter.",
    ),
)

METRICS: dict[str, MetricCard] = {card.name: card for card in _CARDS}
"""The metrics of this package, by name."""


@cache
def plug_ins() -> Mapping[str, MetricCard]:
    """Cards of other packages. One that fails to import, is no MetricCard, or takes a name in use is reported once
    through the log and left out, so that it cannot stop a run that does not need it."""
    found: dict[str, MetricCard] = {}
    for entry in sorted(entry_points(group=ENTRY_POINT_GROUP), key=lambda e: (e.name, e.value)):
        try:
            loaded = entry.load()
        except Exception as error:  # whatever a stranger's module raises on import
            problem = f"{type(error).__name__}: {error}"
        else:
            if not isinstance(loaded, MetricCard):
                problem = f"it is a {type(loaded).__name__}, not a stg_eval.metrics.MetricCard"
            elif loaded.name in METRICS or loaded.name in found:
                problem = f"a metric named {loaded.name!r} exists already"
            else:
                found[loaded.name] = loaded
                continue
        logging.getLogger(__name__).warning(
            "metric plug-in %s (%s) is left out: %s", entry.name, entry.value, " ".join(problem.split())
        )
    return found


def card(name: str) -> MetricCard:
    """The card of a metric. Raises StgEvalError with the nearest name for an unknown one."""
    if name in METRICS:  # plug-ins are not even imported for a metric of our own
        return METRICS[name]
    known = METRICS | dict(plug_ins())
    if name not in known:
        near = get_close_matches(name, known, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise StgEvalError(f"unknown metric {name!r}{hint} (known: {', '.join(known)})")
    return known[name]


def load(card: MetricCard, device: str) -> ClipScorer | SetMetric:
    """Bring in the metric's networks. Raises StgEvalError that names the command for missing weights."""
    return _module(card).load(card.name, device)  # type: ignore[no-any-return]


def statistic(card: MetricCard) -> Statistic:
    """The statistic of a set metric, without its networks where they are large: for features that are cached."""
    module = _module(card)
    if hasattr(module, "statistic"):
        return module.statistic(card.name)  # type: ignore[no-any-return]
    return module.load(card.name, "cpu").statistic  # type: ignore[no-any-return]


def _module(card: MetricCard) -> Any:
    try:
        return importlib.import_module(card.module)
    except ImportError as error:
        raise StgEvalError(f"metric {card.name!r} cannot be loaded from {card.module}: {error}") from error


def counted(signature: str, num_clips: int) -> str:
    """A set metric's signature with the number of clips behind a value: ``FVD|...|n*|...`` -> ``FVD|...|n2048|...``."""
    return signature.replace("|n*|", f"|n{num_clips}|")
