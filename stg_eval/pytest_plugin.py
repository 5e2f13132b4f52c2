"""pytest plug-in: the gate as a test. Installed with stg-eval; nothing is imported until a test asks for `stg_eval`.

    def test_the_new_sampler_is_as_good(stg_eval):
        run = stg_eval.run("demo", "tiny", limit=256)
        stg_eval.check("baselines/tiny.zip", run)

``pytest --stg-eval-update-baseline`` writes the baselines instead of checking against them.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from stg_eval.gate import Outcome


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.getgroup("stg-eval").addoption(
        "--stg-eval-update-baseline",
        action="store_true",
        help="write the baselines of stg_eval.check(...) from this session's runs, and pass",
    )


@pytest.fixture
def stg_eval(request: pytest.FixtureRequest, tmp_path: Path) -> Gate:
    """Runs suites into the test's own folder, and checks them against baselines."""
    return Gate(tmp_path, update=request.config.getoption("--stg-eval-update-baseline"))


class Gate:
    """What the fixture gives."""

    def __init__(self, folder: Path, *, update: bool) -> None:
        self.folder = folder
        self.update = update

    def run(self, suite: str, model: str, *, name: str = "run", **options: Any) -> Path:
        """`stg_eval.run`, into a fresh store: clips are named by what was asked for, not by the code under test.
        Returns the run folder. A run that lacks clips fails the test."""
        import stg_eval

        places = {"store": self.folder / f"{name}-store", "output": self.folder / name}
        finished = stg_eval.run(**{"suite": suite, "model": model, **places, **options})
        if finished.missing:
            pytest.fail("clips are missing:\n" + "\n".join(finished.missing), pytrace=False)
        return finished.results[0].path

    def compare(self, baseline: str | Path, run: str | Path, **options: Any) -> Outcome:
        """The outcome, whatever it is; options are those of `stg_eval.compare`."""
        import stg_eval

        return stg_eval.compare(baseline=baseline, run=run, **options)

    def check(self, baseline: str | Path, run: str | Path, **options: Any) -> Outcome:
        """Fail the test with the whole table unless the run passes against the baseline."""
        outcome = self.compare(baseline, run, **{"update_baseline": self.update, **options})
        if outcome.exit_code:
            pytest.fail(outcome.text(), pytrace=False)
        return outcome
