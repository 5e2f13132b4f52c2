"""What is written as CSV is read back equal: by Python's reader, by pandas', and as the scores of a run."""

from __future__ import annotations

import csv
import io
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
from hypothesis import example, given, settings
from hypothesis import strategies as st

from stg_eval.gate import snapshot
from stg_eval.storage import csv_text, results
from stg_eval.storage.results import Column, Results

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
"""Everything that UTF-8 can write; what it cannot is refused where it comes in."""
COLUMN = Column(
    name="m", title="", short="", higher_is_better=None, scale=1, digits=1, signature="", note="", kind="clip"
)
VALUE = st.floats(allow_nan=False, allow_infinity=False)


@given(st.lists(st.lists(TEXT, min_size=2, max_size=2)))
@example([["a\rb", "c\nd"], ["\r\n", '"'], ["", "=1+1"], ["\x00", "\u2028"]])
def test_rows_come_back_equal(rows: list[list[str]]) -> None:
    text = csv_text.of_rows(rows)
    assert list(csv.reader(io.StringIO(text, newline=""), strict=True)) == rows
    assert "\r" not in text or any("\r" in cell for row in rows for cell in row), "lines end in LF alone"


@settings(max_examples=60)
@given(st.lists(st.tuples(TEXT, TEXT, TEXT, TEXT, VALUE), min_size=1, max_size=5))
@example([("v", "a\rb", "two\r\nlines", "\r", 0.1)])
@example([("v", "\ufeffNA", "nan", " 1 ", 5e-324)])
@example([("v", "a\x00b", "\u2028\x85\x0c", '","', 0.1 + 0.2)])
def test_scores_of_a_run_come_back_equal_whatever_the_text(
    make_record: Callable[..., Any], rows: list[tuple[str, str, str, str, float]]
) -> None:
    text = ["variant", "case", "prompt", "file"]
    record = make_record({variant: "cfg3" for variant, *_ in rows}, expected=len(rows))
    scores = pd.DataFrame(rows, columns=[*text, "m"]).assign(tags="", label=1, seed=0, key="k")
    with tempfile.TemporaryDirectory() as folder:
        results.save(Results(Path(folder), record, (COLUMN,), (), scores))
        found = results.load(Path(folder)).scores
        kept = snapshot.Snapshot(
            path=Path(folder), run=record, columns=(COLUMN,), scores=scores, features={}, store=None
        )
        snapshot.write(kept, Path(folder) / "baseline.zip")
        baseline = snapshot.load(Path(folder) / "baseline.zip").scores
    for table in (found, baseline):
        assert table[[*text, "m"]].to_numpy().tolist() == [list(row) for row in rows]


@given(st.lists(TEXT.filter(bool)))
@example(["hot air", "100%", "%20", "\u2028"])
def test_words_of_a_cell_come_back_equal(words: list[str]) -> None:
    assert csv_text.words(csv_text.of_words(words)) == words


def test_a_cell_of_plain_words_is_as_it_was() -> None:
    assert csv_text.of_words(["subject_consistency", "color", "Übersee"]) == "subject_consistency color Übersee"


def test_files_without_line_ends_in_their_text_are_what_pandas_writes() -> None:
    frame = pd.DataFrame({"a": ["x", 'q"', "1,2"], "b": [True, False, True], "v": [0.5, float("nan"), 1e300]})
    assert csv_text.of_frame(frame) == frame.to_csv(index=False, lineterminator="\n").encode()
