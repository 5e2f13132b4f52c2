"""Refusals: what differs is said, and let pass only by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stg_eval.gate import NotComparable, compare, gate
from stg_eval.gate.pairing import FIELDS
from stg_eval.storage.record import FeaturesOf, Missing, Provenance, RealClips
from stg_eval.storage.results import Results
from stg_eval.types import StgEvalError

MakeRun = Callable[..., Path]


def _other_signature(run: Results) -> None:
    object.__setattr__(run.columns[0], "signature", "sharpness|v2")


def _other_prompt(run: Results) -> None:
    run.scores.loc[run.scores["case"] == "case-3", "prompt"] = "a dog"


def _lost_clip(run: Results) -> None:
    run.scores.loc[(run.scores["case"] == "case-5") & (run.scores["seed"] == 1), "sharpness"] = float("nan")


LOST: dict[str, Any] = {
    "record": {"missing": (Missing(variant="cfg", case="case-5", seed=1, problem="out of memory"),)},
    "edit": _lost_clip,
}
OTHER = {"toy_fvd": FeaturesOf(extractor="toy|4d", reference=RealClips(digest="real", count=19))}

DIFFERENCES: list[tuple[str, dict[str, Any], str]] = [
    ("suite", {"record": {"suite": "vbench"}}, "suite: demo in the baseline, vbench in the run"),
    ("variants", {"variants": ("cfg", "stg")}, "variants: 'stg' is missing in the baseline"),
    ("cases", {"cases": 39}, "cases: 'case-39' is missing in the run"),
    ("cases", {"edit": _other_prompt}, "cases: 'case-3' had another prompt or label"),
    ("seeds", {"seeds": (4, 5)}, "seeds: 0-1 in the baseline, 4-5 in the run"),
    ("clips", LOST, "clips: 'cfg/case-5/seed 1' is missing in the run"),
    (
        "metrics",
        {"edit": _other_signature},
        r"metrics: sharpness was sharpness\|v1 in the baseline and is sharpness\|v2",
    ),
    ("reference", {"record": {"features": OTHER}}, "reference: toy_fvd was compared with other real clips"),
    ("encoding", {"encoding": "h264-crf17"}, "encoding: vp9-lossless in the baseline, h264-crf17 in the run"),
    ("height", {"height": 32}, "height: 16 in the baseline, 32 in the run"),
    ("width", {"width": 32}, "width: 16 in the baseline, 32 in the run"),
    ("num_frames", {"num_frames": 16}, "num_frames: 8 in the baseline, 16 in the run"),
    ("fps", {"fps": 24.0}, r"fps: 8\.0 in the baseline, 24\.0 in the run"),
]


def test_every_field_has_a_case_below() -> None:
    assert {field for field, *_ in DIFFERENCES} == FIELDS.keys()


@pytest.mark.parametrize(
    ("field", "how", "line"), DIFFERENCES, ids=[f"{f}-{i}" for i, (f, *_) in enumerate(DIFFERENCES)]
)
def test_what_differs_is_refused_by_name_and_allowed_by_name(
    field: str, how: dict[str, Any], line: str, make_run: MakeRun
) -> None:
    before, after = make_run("before"), make_run("after", **how)
    with pytest.raises(NotComparable, match=line) as refusal:
        compare(before, after)
    assert [m.field for m in refusal.value.mismatches] == [field]
    assert f"--allow {field}" in str(refusal.value)
    assert refusal.value.exit_code == 3
    allowed = compare(before, after, allow=[field])
    assert [line.partition(":")[0] for line in allowed.allowed] == [field]
    assert allowed.verdicts


def test_every_difference_is_listed_at_once(make_run: MakeRun) -> None:
    with pytest.raises(NotComparable) as refusal:
        compare(make_run("before"), make_run("after", height=32, encoding="h264-crf17", seeds=(0,)))
    assert [m.field for m in refusal.value.mismatches] == ["seeds", "encoding", "height"]
    with pytest.raises(NotComparable, match=r"not comparable:\n  encoding.*\nMake both sides alike"):
        compare(make_run("b2"), make_run("a2", height=32, encoding="h264-crf17"), allow=["height"])


def test_a_lost_clip_leaves_the_other_pairs(make_run: MakeRun) -> None:
    found = compare(make_run("before"), make_run("after", **LOST), allow=["clips"])
    assert [v.n for v in found.verdicts] == [79, 79]


def test_a_signature_that_counts_clips_is_no_other_metric(make_run: MakeRun) -> None:
    def counted(run: Results) -> None:
        object.__setattr__(run.columns[1], "signature", f"toy|n{80 - len(run.run.missing)}|v1")

    with pytest.raises(NotComparable) as refusal:
        compare(make_run("before", edit=counted), make_run("after", record=LOST["record"], edit=counted))
    assert [m.field for m in refusal.value.mismatches] == ["clips"]


def test_other_seeds_are_paired_in_their_order(make_run: MakeRun) -> None:
    found = compare(make_run("before"), make_run("after", seeds=(9, 4), sharper=-3), allow=["seeds"])
    assert {(w.seed, w.seed_run) for w in found.worst} <= {(0, 4), (1, 9)}
    assert [v.n for v in found.verdicts] == [80, 80]


def test_the_order_of_clips_does_not_matter(make_run: MakeRun) -> None:
    def backwards(run: Results) -> None:
        object.__setattr__(run, "scores", run.scores.iloc[::-1])

    before, after = make_run("before"), make_run("after", sharper=-0.2)
    shuffled = make_run("after", sharper=-0.2, edit=backwards)
    differences = [[v.difference for v in compare(before, side).verdicts] for side in (after, shuffled)]
    assert differences[0] == pytest.approx(differences[1])


def test_a_clip_that_counts_twice_is_invalid(make_run: MakeRun) -> None:
    def twice(run: Results) -> None:
        run.scores.loc[1, ["case", "seed"]] = ["case-0", 0]

    with pytest.raises(StgEvalError, match=r"holds a clip twice: .*case-0"):
        compare(make_run("before", edit=twice), make_run("after", edit=twice))


def test_weights_libraries_and_guidance_may_differ_and_are_shown(make_run: MakeRun) -> None:
    newer = {
        "provenance": Provenance(stg_eval="0.1.0", packages={"torch": "2.1"}, device="cpu"),
        "variants": {"cfg": "cfg8"},
    }
    found = compare(make_run("before"), make_run("after", record=newer, dtype="bfloat16"))
    assert found.changes == ("dtype: float16 -> bfloat16", "guidance cfg: cfg7 -> cfg8", "torch: 2.0 -> 2.1")


def test_the_same_clips_under_another_name_test_nothing(make_run: MakeRun) -> None:
    before = make_run("before")
    again = make_run("again", record={"store": f"{before}-store"}, requests="before")
    with pytest.raises(StgEvalError, match="nothing was generated anew"):
        compare(before, again)


def test_an_unknown_field_cannot_be_allowed(make_run: MakeRun) -> None:
    outcome = gate(make_run("before"), make_run("after"), allow=["hight"])
    assert outcome.exit_code == 2
    assert "cannot allow 'hight'" in outcome.headline
