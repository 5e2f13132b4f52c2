"""Prompt files, image folders, EvalCrafter, demo-100, and fetching: bad input is one clear line."""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image

from stg_eval import suites, weights
from stg_eval.datasets import files
from stg_eval.datasets.dataset import stratified
from stg_eval.datasets.demo100 import PROMPTS
from stg_eval.storage.walk import is_hidden
from stg_eval.types import Case, StgEvalError

LIST = Path(__file__).parent / "evalcrafter700.txt"


def read(path: Path) -> list[Case]:
    return list(suites.open_dataset(suites.load(path)).cases())


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_prompt_files_of_the_three_kinds_give_the_same_cases(tmp_path: Path) -> None:
    lines = ["a cat, sleeping", 'a "big" dog', "ein Übersee-Dampfer"]
    txt = write(tmp_path, "p.txt", "\n".join(lines) + "\n")
    quoted = [line.replace('"', '""') for line in lines]
    csv = write(tmp_path, "p.csv", "prompt\n" + "".join(f'"{line}"\n' for line in quoted))
    escaped = [line.replace('"', '\\"') for line in lines]
    jsonl = write(tmp_path, "p.jsonl", "".join(f'{{"prompt": "{line}"}}\n' for line in escaped))
    for path in (txt, csv, jsonl):
        assert [case.prompt for case in read(path)] == lines


def test_csv_and_jsonl_carry_ids_negative_prompts_and_tags(tmp_path: Path) -> None:
    csv = write(tmp_path, "p.csv", "id,prompt,negative_prompt,tags\nx,a cat,blurry,animal; pet\ny,a car,,\n")
    jsonl = write(
        tmp_path,
        "p.jsonl",
        '{"id": "x", "prompt": "a cat", "negative_prompt": "blurry", "tags": ["animal", "pet"]}\n'
        '{"id": "y", "prompt": "a car"}\n',
    )
    assert (
        read(csv)
        == read(jsonl)
        == [
            Case(id="x", prompt="a cat", negative_prompt="blurry", tags=("animal", "pet")),
            Case(id="y", prompt="a car"),
        ]
    )


def test_only_newlines_divide_prompts(tmp_path: Path) -> None:
    prompts = ["a cat\u2028runs", "a dog\u0085sleeps", "a bird\x0cflies", "a fish\x1eswims"]
    txt = write(tmp_path, "p.txt", "\r\n".join(prompts))
    jsonl = write(tmp_path, "p.jsonl", "\n".join(f'{{"prompt": "{prompt}"}}' for prompt in prompts[:2]))
    assert [(case.id, case.prompt) for case in read(txt)] == [(f"{i:04d}", p) for i, p in enumerate(prompts, 1)]
    assert [case.prompt for case in read(jsonl)] == prompts[:2]


def test_an_id_may_be_a_number_even_0(tmp_path: Path) -> None:
    lines = ['{"prompt": "a cat", "id": 0}', '{"prompt": "a dog", "id": 7}', '{"prompt": "a car", "id": null}']
    assert [case.id for case in read(write(tmp_path, "p.jsonl", "\n".join(lines)))] == ["0", "7", "0003"]


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("p.txt", "a cat\na dog\na cat \n", "line 3: same prompt as line 1"),
        ("p.txt", "", "holds no prompts"),
        ("p.csv", "text\na cat\n", "no column 'prompt'"),
        ("p.csv", "prompt,speed\na cat,3\n", "line 2: unknown field 'speed'"),
        ("p.csv", "prompt,id\na cat\n", "line 2: another number of columns"),
        ("p.csv", 'prompt\n"a cat\n', "line 2"),
        ("p.csv", "prompt,id\na cat,1\na dog,1\n", "line 3: same id as line 2"),
        ("p.jsonl", '{"prompt": "a cat"}\n{"prompt": \n', "line 2: no JSON"),
        ("p.jsonl", '["a cat"]\n', "line 1: must be an object"),
        ("p.jsonl", '{"prompt": "a cat", "tags": 3}\n', "line 1: tags must be a list"),
        ("p.jsonl", '{"prompt": "a cat", "tags": 0}\n', "line 1: tags must be a list"),
        ("p.jsonl", '{"prompt": ["x"]}\n', 'line 1: prompt must be text, not ["x"]'),
        ("p.jsonl", '{"prompt": 0}\n', "line 1: prompt must be text, not 0"),
        ("p.jsonl", '{"prompt": null}\n', "line 1: empty prompt"),
        ("p.jsonl", '{"prompt": "a cat", "negative_prompt": {}}\n', "line 1: negative_prompt must be text, not {}"),
        ("p.jsonl", '{"prompt": "a cat", "id": false}\n', "line 1: id must be text, not false"),
    ],
)
def test_a_bad_prompt_file_names_file_line_and_remedy(tmp_path: Path, name: str, text: str, problem: str) -> None:
    path = write(tmp_path, name, text)
    with pytest.raises(StgEvalError) as error:
        read(path)
    assert problem in str(error.value)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_file_in_another_encoding_is_refused(tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_bytes("Übersee".encode("latin-1"))
    with pytest.raises(StgEvalError, match="UTF-8"):
        read(tmp_path / "p.txt")


def test_an_image_folder_gives_a_case_an_image(make_image: Callable[..., Path]) -> None:
    folder = make_image("b.png", 1).parent
    make_image("a.jpg", 2)
    write(folder, "notes.md", "left alone")
    cases = read(folder)
    assert [case.id for case in cases] == ["a.jpg", "b.png"]
    assert cases[0].image == str(folder / "a.jpg")
    import hashlib

    assert cases[0].image_sha256 == hashlib.sha256((folder / "a.jpg").read_bytes()).hexdigest()


def test_an_image_that_does_not_decode_is_named_even_after_it_was_good(make_image: Callable[..., Path]) -> None:
    path = make_image("a.png", 1)
    good = path.read_bytes()
    read(path.parent)
    for bad in (good[: len(good) // 2], b"GIF89a", b""):
        path.write_bytes(bad)
        with pytest.raises(StgEvalError, match=r"a.png does not decode as an image") as error:
            read(path.parent)
        assert "\n" not in str(error.value)


def test_the_same_image_twice_and_a_folder_without_images_are_refused(
    make_image: Callable[..., Path], tmp_path: Path
) -> None:
    folder = make_image("a.png", 1).parent
    make_image("b.png", 1)
    with pytest.raises(StgEvalError, match=r"b.png is the same image as a.png"):
        read(folder)
    (tmp_path / "empty").mkdir()
    with pytest.raises(StgEvalError, match="no folder with images"):
        read(tmp_path / "empty")


@pytest.fixture
def evalcrafter(cache: Path) -> Path:
    folder = cache / "data" / "evalcrafter"
    folder.mkdir(parents=True)
    shutil.copy(LIST, folder / "prompt700.txt")
    return folder / "prompt700.txt"


def test_evalcrafter_has_700_cases_under_its_own_numbers(evalcrafter: Path) -> None:
    suite = suites.load("evalcrafter")
    cases = {case.id: case.prompt for case, _ in suites.samples(suite, suites.open_dataset(suite))}
    lines = LIST.read_text(encoding="utf-8").split("\n")
    assert len(cases) == len(lines) == suite.clips == 700
    assert cases == {f"{i:04d}": line.strip() for i, line in enumerate(lines)}


def test_another_evalcrafter_list_or_none_is_refused(evalcrafter: Path) -> None:
    suite = suites.load("evalcrafter")
    evalcrafter.write_text(evalcrafter.read_text(encoding="utf-8") + "\nmore", encoding="utf-8")
    with pytest.raises(StgEvalError, match="SHA-256 differs"):
        next(suites.open_dataset(suite).cases())
    evalcrafter.unlink()
    with pytest.raises(StgEvalError, match="data fetch evalcrafter"):
        next(suites.open_dataset(suite).cases())


def test_demo_100_has_ten_different_prompts_of_each_of_ten_kinds() -> None:
    suite = suites.load("demo-100")
    cases = [case for case, _ in suites.samples(suite, suites.open_dataset(suite))]
    assert Counter(case.tags for case in cases) == {(kind,): 10 for kind in PROMPTS}
    assert len({case.prompt.casefold() for case in cases}) == suite.clips == 100
    assert {case.tags for case in cases[:10]} == {case.tags for case in cases}, "kinds take turns"


def test_fetch_says_where_size_licence_and_what_is_left_to_do(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def deliver(url: str, path: Path, sha256: str | None, size: int) -> None:
        assert (sha256, size) == (files.SOURCES["evalcrafter"].sha256, LIST.stat().st_size)
        path.parent.mkdir(parents=True)
        shutil.copy(LIST, path)

    monkeypatch.setattr(weights, "download", deliver)
    said = "\n".join(files.fetch("evalcrafter"))
    assert "49,929 bytes" in said
    assert "licence" in said
    suite = suites.load("evalcrafter")
    assert suites.open_dataset(suite).missing is None
    ucf = "\n".join(files.fetch("ucf101"))
    assert "6.9 GB" in ucf
    assert str(cache / "data" / "ucf101") in ucf
    with pytest.raises(StgEvalError, match="unknown data 'kinetics'"):
        files.fetch("kinetics")


def test_every_prefix_holds_each_stratum_s_share() -> None:
    items = [("a", i) for i in range(60)] + [("b", i) for i in range(30)] + [("c", i) for i in range(10)]
    ordered = stratified(items, lambda item: item[0], str)
    assert sorted(ordered) == sorted(items)
    for n in range(1, 101):
        counts = Counter(kind for kind, _ in ordered[:n])
        for kind, share in (("a", 0.6), ("b", 0.3), ("c", 0.1)):
            assert abs(counts[kind] - share * n) <= 1


NAMES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="/\0"), min_size=1).filter(
    lambda name: len(name.encode()) <= 251 and not is_hidden(name)
)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sets(NAMES, min_size=1, max_size=3))
@example({"a\rb", "a\nb", "=cmd", "-x", "ü" * 125, " lead"})
def test_any_file_name_comes_back_as_the_id_of_its_case(names: set[str]) -> None:
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        for colour, name in enumerate(sorted(names)):
            Image.new("RGB", (2, 2), (colour, 0, 0)).save(folder / f"{name}.png", "PNG")
        cases = read(folder)
        assert {case.id for case in cases} == {f"{name}.png" for name in names}
        assert all(Path(case.image or "").read_bytes() for case in cases)
