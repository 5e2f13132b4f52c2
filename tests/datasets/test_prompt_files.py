"""Prompt files as editors, spreadsheets and scripts write them: read equal, or refused in one line."""

from __future__ import annotations

import csv
import io
import json
import random
import tempfile
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from stg_eval.datasets import prompts
from stg_eval.types import Case, StgEvalError

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1).filter(
    lambda text: text == text.strip() and text
)
PROMPTS = st.lists(TEXT, min_size=1, max_size=5, unique=True)


def read(name: str, data: bytes) -> list[Case]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(data)
        return prompts.read(path)


def outcome(name: str, data: bytes) -> list[Case] | str:
    """The cases, or the line that refuses them."""
    try:
        cases = read(name, data)
    except StgEvalError as refusal:
        return one_line(refusal)
    assert cases
    return cases


def one_line(refusal: StgEvalError) -> str:
    assert "\n" not in str(refusal)
    return str(refusal)


def as_csv(texts: list[str], divider: str = ",", head: str = "prompt") -> str:
    out = io.StringIO()
    csv.writer(out, delimiter=divider, lineterminator="\n", quoting=csv.QUOTE_ALL).writerows(
        [[head], *([t] for t in texts)]
    )
    return out.getvalue()


@given(PROMPTS, st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]), st.sampled_from(",;\t"))
@example(["a\rb", "two\r\nlines", "=1+1", '"', "a\u2028b", "\ufeffx", "😀"], "utf-16", ";")
def test_any_prompt_comes_back_equal_from_jsonl_and_csv(texts: list[str], encoding: str, divider: str) -> None:
    lines = "".join(json.dumps({"prompt": text}, ensure_ascii=len(texts) % 2 == 0) + "\n" for text in texts)
    assert [case.prompt for case in read("p.jsonl", lines.encode(encoding))] == texts
    table = as_csv(texts, divider, head="Prompt")
    assert [case.prompt for case in read("p.CSV", table.encode(encoding))] == texts


@given(PROMPTS.filter(lambda texts: not any("\n" in text for text in texts)), st.sampled_from(["\n", "\r\n"]))
@example(["a cat\rruns", "a dog"], "\n")
def test_any_line_comes_back_equal_from_txt(texts: list[str], end: str) -> None:
    data = (end.join(texts) + end).encode()
    if "\r" in texts[0] and "\n" not in data.decode().rstrip():
        data += b"one more\n"
        texts = [*texts, "one more"]
    assert [case.prompt for case in read("p.txt", data)] == texts


@pytest.mark.parametrize(
    ("name", "text", "blank"),
    [
        ("p.txt", "a cat\n\na dog\n\n\n", "3 blank lines"),
        ("p.txt", "a cat\n  \na dog", "1 blank line "),
        ("p.csv", "prompt\na cat\n\n  \na dog\n", "2 blank lines"),
        ("p.csv", "prompt;tags\na cat;\n;\na dog;\n;\n", "2 blank lines"),
        ("p.jsonl", '{"prompt": "a cat"}\n\n{"prompt": "a dog"}\n\n', "2 blank lines"),
    ],
)
def test_blank_lines_are_skipped_and_counted(
    name: str, text: str, blank: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert [case.prompt for case in read(name, text.encode())] == ["a cat", "a dog"]
    said = capsys.readouterr().err
    assert blank in said
    assert said.count("\n") == 1


def test_a_blank_line_leaves_the_numbers_of_the_others_alone() -> None:
    assert [case.id for case in read("p.txt", b"\na cat\n\na dog\n")] == ["0002", "0004"]


@pytest.mark.parametrize(
    ("name", "data", "problem"),
    [
        (
            "p.jsonl",
            b'{"prompt": "a"}\n{"prompt": "a \\ud800 b"}\n',
            "line 2: 'a \\ud800 b' is no UTF-8 text ('\\ud800')",
        ),
        ("p.jsonl", b'{"prompt": "a", "tags": ["\\udfff"]}\n', "line 1: '\\udfff' is no UTF-8 text"),
        ("p.jsonl", b'{"prompt": "a", "prompt": "b"}\n', "line 1: no JSON (the key 'prompt' twice)"),
        ("p.jsonl", b"[" * 100_000 + b"\n", "line 1: no JSON"),
        ("p.jsonl", b'{"prompt": "a", "id": ' + b"9" * 5000 + b"}\n", "line 1: no JSON"),
        ("p.jsonl", b"null\n", "line 1: must be an object"),
        ("p.csv", b"prompt,Prompt\na,b\n", "line 1: two columns 'prompt'"),
        ("p.csv", b"prompt,tags,tags\na,b,c\n", "line 1: two columns 'tags'"),
        ("p.csv", b"Text;Tags\na;b\n", "line 1: the header has no column 'prompt'"),
        ("p.csv", b"", "line 1: the header has no column 'prompt'"),
        ("p.txt", b"a cat\na d\xf6g\n", "line 2: no UTF-8 text"),
        ("p.txt", "a cat".encode("utf-16-le"), "line 1: a NUL character"),
        ("p.txt", b"a cat\ra dog\r", "line 1: lines end in carriage returns alone"),
    ],
)
def test_what_cannot_be_read_is_named_by_file_and_line(name: str, data: bytes, problem: str) -> None:
    with pytest.raises(StgEvalError) as error:
        read(name, data)
    assert problem in str(error.value)
    assert name in str(error.value)
    assert "\n" not in str(error.value)


@settings(max_examples=50)
@given(st.sampled_from([".txt", ".csv", ".jsonl"]), st.binary(max_size=60))
def test_any_bytes_are_cases_or_one_line(kind: str, data: bytes) -> None:
    outcome(f"p{kind}", data)


def test_250_damaged_prompt_files_are_cases_or_one_line() -> None:
    good = {
        ".txt": "a cat\na dog, sleeping\nein Übersee-Dampfer\n",
        ".csv": 'id,prompt,negative_prompt,tags\nx,a cat,blurry,animal; pet\ny,"a ""big"" car",,\n',
        ".jsonl": '{"id": 1, "prompt": "a cat", "tags": ["x"]}\n{"prompt": "\\u00dcber \\ud83d\\ude00"}\n',
    }
    random_ = random.Random(0)
    refused = 0
    for _ in range(250):
        kind = random_.choice(list(good))
        data = bytearray(good[kind].encode(random_.choice(["utf-8", "utf-8", "utf-16", "latin-1"])))
        for _ in range(random_.randrange(1, 4)):
            at = random_.randrange(len(data))
            match random_.randrange(4):
                case 0:
                    data[at] = random_.randrange(256)
                case 1:
                    del data[at : at + random_.randrange(1, 20)]
                case 2:
                    data[at:at] = random_.choice(
                        [b"\0", b"\r", b'"', b"\n\n", b"\xff", b"{", b"\\ud800", b",,", b"\x1a"]
                    )
                case 3:
                    data += data[at:]
            data = data or bytearray(b" ")
        refused += isinstance(outcome(f"p{kind}", bytes(data)), str)
    assert 50 < refused < 250, "some of both"
