"""The methods paragraph and its references."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from stg_eval import suites
from stg_eval.metrics.registry import METRICS
from stg_eval.pipeline.citations import cited
from stg_eval.reports import write_report
from stg_eval.reports.methods import key_of, methods_files, paragraph
from stg_eval.reports.tables import run_tables
from stg_eval.reports.writers.latex import to_latex
from stg_eval.storage.record import AskedFor, Provenance
from stg_eval.storage.results import Results
from stg_eval.suites.sources import citations

EVERYTHING = [entry for card in METRICS.values() for entry in card.citations]
EVERYTHING += [entry for name in suites.names() for entry in citations(suites.load(name))]


@pytest.fixture
def complete(tmp_path: Path, make_results: Callable[..., Results]) -> Results:
    """A run of VBench's prompts with every field that a run can have."""
    asked = AskedFor(
        model="mochi",
        weights="genmo/mochi-1-preview@abc",
        height=480,
        width=848,
        num_frames=85,
        fps=30.0,
        num_inference_steps=64,
        dtype="bfloat16",
        encoding="h264-crf17",
        settings={"offload": "model"},
    )
    made = Provenance(stg_eval="9.8.7", git_commit="c0ffee", packages={"torch": "2.15.0", "av": None}, device="cuda")
    record = {"suite": "vbench-100", "model": "mochi", "metrics": ("fvd", "temporal_flickering", "dynamic_degree")}
    return make_results(
        tmp_path, pairs=4, run={**record, "request": asked, "provenance": made, "weights": asked.weights}
    )


def test_the_paragraph_says_every_setting_seed_and_version(complete: Results) -> None:
    text = paragraph(complete, cited(complete.run))
    assert "\n" not in text
    told = [
        "genmo/mochi-1-preview@abc", "848 × 480", "85 frames", "30 frames a second", "64 steps", "bfloat16",
        "h264-crf17",
        "offload=model", "seeds 0-1", "cfg3+stg-a[3]s2t2", "compared with `cfg3`", "stg-eval 9.8.7 (commit `c0ffee`)",
        "torch 2.15.0", "2 cases", "8 clips", "4,000 resamples", "24 groups", "paired by case and seed",
        "[@huang2024vbench]",
        "[@unterthiner2018fvd; @ge2024content; @wang2023videomae2]", *(f"`{c.signature}`" for c in complete.columns),
    ]  # fmt: skip
    assert [one for one in told if one not in text] == []
    assert "av None" not in text


def test_what_is_cited_is_in_the_references_and_nothing_else(complete: Results) -> None:
    files = methods_files([complete, complete], cited)
    keys = set(re.findall(r"^@\w+\{([^,]+),", files["references.bib"], re.MULTILINE))
    assert keys == set(re.findall(r"@(\w+)[;\]]", files["methods.md"]))
    assert keys == {key for group in re.findall(r"\\cite\{([^}]*)\}", files["methods.tex"]) for key in group.split(",")}
    assert len(files["methods.md"].splitlines()) == 1, "two runs of which the same is to be said"
    unknown = replace(complete, run=complete.run.model_copy(update={"suite": "my-own", "metrics": ("sharpness",)}))
    assert methods_files([unknown], cited)["references.bib"] == ""


def test_one_key_stands_for_one_entry_everywhere() -> None:
    found: dict[str, str] = {}
    for entry in EVERYTHING:
        assert found.setdefault(key_of(entry), entry) == entry
        assert entry.count("{") == entry.count("}")
        assert re.search(r"^  year = \{(19|20)\d\d\},$", entry, re.MULTILINE)
    assert {"soomro2012ucf101", "liu2024evalcrafter"} <= found.keys()
    with pytest.raises(ValueError, match="no BibTeX"):
        key_of("Huang et al., 2024")


def test_a_table_longer_than_a_page_goes_on_and_loses_no_row(complete: Results) -> None:
    (table, *_) = run_tables(complete)
    long = replace(table, rows=tuple(replace(table.rows[0], labels=(f"row {i}", "cfg3")) for i in range(70)))
    text = to_latex(long)
    assert re.findall(r"row (\d+) &", text) == [str(i) for i in range(70)]
    assert text.count(r"\begin{table}") == 3
    assert len(set(re.findall(r"\\label{(.*)}", text))) == 3
    assert text.count("TF|vbench|v1".replace("|", r"\textbar{}")) == 1, "remarks stand below the last"


@pytest.mark.skipif(not (shutil.which("pdflatex") and shutil.which("bibtex")), reason="needs pdflatex and bibtex")
def test_every_reference_compiles(complete: Results, tmp_path: Path) -> None:
    def cite(run: object) -> dict[str, list[str]]:
        return {"": EVERYTHING}

    page = write_report([complete], tmp_path / "store", tmp_path / "out", cite)
    folder = page.parent / "tables"
    for command in ("pdflatex", "bibtex", "pdflatex", "pdflatex"):
        options = ["-interaction=nonstopmode", "-halt-on-error"] if command == "pdflatex" else []
        done = subprocess.run(
            [command, *options, "tables"], cwd=folder, capture_output=True, text=True, errors="replace"
        )
        assert done.returncode == 0, done.stdout[-2000:]
    log = (folder / "tables.log").read_text(errors="replace")
    assert "undefined" not in log
    assert "Warning" not in (folder / "tables.blg").read_text(errors="replace")
    assert (folder / "tables.bbl").read_text().count(r"\bibitem") == len({key_of(entry) for entry in EVERYTHING})
