"""A gate: did a change of sampler, kernel or library make the videos worse? Two runs in, verdicts out.

Both sides are made with the same suite and seeds, and paired clip by clip. Give each side a store of its own: clips are
named by what was asked for, not by your code, so a shared store would hand the old clips to the new code.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path

from stg_eval.gate import golden as golden_frames
from stg_eval.gate import snapshot
from stg_eval.gate.outcome import Outcome
from stg_eval.gate.pairing import FIELDS, NotComparable, changes, mismatches, pairs
from stg_eval.gate.policy import Policy, read_policy
from stg_eval.gate.show import outcome
from stg_eval.gate.snapshot import Snapshot
from stg_eval.gate.verdicts import FAILING, Comparison, Verdict, judge, worst_pairs
from stg_eval.types import StgEvalError

CRASHED = 70
"""Exit code of a fault of stg-eval's own, as the command line has it."""

__all__ = ["Comparison", "NotComparable", "Outcome", "Policy", "Snapshot", "Verdict", "compare", "gate"]


def gate(
    baseline: Path,
    run: Path,
    *,
    allow: Collection[str] = (),
    config: Path | None = None,
    update_baseline: bool = False,
    golden: int | None = None,
    json_file: Path | None = None,
    junit_file: Path | None = None,
    summary_file: Path | None = None,
) -> Outcome:
    """Return `stg-eval compare BASELINE RUN`: compare, write the outputs that are asked for, say how to exit. Never
    raises StgEvalError for what is wrong with the two sides: that is exit code 2 or 3, in every output.

    Args:
        baseline: a baseline file, a run folder, or a folder of golden frames.
        run: the run folder under test.
        allow: fields of `stg_eval.gate.pairing.FIELDS` that may differ.
        config: TOML, see `stg_eval.gate.policy.read_policy`.
        update_baseline: make `baseline` what `run` is, whatever the verdict; exit code 0.
        golden: with `update_baseline`, keep the first N clips of each variant as golden frames instead of scores.
        json_file: where everything is written as JSON.
        junit_file: where the verdicts are written as JUnit XML.
        summary_file: where Markdown is appended (GitHub's GITHUB_STEP_SUMMARY).
    """
    try:
        result = _gate(baseline, run, allow, read_policy(config), update_baseline, golden)
    except StgEvalError as error:
        found = [m._asdict() for m in error.mismatches] if isinstance(error, NotComparable) else []
        result = Outcome(exit_code=error.exit_code, headline=str(error), data={"mismatches": found})
    except Exception as error:  # whoever reads the files must not take the last run's for this one's
        result = Outcome(exit_code=CRASHED, headline=f"unexpected {type(error).__name__}: {error}")
        result.write(json_file=json_file, junit_file=junit_file, summary_file=summary_file)
        raise
    result.write(json_file=json_file, junit_file=junit_file, summary_file=summary_file)
    return result


def compare(
    baseline: Path | Snapshot, run: Path | Snapshot, *, allow: Collection[str] = (), policy: Policy | None = None
) -> Comparison:
    """Compare two runs (folders, baseline files, or what `snapshot.load` made of them).

    Raises NotComparable (exit code 3) with everything that differs, StgEvalError (2) for damaged or invalid input.
    """
    unknown = set(allow) - FIELDS.keys()
    if unknown:
        raise StgEvalError(f"cannot allow {sorted(unknown)[0]!r} (known: {', '.join(FIELDS)})")
    before, after = (side if isinstance(side, Snapshot) else snapshot.load(side) for side in (baseline, run))
    found = mismatches(before, after)
    refused = [m for m in found if m.field not in allow]
    if refused:
        raise NotComparable(refused)
    _refuse_the_same_clips(before, after)
    paired = pairs(before, after)
    policy = policy or Policy()
    verdicts = judge(before, after, paired, policy)
    worst = [w for v in _by_features(verdicts, after) for w in worst_pairs(v, before, after, paired, policy)]
    return Comparison(
        baseline=before.path,
        run=after.path,
        verdicts=tuple(verdicts),
        worst=tuple(worst),
        allowed=tuple(f"{m.field}: {m.line}" for m in found),
        changes=tuple(changes(before, after)),
    )


def _gate(
    baseline: Path, run: Path, allow: Collection[str], policy: Policy, update_baseline: bool, golden: int | None
) -> Outcome:
    if golden is not None and not update_baseline:
        raise StgEvalError("--golden N says how many clips --update-baseline keeps; leave it out when comparing")
    if update_baseline and (golden is not None or golden_frames.is_golden(baseline)):
        return golden_frames.update(baseline, run, golden or 8)
    if golden_frames.is_golden(baseline):
        return golden_frames.compare(baseline, run, policy.golden)
    if not update_baseline:
        return outcome(compare(baseline, run, allow=allow, policy=policy))
    snapshot.write(snapshot.load(run), baseline)
    return Outcome(exit_code=0, headline=f"baseline written to {baseline} ({baseline.stat().st_size / 1e3:,.0f} kB)")


def _by_features(verdicts: Iterable[Verdict], run: Snapshot) -> Collection[Verdict]:
    """Return those that fail, and of set metrics on the same features the first: their pairs are the same."""
    features = run.run.features
    first: dict[tuple[str, str], Verdict] = {}
    for v in verdicts:
        if v.word in FAILING:
            first.setdefault((v.variant, features[v.metric].extractor if v.metric in features else v.metric), v)
    return first.values()


def _refuse_the_same_clips(before: Snapshot, after: Snapshot) -> None:
    same_store = before.store is not None and before.store == after.store
    if same_store and before.path != after.path and set(before.scores["key"]) == set(after.scores["key"]):
        raise StgEvalError(
            f"{after.path} is made of the very clips of {before.path} (one store, {before.store}): nothing was "
            "generated anew, so nothing is tested; run one side with another --store"
        )
