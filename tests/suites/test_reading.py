"""Suite files that somebody wrote, or something damaged: a suite, or one line that names the file."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from stg_eval import suites
from stg_eval.types import StgEvalError

HOME = Path(suites.__file__).parent
GOOD = "name: mine\ntitle: Mine\ndataset: demo-100\nmetrics: [temporal_flickering]\n"


def outcome(path: Path, data: bytes) -> suites.Suite | str:
    """The suite, or the line that refuses it."""
    path.write_bytes(data)
    try:
        return suites.load(path)
    except StgEvalError as refusal:
        return str(refusal)


@pytest.mark.parametrize(
    ("more", "problem"),
    [
        ("samples: {default: 1, 7: 2}", "line 5: samples: must map names to values; a name that looks like a number"),
        ("dataset_options: {1: 2}", "line 5: dataset_options: must map names"),
        ("generation: {3: 4}", "line 5: generation: must map names"),
        ("generation: [[[[", "line"),
        ("generation: " + "[" * 100_000, "line 5: is nested more than 20 deep"),
        ("generation: " + "{a: " * 100_000, "line 5: is nested more than 20 deep"),
        ('title: "\\ud800"', "line 5: '\\ud800' is no UTF-8 text"),
        ("clips: 1000000000000000000", "line 5: clips: must be a whole number from 1 to 10,000,000"),
        (
            "samples: {default: 1000000000000000000}",
            "line 5: samples: must map names to whole numbers from 1 to 100,000",
        ),
        ("seed: 1" + "0" * 30, "line 5: seed: must be a whole number of at most 63 bits"),
        ("clips: " + "9" * 5000, "line 5: clips"),
        ("seed: 1\nseed: 2", "line 6: seed: given twice"),
        ("samples: {default: 1, default: 2}", "line 5: samples.default: given twice"),
        ("baseline: &a [*a]", "line 5: baseline: must be text, not [["),
        (
            "cluster: [&a [x,x,x,x,x,x,x,x,x], &b [*a,*a,*a,*a,*a,*a,*a,*a], &c [*b,*b,*b,*b,*b,*b,*b,*b],"
            " &d [*c,*c,*c,*c,*c,*c,*c,*c], &e [*d,*d,*d,*d,*d,*d,*d,*d], [*e,*e,*e,*e,*e,*e,*e,*e,*e]]",
            "line 5: cluster: must be text",
        ),
    ],
)
def test_what_no_suite_needs_is_one_line(tmp_path: Path, more: str, problem: str) -> None:
    found = outcome(tmp_path / "s.yaml", (GOOD + more + "\n").encode())
    assert isinstance(found, str)
    assert problem in found
    assert "\n" not in found
    assert len(found) < 1000


@pytest.mark.parametrize("name", ["../up", "/etc/x", ".hidden", '"a\\nb"'])
def test_a_name_cannot_lead_out_of_the_folder_of_results(tmp_path: Path, name: str) -> None:
    assert "names the folder of the results" in str(
        outcome(tmp_path / "s.yaml", GOOD.replace("mine", name, 1).encode())
    )


def test_a_suite_that_windows_saved_is_read(tmp_path: Path) -> None:
    found = outcome(tmp_path / "s.yaml", b"\xef\xbb\xbf" + GOOD.replace("\n", "\r\n").encode())
    assert isinstance(found, suites.Suite)
    assert found.name == "mine"


def test_250_damaged_suites_are_suites_or_one_line(tmp_path: Path) -> None:
    originals = [path.read_bytes() for path in sorted(HOME.glob("*.yaml"))]
    pieces = [
        b"\0",
        b"\xff",
        b"*a",
        b"&a ",
        b"!!python/object:os.system ",
        b"{",
        b"]",
        b"\t",
        b": ",
        b"~",
        b"1e18",
        b"-",
    ]
    pieces += [
        b"\n- ",
        b"'",
        b'"\\ud800"',
        b"!!binary x",
        b"2024-13-45",
        b"<<: ",
        b"? ",
        b"|\n",
        b"%YAML 3.0\n",
        b"---\n",
    ]
    random_ = random.Random(0)
    refused = 0
    for _ in range(250):
        data = bytearray(random_.choice(originals))
        for _ in range(random_.randrange(1, 4)):
            at = random_.randrange(len(data))
            match random_.randrange(3):
                case 0:
                    data[at] = random_.randrange(256)
                case 1:
                    del data[at : at + random_.randrange(1, 30)]
                case 2:
                    data[at:at] = random_.choice(pieces)
        found = outcome(tmp_path / "s.yaml", bytes(data))
        if isinstance(found, str):
            refused += 1
            assert "\n" not in found
            assert "s.yaml" in found
    assert 100 < refused < 250, "some of both"
