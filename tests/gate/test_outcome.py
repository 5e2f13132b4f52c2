"""What a gate prints and writes: valid, complete, and never too large."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from stg_eval.gate import Policy, compare, gate
from stg_eval.gate.outcome import Check, Outcome, Table
from stg_eval.gate.show import outcome

etree = pytest.importorskip("lxml.etree")
SCHEMA = etree.XMLSchema(etree.parse(Path(__file__).with_name("data") / "junit.xsd"))
MakeRun = Callable[..., Path]
CHECKS = st.builds(
    Check,
    group=st.text(min_size=1, max_size=5).filter(str.strip),
    name=st.text(min_size=1, max_size=5).filter(str.strip),
    state=st.sampled_from(["pass", "fail", "skip"]),
    line=st.text(max_size=40),
)


@pytest.fixture
def regression(make_run: MakeRun) -> Outcome:
    policy = Policy(margins={"sharpness": 0.1, "toy_fvd": 0.1})
    before, after = (
        make_run(name, variants=("cfg", "stg"), sharper=shift) for name, shift in (("before", 0.0), ("after", -0.3))
    )
    return outcome(compare(before, after, policy=policy))


@settings(max_examples=40, deadline=None)
@given(st.lists(CHECKS, max_size=6), st.text(max_size=40))
def test_junit_validates_and_counts_right_whatever_the_names(checks: list[Check], headline: str) -> None:
    xml = Outcome(exit_code=1, headline=headline, checks=tuple(checks)).junit()
    root = etree.fromstring(xml.encode())
    SCHEMA.assertValid(root)
    for suite in root:
        children = [[child.tag for child in case] for case in suite.findall("testcase")]
        assert int(suite.get("tests")) == len(children)
        for count, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
            assert int(suite.get(count)) == sum(tags == [tag] for tags in children)


def test_junit_has_a_failure_for_each_regression(regression: Outcome) -> None:
    root = etree.fromstring(regression.junit().encode())
    SCHEMA.assertValid(root)
    failed = {
        (case.get("classname"), case.get("name")) for case in root.iter("testcase") if case.find("failure") is not None
    }
    assert failed == {("stg-eval.cfg", "sharpness"), ("stg-eval.stg", "sharpness")}
    assert [suite.get("tests") for suite in root] == ["2", "2"]


def test_junit_of_an_invalid_comparison_is_an_error_not_a_failure(tmp_path: Path, make_run: MakeRun) -> None:
    found = gate(tmp_path / "absent.zip", make_run("after"))
    root = etree.fromstring(found.junit().encode())
    SCHEMA.assertValid(root)
    assert root[0].get("errors") == "1"
    assert "there is no run or baseline" in root.find(".//error").get("message")


def test_the_schema_refuses_what_it_should() -> None:
    xml = Outcome(exit_code=0, headline="", checks=(Check(group="a", name="b", state="pass", line=""),)).junit()
    for broken in (
        xml.replace(' time="0"', "", 1),
        xml.replace("<properties", "<property"),
        xml.replace('id="0"', 'id="x"'),
    ):
        assert not SCHEMA.validate(etree.fromstring(broken.encode()))


def test_the_summary_renders_as_tables_with_the_worst_pairs(regression: Outcome) -> None:
    html = MarkdownIt("commonmark").enable("table").render(regression.markdown())
    page = etree.fromstring(f"<body>{html}</body>".encode(), etree.HTMLParser())
    verdicts, worst = page.findall(".//table")
    assert [len(t.findall("tbody/tr")) for t in (verdicts, worst)] == [4, 10]
    for table in (verdicts, worst):
        columns = len(table.findall("thead/tr/th"))
        assert all(len(row.findall("td")) == columns for row in table.findall("tbody/tr"))
    assert all("a cat | number" in "".join(row.itertext()) for row in worst.findall("tbody/tr"))
    assert page.find(".//b") is None  # the prompts' "<b>" is shown, not obeyed
    assert "regression: Sharpness (cfg), Sharpness (stg)" in "".join(page.find(".//h2").itertext())


def test_the_summary_stays_below_the_limit_and_says_what_it_left_out() -> None:
    rows = tuple((f"case {i}", "é" * 200) for i in range(10_000))
    big = Outcome(exit_code=1, headline="regression", tables=(Table(title="Pairs", header=("a", "b"), rows=rows),))
    text = big.markdown()
    assert 900_000 < len(text.encode()) < 2**20
    shown = text.count("| case ")
    assert f"{10_000 + 1 - shown} more lines do not fit here" in text


def test_json_has_every_number_and_is_strict_json(regression: Outcome) -> None:
    data = json.loads(regression.json(), parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert data["exit_code"] == 1
    assert len(data["verdicts"]) == 4
    verdict = data["verdicts"][0]
    assert verdict["value"] - verdict["baseline"] == pytest.approx(verdict["difference"])
    assert verdict["n_to_tell"] is None
    assert verdict["column"] == "sharpness|v1"
    assert len(data["worst"]) == 10


def test_the_text_is_a_table_that_lines_up(regression: Outcome) -> None:
    lines = regression.text().splitlines()
    start = lines[1].index("Verdict")
    assert [line[start:] for line in lines[2:6]] == ["worse", "same", "worse", "same"]
    assert lines[-1].startswith("regression: ")


def test_outputs_are_written_and_the_summary_is_appended(make_run: MakeRun, tmp_path: Path) -> None:
    summary = tmp_path / "summary.md"
    summary.write_text("# An earlier step\n")
    files = {
        "json_file": tmp_path / "out" / "c.json",
        "junit_file": tmp_path / "out" / "c.xml",
        "summary_file": summary,
    }
    gate(make_run("before"), make_run("after"), **files)
    assert summary.read_text().startswith("# An earlier step\n## ✅ stg-eval: pass")
    assert json.loads(files["json_file"].read_text())["exit_code"] == 0
    SCHEMA.assertValid(etree.parse(files["junit_file"]))
