"""Which clips a metric counts."""

from __future__ import annotations

import numpy as np
import pandas as pd

from stg_eval.statistics.counting import Counting

KEEP_FIVE = Counting(keep={"tf": 5}, filters={"tf": "static_filter"})


def test_the_first_static_samples_in_the_order_of_file_names_are_kept() -> None:
    rows = [
        {"variant": variant, "case": case, "seed": 3 + k, "static_filter": float(k != 1), "tf": 1.0}
        for variant in ("cfg", "stg")
        for case in "ab"
        for k in range(25)
    ]
    kept = KEEP_FIVE.kept(pd.DataFrame(rows)).dropna()
    for _, group in kept.groupby(["variant", "case"]):
        assert sorted(group["seed"] - 3) == [0, 10, 11, 12, 13]
    few = pd.DataFrame(rows).assign(static_filter=lambda t: (t["seed"] < 5).astype(float))
    assert len(KEEP_FIVE.kept(few).dropna()) == 2 * 2 * 2
    assert np.isnan(KEEP_FIVE.kept(few.assign(static_filter=np.nan))["tf"]).all()


def test_metric_is_computed_on_the_first_clips_on_those_of_its_tag_or_on_both() -> None:
    tags = [("iq",), ("iq", "tf"), (), ("tf",)]
    rule = Counting(metric_clips={"iq": 1, "is": 3}, score_by_tag=True, keep={"tf": 5}, filters={"tf": "static_filter"})
    assert rule.computed("iq", tags).tolist() == [True, False, False, False]
    assert rule.computed("tf", tags).tolist() == [False, True, False, True]
    assert rule.computed("static_filter", tags).tolist() == [False, True, False, True], "wherever it is asked for"
    assert not rule.computed("is", tags).any()
    assert Counting(metric_clips={"is": 3}).computed("is", tags).tolist() == [True, True, True, False]
    assert rule.computed("iq", []).tolist() == []
