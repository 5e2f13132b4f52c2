"""What a page of several models opens with."""

from __future__ import annotations

from dataclasses import replace

import pytest

from stg_eval.reports.gallery.seen import seen
from stg_eval.storage.results import Results


@pytest.fixture
def models(results: Results) -> list[Results]:
    """Two models under the same two variants; the second gains nothing that its clips can tell."""
    run = results.run.model_copy(update={"variants": results.run.variants[:2], "model_title": "Good"})
    first = replace(results, run=run)
    second = replace(
        first,
        run=run.model_copy(update={"model_title": "Good enough"}),
        estimates=tuple(
            replace(e, difference=0.5, difference_low=-2.0, difference_high=3.0) if e.baseline else e
            for e in results.estimates
        ),
    )
    return [first, second]


def test_page_of_two_models_opens_with_the_gain_of_one_and_its_absence_on_the_other(models: list[Results]) -> None:
    sentence, picture = seen(models)
    assert sentence.startswith("stg-a against cfg, on Good: Fréchet Video Distance −11.3 [−17.3, −5.3] (better), ")
    assert "; on Good enough: Fréchet Video Distance +0.5 [−2.0, +3.0] (cannot tell), " in sentence
    assert [row.labels for row in picture.rows] == [("Good",), ("Good enough",)]
    assert [cell.mark for cell in (row.cells[0] for row in picture.rows)] == ["better", ""]


def test_a_page_whose_runs_compare_different_things_opens_with_none(models: list[Results], results: Results) -> None:
    assert seen(models[:1]) is None
    assert seen([models[0], results]) is None  # three variants there
    bare = [replace(one, estimates=()) for one in models]
    assert seen(bare) is None
