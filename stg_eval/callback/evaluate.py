"""One evaluation: guard the training, make and score pairs while the budget lasts, write the run, ask the gate."""

from __future__ import annotations

import math
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from stg_eval import gate, generators, suites
from stg_eval.callback import subset
from stg_eval.callback.budget import Budget
from stg_eval.callback.untouched import digest, modules_of, trained, untouched
from stg_eval.executors.loading import load_metrics
from stg_eval.executors.local import Local
from stg_eval.executors.worker import Setup, Worker
from stg_eval.gate import snapshot
from stg_eval.gate.policy import read_policy
from stg_eval.gate.verdicts import FAILING
from stg_eval.pipeline import run as running
from stg_eval.pipeline.plan import Plan
from stg_eval.pipeline.status import Status
from stg_eval.pipeline.work import Outcome
from stg_eval.storage import results
from stg_eval.storage.results import Results
from stg_eval.storage.store import Store
from stg_eval.suites import Suite
from stg_eval.trackers import begin, check, track
from stg_eval.types import JSONValue, StgEvalError


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What came of one evaluation."""

    step: int
    pairs: int
    """Cases and seeds whose clips were made, one of each variant."""
    seconds: float
    """All that it cost the training, wall clock."""
    path: Path | None
    """Its run; None where it was left out, see `line`."""
    worse: tuple[str, ...] = ()
    """Metrics that the gate found worse than at the best step so far, as "VARIANT METRIC"."""
    stop: bool = False
    line: str = ""
    """What was said on standard error."""


class Evaluate:
    """Scores what is being trained. Call it after each step; it evaluates at multiples of `every`."""

    def __init__(
        self,
        live: Any,
        *,
        model: str,
        suite: str | Path | Suite,
        every: int,
        seconds: float,
        output: str | Path,
        guidance: Sequence[str] = (),
        metrics: Sequence[str] = (),
        settings: Mapping[str, JSONValue] | None = None,
        config: str | Path | None = None,
        patience: int = 1,
        track: str = "",
        track_output: str | None = None,
    ) -> None:
        """Load the metrics, and make a pair on trial that is not kept: what has to be loaded is loaded then, and what
        evaluations will cost is known.

        Args:
            live: the network (for "tiny") or the diffusers pipeline that holds it, on its device, not wrapped.
            model: whose it is: a name of `stg-eval list models`.
            suite: what is shown, as `stg-eval run --suite` takes it.
            every: steps between two evaluations, at least 1.
            seconds: what one evaluation may take: it makes as many pairs as fit.
            output: folder of the evaluations, each a run, and of their store.
            guidance: presets or signatures; the suite's where none is given. Each costs a clip a pair.
            metrics: those that score a clip; the suite's where none is given.
            settings: what `--set` takes: height, num_frames, num_inference_steps, ...
            config: the gate's TOML file: margins, level, which metrics can fail.
            patience: evaluations in a row that must be worse than the best so far, at least 1.
            track: tracker that gets every evaluation: tensorboard, mlflow, wandb or trackio.
            track_output: see `stg-eval track --output`.

        Raises StgEvalError, in one line, for what could not be evaluated, and for seconds that no pair fits into.
        """
        if every < 1 or patience < 1 or not seconds > 0:
            raise StgEvalError("every and patience are at least 1, seconds more than 0")
        if not modules_of(live):
            raise StgEvalError(f"{type(live).__name__} is no network and no pipeline with networks")
        if track:
            check(track)
        self.history: list[Evaluation] = []
        self._live, self._every, self._patience = live, every, patience
        self._output, self._track = Path(output), (track, track_output)
        self._model, self._policy = generators.get(model), replace(read_policy(_path(config)), moved=False)
        first = next(p for module in trained(live).values() for p in module.parameters())
        self._device, self._dtype = str(first.device), str(first.dtype).removeprefix("torch.")
        self._budget = Budget(seconds)
        self._best: tuple[int, str, Path] | None = None
        self._strikes, self._name = 0, self._output.resolve().name
        with untouched(live):
            loaded = suite if isinstance(suite, Suite) else suites.load(suite)
            self._plan = subset.plan_of(loaded, model, guidance, metrics, {**(settings or {}), "dtype": self._dtype})
            self._metrics = load_metrics(self._plan.metrics, self._device)
            self._record = running.describe(self._plan, self._output / "store", self._device)
            results.check_writable(self._output)
            self._generator = self._model.around(live, device=self._device, dtype=self._dtype)
            self._try()

    def due(self, step: int) -> bool:
        """Tell whether a step is evaluated: a multiple of `every` that was not evaluated just now."""
        return step % self._every == 0 and (not self.history or self.history[-1].step != step)

    def __call__(self, step: int, live: Any = None) -> bool:
        """Evaluate if the step is due; returns whether to stop. `live` takes the place of what is evaluated from now
        on, for scripts that build a pipeline anew. What fails is said on standard error and costs this evaluation
        only."""
        if not self.due(step):
            return False
        self._budget.begin()
        try:
            with untouched(self._live if live is None else live):
                if live is not None and live is not self._live:
                    self._live = live
                    self._generator = self._model.around(live, device=self._device, dtype=self._dtype)
                done = self._evaluate(step)
        except Exception as error:  # a training that ran for days must not end for a score
            told = " ".join(f"{error if isinstance(error, StgEvalError) else repr(error)}".split())
            done = Evaluation(step=step, pairs=0, seconds=0.0, path=None, line=f"not evaluated: {told}")
        done = replace(done, seconds=self._budget.elapsed)
        cost = f"{done.pairs} pairs in {done.seconds:.2f} s of {self._budget.seconds:g} s"
        print(f"step {step}: {cost}; {done.line}", file=sys.stderr, flush=True)
        self.history.append(done)
        return done.stop

    def for_lightning(self) -> Any:
        """Return a callback for Lightning's Trainer; it evaluates on the first process and stops all of them. Raises
        StgEvalError where Lightning is not installed."""
        from stg_eval.callback.lightning import callback

        return callback(self)

    def _try(self) -> None:
        """Measure what a pair and what comes behind it cost; once more where the first seems dear, which loads code."""
        budget = self._budget
        with tempfile.TemporaryDirectory(prefix=".trial-", dir=self._output) as folder:
            for attempt in ("1", "2"):
                budget.begin()
                _, final = self._make(Path(folder) / attempt, 0, "trial", lambda made: not made)
                budget.closed()
                if budget.elapsed <= budget.seconds / 2:
                    break
            cost = f"a pair takes {budget.cheapest:.2g} s, what comes behind the pairs {budget.closing:.2g} s"
            if budget.cheapest + budget.closing > budget.seconds:
                raise StgEvalError(
                    f"{cost}: more than seconds={budget.seconds:g}; give more, or settings of smaller clips"
                )
            if self._track[0]:
                budget.start()
                begin(final, self._track[0], output=self._track[1], name=self._name)
                budget.began()
        print(f"evaluations of {budget.seconds:g} s every {self._every} steps: {cost}", file=sys.stderr, flush=True)

    def _evaluate(self, step: int) -> Evaluation:
        budget = self._budget
        if not budget.fits(first=True):
            line = (
                f"left out: a pair takes {budget.cheapest:.2g} s, what comes behind {budget.closing:.2g} s; give more"
            )
            return Evaluation(step=step, pairs=0, seconds=0.0, path=None, line=line)
        weights = f"training@{digest(self._live)}"
        made, final = self._make(self._output, step, weights, lambda made: budget.fits(first=not made))
        verdict, worse = self._judge(step, weights, final)
        self._strikes = self._strikes + 1 if worse else 0
        stop = self._strikes >= self._patience
        if self._track[0]:
            track(final, self._track[0], output=self._track[1], samples=2, name=self._name, step=step)
        budget.closed()
        scores = ", ".join(f"{e.variant} {e.metric} {e.value:.4g}" for e in final.estimates if math.isfinite(e.value))
        line = f"{scores}; {verdict}{'; stop' if stop else ''}"
        return Evaluation(step=step, pairs=made, seconds=0.0, path=final.path, worse=worse, stop=stop, line=line)

    def _make(self, folder: Path, step: int, weights: str, more: Callable[[int], bool]) -> tuple[int, Results]:
        """Make and score pairs one by one while `more(pairs made)`; returns their number and their run."""
        plan, outcome, made = subset.of_weights(self._plan, weights), Outcome(), 0
        everything = len(plan.requests[plan.baseline])
        setup = Setup(folder / "store", self._device, "pyav", plan.card)
        with Store(folder / "store") as store:
            does = Local(Worker(setup, self._metrics, self._generator))
            while made < everything and more(made):
                self._budget.start()
                found = running.fill(subset.part(plan, made, made + 1), store, self._metrics, does, _Silent(None))
                outcome.missing |= found.missing
                outcome.problems += found.problems
                made += 1
                self._budget.made(first=made == 1)
            self._budget.start()
            path = folder / f"step-{step:08d}"
            return made, self._write(path, step, weights, subset.part(plan, 0, made), store, outcome, everything)

    def _write(
        self, path: Path, step: int, weights: str, plan: Plan, store: Store, outcome: Outcome, everything: int
    ) -> Results:
        found = running.collect(plan, store, self._metrics, outcome, {})
        requests = plan.requests[plan.baseline]
        assert self._record.request is not None
        record = self._record.model_copy(
            update={
                "weights": weights,
                "store": str(store.path.resolve()),
                "request": self._record.request.model_copy(update={"weights": weights}),
                "seeds": tuple(sorted({request.seed for request in requests})),
                "expected": len(found.scores),
                "missing": found.missing,
                "problems": found.problems,
                "notes": (
                    f"Training step {step}: {len(requests)} of {everything} pairs, as many as fitted into "
                    f"{self._budget.seconds:g} s; their order is that of a digest",
                ),
            }
        )
        with results.holding(path):
            return results.save(Results(path, record, found.columns, found.estimates, found.scores))

    def _judge(self, step: int, weights: str, final: Results) -> tuple[str, tuple[str, ...]]:
        """Compare with the best step so far, which this one becomes if it is better in a metric and worse in none."""
        here = (step, weights, final.path)
        if self._best is None or not self._best[2].is_dir():
            self._best = here
            return "the first, which later ones are compared with", ()
        best_step, best_weights, best = self._best
        if weights == best_weights:
            return f"the weights of step {best_step}", ()
        sides = subset.common(snapshot.load(best), snapshot.load(final.path))
        verdicts = [v for v in gate.compare(*sides, policy=self._policy).verdicts if v.gated]
        worse = tuple(f"{v.variant} {v.metric}" for v in verdicts if v.word in FAILING)
        better = [f"{v.variant} {v.metric}" for v in verdicts if v.word == "better"]
        if better and not worse:
            self._best = here
        told = [f"{word} {', '.join(which)}" for word, which in (("better", better), ("worse", worse)) if which]
        return f"against step {best_step}: {'; '.join(told) or 'no difference that can be told'}", worse


class _Silent(Status):
    """Shows nothing: a pair is too little for a bar, and the training has its own."""

    def start(self, *, to_make: int, to_score: int) -> None:
        pass

    def made(self, n: int) -> None:
        pass

    def scored(self, n: int) -> None:
        pass


def _path(path: str | Path | None) -> Path | None:
    return None if path is None else Path(path)
