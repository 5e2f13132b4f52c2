"""VBench's prompts and images: counts against the installed package, layouts that are incomplete."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

import pytest

from stg_eval import suites
from stg_eval.datasets.vbench import RATIOS, open_dataset
from stg_eval.metrics import registry
from stg_eval.types import StgEvalError

FIVE = ("imaging_quality", "aesthetic_quality", "motion_smoothness", "dynamic_degree", "temporal_flickering")


@pytest.fixture(scope="module")
def entries() -> list[dict[str, object]]:
    """The official list, read on its own."""
    try:
        installed = files("vbench") or ()
    except PackageNotFoundError:
        pytest.skip("the vbench package is not installed")
    path = next(f for f in installed if f.name == "VBench_full_info.json")
    return json.loads(Path(str(path.locate())).read_text())  # type: ignore[no-any-return]


def test_946_entries_are_944_cases_with_all_their_dimensions(entries: list[dict[str, object]]) -> None:
    cases = list(open_dataset("vbench-t2v", {}, None).cases())
    assert (len(entries), len(cases)) == (946, 944)
    expected: dict[object, set[object]] = {}
    for entry in entries:
        expected.setdefault(entry["prompt_en"], set()).update(entry["dimension"])  # type: ignore[call-overload]
    assert {case.prompt: set(case.tags) for case in cases} == expected
    assert len({case.id for case in cases}) == 944


def test_the_paper_s_five_dimensions_are_2700_videos_of_240_prompts(entries: object) -> None:
    suite = suites.load("vbench-t2v")
    pairs = list(suites.samples(suite, suites.open_dataset(suite)))
    cases = {case.id: case for case, _ in pairs}
    prompts = {d: sum(d in case.tags for case in cases.values()) for d in FIVE}
    assert prompts == dict(zip(FIVE, (93, 93, 72, 72, 75), strict=True))
    clips = Counter(d for case, _ in pairs for d in FIVE if d in case.tags)
    assert (clips["imaging_quality"], clips["motion_smoothness"], clips["temporal_flickering"]) == (465, 360, 1875)
    assert (len(cases), len(pairs), suite.clips) == (240, 2700, 2700)
    assert len(set(pairs)) == 2700
    assert suite.keep_static == {"temporal_flickering": 5}


def test_prompts_are_found_without_importing_vbench(entries: object) -> None:
    code = (
        "import sys; from stg_eval.datasets.vbench import open_dataset; "
        "n = sum(1 for _ in open_dataset('vbench-t2v', {}, None).cases()); "
        "print(n, any(m in sys.modules for m in ('vbench', 'torch')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["944", "False"]


def test_random_prompts_are_the_same_hundred_every_time(entries: object) -> None:
    suite = suites.load("vbench-100")
    one, two = ([c.prompt for c, _ in suites.samples(suite, suites.open_dataset(suite))] for _ in range(2))
    assert one == two
    assert len(set(one)) == suite.clips == 100
    more = [c.prompt for c in open_dataset("vbench-t2v", {"random_prompts": 150}, None).cases()]
    assert more[:100] == one


def test_the_model_is_shown_longer_prompts_and_metrics_look_for_the_official_ones(
    entries: list[dict[str, object]], tmp_path: Path
) -> None:
    from stg_eval.metrics.vbench.prompts import auxiliary

    path = tmp_path / "longer.txt"
    path.write_text("".join(f"{entry['prompt_en']}, in every detail\n" for entry in entries), encoding="utf-8")
    plain, longer = (
        {case.id: case for case in open_dataset("vbench-t2v", options, None).cases()}
        for options in ({}, {"augmented": str(path)})
    )
    assert list(plain) == list(longer), "the same order, so the same --limit"
    for id, case in longer.items():
        assert (case.wanted, case.tags) == (plain[id].prompt, plain[id].tags)
        assert case.prompt.strip() == f"{case.wanted}, in every detail".strip()
        assert case.conditions() != plain[id].conditions()
    colour = next(case for case in longer.values() if "color" in case.tags)
    assert auxiliary("color", colour)["color"] in colour.wanted
    path.write_text("one prompt\n\n")
    with pytest.raises(StgEvalError, match=r"1 prompts in 1 lines; VBench's list has 946"):
        list(open_dataset("vbench-t2v", {"augmented": str(path)}, None).cases())


def test_without_the_package_one_line_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stg_eval.datasets.vbench.find_spec", lambda name: None)
    dataset = open_dataset("vbench-t2v", {}, None)
    assert dataset.missing is not None
    assert "pip install" in dataset.missing
    with pytest.raises(StgEvalError, match="pip install"):
        next(dataset.cases())


def test_an_unknown_dimension_is_named(entries: object) -> None:
    with pytest.raises(StgEvalError, match="no dimension 'sharpness'"):
        next(open_dataset("vbench-t2v", {"dimensions": ["sharpness"]}, None).cases())


@pytest.fixture
def i2v(tmp_path: Path, vbench_i2v_at: Callable[..., Path]) -> Path:
    return vbench_i2v_at(tmp_path / "i2v")


def test_355_images_with_five_samples_are_1775_videos(i2v: Path) -> None:
    suite = suites.load("vbench-i2v")
    dataset = open_dataset("vbench-i2v", {**suite.dataset_options, "root": str(i2v)}, None)
    pairs = list(suites.samples(suite, dataset))
    assert len(pairs) == suite.clips == 1775
    cases = {case.id: case for case, _ in pairs}.values()
    counts = {d: sum(d in case.tags for case in cases) for d in FIVE[:4]}
    assert counts == dict(zip(FIVE, (355, 355, 246, 246), strict=False))
    assert len({case.image_sha256 for case in cases}) == 355
    everything = open_dataset("vbench-i2v", {"root": str(i2v)}, None)
    assert sum(1 for _ in everything.cases()) == 1118


def test_all_nine_dimensions_of_i2v_are_5590_videos(i2v: Path) -> None:
    """Counted in vbench2_i2v_full_info.json: 246 images with a subject, 109 with a background, 763 moving cameras."""
    suite = suites.load("vbench-i2v-full")
    dataset = open_dataset("vbench-i2v", {**suite.dataset_options, "root": str(i2v)}, None)
    clips = list(suites.samples(suite, dataset))
    assert len(clips) == len(set(clips)) == suite.clips == 5590
    counts = {name: sum(name in case.tags for case, _ in clips) for name in suite.metrics}
    totals = [name for name in suite.metrics if not counts[name]]
    assert totals == ["vbench_i2v_total", "vbench_i2v_quality", "vbench_i2v_score"]
    assert {part.metric for total in totals for part in registry.card(total).parts} == {*counts} - {*totals}
    assert (counts["camera_motion"], counts["i2v_subject"], counts["i2v_background"]) == (5 * 763, 5 * 246, 5 * 109)


def test_the_crop_is_chosen_by_aspect_ratio(i2v: Path) -> None:
    assert RATIOS == ("1-1", "8-5", "7-4", "16-9")
    (i2v / "crop" / "16-9").rename(i2v / "crop" / "1-1")
    case = next(open_dataset("vbench-i2v", {"root": str(i2v), "ratio": "1-1"}, None).cases())
    assert Path(str(case.image)).parent == i2v / "crop" / "1-1"
    with pytest.raises(StgEvalError, match="1-1, 8-5, 7-4, 16-9, not 4-3"):
        open_dataset("vbench-i2v", {"root": str(i2v), "ratio": "4-3"}, None)


def test_incomplete_images_are_one_clear_line(i2v: Path, tmp_path: Path) -> None:
    def missing(root: Path) -> str:
        dataset = open_dataset("vbench-i2v", {"root": str(root)}, None)
        with pytest.raises(StgEvalError) as error:
            next(dataset.cases())
        assert str(error.value) == dataset.missing
        return str(dataset.missing)

    assert "data fetch vbench-i2v" in missing(tmp_path / "nothing")
    (i2v / "crop" / "16-9" / "scene 7.png").write_bytes(b"")
    assert "lacks 1 of 355 images, such as 'scene 7.png'" in missing(i2v)
    (i2v / "crop" / "16-9" / "scene 7.png").unlink()
    (i2v / "crop" / "16-9" / "scene 7.png").symlink_to("gone.png")
    assert "lacks 1 of 355 images, such as 'scene 7.png'" in missing(i2v)
    (i2v / "crop").rename(i2v / "elsewhere")
    assert "images are not at" in missing(i2v)
    (i2v / "elsewhere").rename(i2v / "crop")
    (i2v / "vbench2_i2v_full_info.json").write_text('[{"prompt_en": 1}]')
    assert "damaged" in missing(i2v)


def test_an_image_that_does_not_decode_is_named(i2v: Path) -> None:
    for path in (i2v / "crop" / "16-9").iterdir():
        path.write_bytes(b"not an image")
    with pytest.raises(StgEvalError, match=r"scene \d+.png does not decode"):
        next(open_dataset("vbench-i2v", {"root": str(i2v)}, None).cases())
