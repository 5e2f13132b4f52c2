"""What a study says: means, preferences, reliability, checks of raters, agreement with automatic scores.

Input are the tables of `ratings` and `preferences`; every figure comes with its n and a 95 % interval over cases.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from stg_eval import statistics
from stg_eval.rating.aspects import CHOICES, NAMES
from stg_eval.rating.study import Study

CARELESS_SHARE = 0.9
"""A rater who gives one answer to more than this share of questions is named."""


def ratings(study: Study) -> pd.DataFrame:
    """Return one row an answer to a single clip: rater, case, seed, variant, aspect, rating (1-5), anchor, position,
    seconds.

    anchor is "" for a clip of the run. Empty for a study of pairs.
    """
    clips, rows = study.clips(), []
    for name, trial, position, answer, seconds in study.answers() if study.mode == "single" else ():
        clip = clips[trial.clips[0]]
        rows += [
            (name, clip.case, clip.seed, clip.variant, aspect, answer[aspect], clip.anchor, position, seconds)
            for aspect in NAMES
        ]
    names = ["rater", "case", "seed", "variant", "aspect", "rating", "anchor", "position", "seconds"]
    return pd.DataFrame(rows, columns=names)


def preferences(study: Study) -> pd.DataFrame:
    """Return one row an answer to a pair: rater, case, seed, variant, baseline, aspect, preference, side, anchor and so
    on.

    preference: 1 for the variant, 0 equal, -1 for the baseline; side: where the variant was. Empty for a study of
    single clips. An anchor's pair has the untouched clip as its variant, so 1 is the right answer.
    """
    clips, rows, baseline = study.clips(), [], study.settings["baseline"]
    for name, trial, position, answer, seconds in study.answers() if study.mode == "pair" else ():
        pair = [clips[i] for i in trial.clips]
        anchor = "".join(clip.anchor for clip in pair)
        lesser = [bool(clip.anchor) if anchor else clip.variant == baseline for clip in pair]
        side = lesser.index(False)
        for aspect in NAMES:
            choice = CHOICES.index(answer[aspect]) - 1  # -1 left, 1 right
            rows.append(
                (name, pair[side].case, pair[side].seed, pair[side].variant, pair[1 - side].variant, aspect,
                 choice * (1 if side else -1), CHOICES[2 * side], anchor, position, seconds)
            )  # fmt: skip
    names = ["rater", "case", "seed", "variant", "baseline", "aspect", "preference", "side", "anchor", "position"]
    return pd.DataFrame(rows, columns=[*names, "seconds"])


def means(table: pd.DataFrame, baseline: str) -> pd.DataFrame:
    """Return mean rating of each aspect and variant, and its paired difference from the baseline.

    Columns: aspect, variant, n, mean, low, high, difference, difference_low, difference_high, p_value. Pairs are the
    ratings that one rater gave the clips of one case; intervals and p-values resample cases.
    """
    table, rows = table[table["anchor"] == ""], []
    for aspect in NAMES:
        part = table[table["aspect"] == aspect]
        wide = part.pivot(index=["case", "seed", "rater"], columns="variant", values="rating").astype(float)
        cases = list(wide.index.get_level_values("case"))
        for variant in (v for v in dict.fromkeys(table["variant"]) if v in wide):
            mean = statistics.mean_interval(wide[variant].to_numpy(), cases)
            row: dict[str, Any] = {"aspect": aspect, "variant": variant, "n": mean.n}
            row |= {"mean": mean.value, "low": mean.low, "high": mean.high}
            if variant != baseline and baseline in wide:
                d = statistics.paired_mean_difference(wide[variant].to_numpy(), wide[baseline].to_numpy(), cases)
                row |= {"difference": d.difference, "difference_low": d.low, "difference_high": d.high}
                row["p_value"] = d.p_value
            rows.append(row)
    return pd.DataFrame(rows)


def preference_rates(table: pd.DataFrame) -> pd.DataFrame:
    """Return shares of raters' choices for each variant, for neither and for the baseline, by aspect.

    net is for minus against, -1 to 1, with its interval and p-value over cases.
    """
    table, rows = table[table["anchor"] == ""], []
    for (variant, aspect), part in table.groupby(["variant", "aspect"], sort=False):
        chosen = part["preference"].to_numpy()
        net = statistics.paired_mean_difference(chosen, np.zeros(len(chosen)), list(part["case"]))
        shares = {name: float((chosen == value).mean()) for name, value in (("wins", 1), ("equal", 0), ("losses", -1))}
        rows.append(
            {"aspect": aspect, "variant": variant, "n": len(chosen), **shares, "net": net.difference,
             "net_low": net.low, "net_high": net.high, "p_value": net.p_value}
        )  # fmt: skip
    return pd.DataFrame(rows)


def reliability(table: pd.DataFrame, value: str) -> dict[str, float]:
    """Return Krippendorff's alpha of each aspect, ordinal: 1 is full agreement, 0 what chance gives (Krippendorff
    2011).

    value: the column that holds the answers. nan where fewer than two raters saw a clip or all answers are the same.
    """
    import krippendorff

    table, out = table[table["anchor"] == ""], {}
    for aspect in NAMES:
        part = table[table["aspect"] == aspect]
        units = part.pivot(index="rater", columns=["case", "seed", "variant"], values=value).to_numpy(float)
        shared = units[:, (~np.isnan(units)).sum(0) > 1] if units.size else units
        if shared.size == 0 or len(np.unique(shared[~np.isnan(shared)])) < 2:
            out[aspect] = math.nan
        else:
            out[aspect] = float(krippendorff.alpha(reliability_data=shared, level_of_measurement="ordinal"))
    return out


def rater_checks(table: pd.DataFrame, value: str) -> pd.DataFrame:
    """Say how each rater went about it, with a remark where something asks for a look.

    Columns: clips, median seconds a clip, the share of the commonest answer, agreement with the mean of the others
    (Spearman), anchors seen and failed. An anchor is failed where a blurred clip's video quality or a frozen clip's
    motion is not rated below that rater's own median (for pairs: where the altered clip is not found worse).
    """
    rows = []
    real = table[table["anchor"] == ""]
    units = real.pivot(index="rater", columns=["case", "seed", "variant", "aspect"], values=value)
    for rater, part in table.groupby("rater", sort=False):
        answers = units.loc[rater] if rater in units.index else pd.Series(dtype=float)
        others = units.drop(index=rater, errors="ignore").mean()
        both = (answers.notna() & others.notna()).to_numpy()
        same = float(answers.value_counts(normalize=True).iloc[0]) if answers.notna().any() else math.nan
        failed, seen = _failed_anchors(part, value)
        row: dict[str, Any] = {
            "rater": rater,
            "clips": int(part["position"].nunique()),
            "median_seconds": float(part.groupby("position")["seconds"].first().median()),
            "commonest_answer": same,
            "agreement": _spearman(answers.to_numpy(float)[both], others.to_numpy(float)[both]),
            "anchors": seen,
            "anchors_failed": failed,
        }
        remarks = ["failed an anchor"] * bool(failed) + ["nearly always the same answer"] * (same > CARELESS_SHARE)
        rows.append(row | {"remark": "; ".join(remarks)})
    return pd.DataFrame(rows)


def _failed_anchors(part: pd.DataFrame, value: str) -> tuple[int, int]:
    """Return (failed, seen) anchors of one rater."""
    tells = {"blurred": "video_quality", "frozen": "motion_quality"}
    failed = seen = 0
    for anchor, aspect in tells.items():
        answers = part[part["aspect"] == aspect]
        mine = answers.loc[answers["anchor"] == anchor, value]
        usual = answers.loc[answers["anchor"] == "", value]
        seen += len(mine)
        failed += int((mine <= 0).sum()) if value == "preference" else int((mine >= usual.median()).sum())
    return failed, seen


def agreement(people: pd.DataFrame, value: str, scores: pd.DataFrame, metrics: Sequence[str]) -> pd.DataFrame:
    """Say which automatic score predicts people best: for each aspect and metric of single clips, Spearman's
    correlation of the metric with people's mean answer, with a bootstrap interval over cases.

    scores: a run's table (case, seed, variant and a column a metric). For preferences the metric's side is its
    difference from the baseline. Columns: aspect, metric, n, correlation, low, high; best first within an aspect.
    """
    real = people[people["anchor"] == ""]
    keys = ["case", "seed", "variant"]
    clips = scores.assign(case=scores["case"].astype(str)).set_index(keys)
    rows = []
    for aspect in NAMES:
        answered = real[real["aspect"] == aspect].groupby(keys, sort=False)[value].mean()
        for metric in metrics:
            automatic: Any = clips[metric].astype(float)
            if value == "preference":
                wide = automatic.unstack("variant")
                automatic = wide.sub(wide[real["baseline"].iloc[0]], axis=0).stack()
            both = pd.DataFrame({"people": answered, "metric": automatic.reindex(answered.index)}).dropna()
            low, high = _correlation_interval(both)
            rho = _spearman(both["people"].to_numpy(float), both["metric"].to_numpy(float))
            rows.append((aspect, metric, len(both), rho, low, high))
    table = pd.DataFrame(rows, columns=["aspect", "metric", "n", "correlation", "low", "high"])
    order = np.lexsort((-table["correlation"].fillna(-2), table["aspect"].map(NAMES.index)))
    return table.iloc[order]


def _spearman(x: np.ndarray, y: np.ndarray) -> float:
    if len(x) < 3 or len(set(x)) < 2 or len(set(y)) < 2:
        return math.nan
    import scipy

    return float(scipy.stats.spearmanr(x, y).statistic)


def _correlation_interval(both: pd.DataFrame, resamples: int = 500) -> tuple[float, float]:
    groups = [part.to_numpy() for _, part in both.groupby(level="case", sort=False)]
    if len(groups) < 5:
        return math.nan, math.nan
    rng = np.random.default_rng(0)
    found = []
    for _ in range(resamples):
        drawn = np.concatenate([groups[i] for i in rng.integers(len(groups), size=len(groups))])
        found.append(_spearman(drawn[:, 0], drawn[:, 1]))
    low, high = np.nanquantile(found, (0.025, 0.975)) if not np.isnan(found).all() else (math.nan, math.nan)
    return float(low), float(high)
