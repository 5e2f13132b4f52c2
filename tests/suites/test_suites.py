"""Suites: every mistake in a file is named by file, line and field; runs grow without waste."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stg_eval import suites
from stg_eval.suites import Suite
from stg_eval.types import Case, StgEvalError

GOOD = """\
name: mine
title: My suite
dataset: demo-100
samples: {default: 2}
metrics: [temporal_flickering]
guidance: [cfg, "cfg7+stg-a[11]s2t2"]
baseline: cfg
"""


class Cases:
    """A data set of cases with tags, counting how many were read."""

    missing: str | None = None

    def __init__(self, *tags: str) -> None:
        self._tags, self.read = tags, 0

    def cases(self, dry: bool = False) -> Iterator[Case]:
        for i, tag in enumerate(self._tags):
            self.read += 1
            yield Case(id=str(i), prompt=str(i), tags=(tag,))

    def reference(self) -> None:
        return None


def suite(**changes: object) -> Suite:
    fields: dict[str, object] = {"name": "s", "title": "s", "dataset": "prompts", "metrics": ("temporal_flickering",)}
    return Suite(**{**fields, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize("name", suites.names())
def test_every_built_in_suite_loads_and_fits_one_screen(name: str) -> None:
    loaded = suites.load(name)
    assert loaded.name == name
    assert loaded.baseline in loaded.guidance
    assert suites.open_dataset(loaded) is not None
    assert len((Path(suites.__file__).parent / f"{name}.yaml").read_text().splitlines()) <= 25


def test_a_metric_that_no_filter_picks_clips_for_cannot_keep_some(tmp_path: Path) -> None:
    kept = GOOD.replace("[temporal_flickering]", "[motion_smoothness]").replace(
        "baseline: cfg", "keep_static: {motion_smoothness: 5}"
    )
    (tmp_path / "mine.yaml").write_text(kept)
    with pytest.raises(
        StgEvalError, match="line 7: keep_static: no filter says which clips of 'motion_smoothness' count"
    ):
        suites.load(tmp_path / "mine.yaml")


def test_the_suites_of_the_issue_are_there() -> None:
    assert {"demo", "vbench-t2v", "vbench-i2v", "ucf101-i2v", "evalcrafter", "custom", "demo-100"} <= set(
        suites.names()
    )


def test_a_user_s_file_gives_what_it_says(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(GOOD)
    loaded = suites.load(tmp_path / "mine.yaml")
    assert (loaded.name, loaded.samples, loaded.guidance[1]) == ("mine", {"default": 2}, "cfg7+stg-a[11]s2t2")
    assert len(list(suites.samples(loaded, suites.open_dataset(loaded)))) == 200


@pytest.mark.parametrize(
    ("before", "after", "line", "problem"),
    [
        ("samples:", "sampels:", 4, "sampels: unknown field, did you mean 'samples'?"),
        ("{default: 2}", "{default: two}", 4, "samples: must map names to whole numbers"),
        ("{default: 2}", "{flicker: 2}", 4, "samples: needs 'default'"),
        ("{default: 2}", "{default: 2, default: 3}", 4, "samples.default: given twice"),
        ("demo-100", "demo-10", 3, "dataset: unknown value 'demo-10'; did you mean 'demo-100'?"),
        ("temporal_flickering", "temporal_flicker", 5, "metrics: unknown metric 'temporal_flicker'; did you mean"),
        ("[temporal_flickering]", "[]", 5, "metrics: must be a list with at least one name"),
        ("[temporal_flickering]", "temporal_flickering", 5, "metrics: must be a list"),
        ("[11]s2t2", "[11]q2", 6, "guidance: cannot read"),
        ("baseline: cfg", "baseline: stg", 7, "baseline: 'stg' is not one of guidance"),
        ("baseline: cfg", "title: again", 7, "title: given twice, first in line 2"),
        ("baseline: cfg", "cluster: prompt", 7, "cluster: unknown value 'prompt'"),
        ("baseline: cfg", "score_by_tag: 1", 7, "score_by_tag: must be true or false"),
        ("baseline: cfg", "reference_clips: -3", 7, "reference_clips: must be a whole number"),
        ("baseline: cfg", "generation: {size: [1, 2]}", 7, "generation: must map names to single values"),
        ("baseline: cfg", "metric_clips: {fvd: 20}", 7, "metric_clips: 'fvd' is not one of metrics"),
        ("baseline: cfg", "baseline: [", 8, ""),
        ("baseline: cfg", "seed: !!python/object:os.system x", 7, "seed: no plain value (could not determine"),
        ("baseline: cfg", "seed: 2024-13-45", 7, "seed: no plain value (month must be in 1..12"),
        ("baseline: cfg", "seed: !!bool perhaps", 7, "seed: no plain value ("),
        ("baseline: cfg", "generation: {? [a] : 1}", 7, "generation: no plain value (found unhashable key"),
        ("title: My suite\n", "", 1, "the field 'title' is missing"),
        (GOOD, "- a list", 1, "a suite is a mapping"),
    ],
)
def test_a_mistake_is_named_by_file_line_and_field(
    tmp_path: Path, before: str, after: str, line: int, problem: str
) -> None:
    assert before in GOOD
    path = tmp_path / "mine.yaml"
    path.write_text(GOOD.replace(before, after))
    with pytest.raises(StgEvalError) as error:
        suites.load(path)
    assert str(error.value).startswith(f"{path}, line {line}: {problem}")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("dataset", "option", "problem"),
    [
        ("vbench-t2v", "random_prompts: -5", "random_prompts .* whole number from 1 to 10,000, not -5"),
        ("vbench-t2v", "random_prompts: ten", "random_prompts .* whole number from 1 to 10,000, not 'ten'"),
        ("vbench-t2v", "random_prompts: true", "random_prompts .* whole number from 1 to 10,000, not True"),
        ("vbench-t2v", "dimensions: [[color]]", "dimensions .* list of names"),
        ("sprites", "num_frames: abc", "num_frames .* whole number from 1 to 10,000, not 'abc'"),
        ("sprites", "height: 0", "height .* whole number from 1 to 10,000, not 0"),
        ("sprites", "1: 2", "a name that looks like a number stands in quotes"),
    ],
)
def test_an_option_that_the_dataset_cannot_take_is_one_line(
    tmp_path: Path, dataset: str, option: str, problem: str
) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(GOOD.replace("demo-100", f"{dataset}\ndataset_options: {{{option}}}"))
    with pytest.raises(StgEvalError, match=problem) as error:
        suites.open_dataset(suites.load(path))
    assert "\n" not in str(error.value)


def test_an_unknown_name_gets_the_nearest_and_a_lost_path_the_kinds() -> None:
    with pytest.raises(StgEvalError, match="did you mean 'vbench-t2v'"):
        suites.load("vbench-t2")
    with pytest.raises(StgEvalError, match=r"no suite at no/such\.yaml"):
        suites.load("no/such.yaml")


def test_a_prompt_file_or_image_folder_is_a_suite(tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_text("a cat\na dog\n")
    loaded = suites.load(tmp_path / "p.txt")
    assert (loaded.name, loaded.dataset) == ("p", "prompts")
    assert [(c.prompt, s) for c, s in suites.samples(loaded, suites.open_dataset(loaded))] == [
        ("a cat", 0),
        ("a dog", 0),
    ]
    assert suites.load(tmp_path).dataset == "images"


def test_custom_without_a_file_says_what_it_needs() -> None:
    loaded = suites.load("custom")
    with pytest.raises(StgEvalError, match=r"--suite prompts\.txt"):
        list(suites.samples(loaded, suites.open_dataset(loaded)))


tags = st.lists(st.sampled_from("abc"), min_size=1, max_size=30)


@given(tags=tags, default=st.integers(1, 4), special=st.integers(1, 9), limit=st.integers(1, 300))
def test_a_limited_run_is_a_prefix_of_the_full_run(tags: list[str], default: int, special: int, limit: int) -> None:
    protocol = suite(samples={"default": default, "a": special}, seed=5)
    full = list(suites.samples(protocol, Cases(*tags)))
    assert list(suites.samples(protocol, Cases(*tags), limit=limit)) == full[:limit]
    counts = Counter((case.id, case.tags[0]) for case, _ in full)
    assert counts == {(str(i), tag): special if tag == "a" else default for i, tag in enumerate(tags)}
    assert all(seed >= 5 for _, seed in full)
    assert len(set(full)) == len(full)


@given(n=st.integers(1, 40), samples=st.integers(1, 5))
def test_every_prefix_of_a_tagged_suite_is_stratified(n: int, samples: int) -> None:
    protocol = suite(samples={"default": samples, "a": 5 * samples})
    full = [case.tags[0] for case, _ in suites.samples(protocol, Cases(*"ab" * n))]
    share = full.count("a") / len(full)
    for stop in range(1, len(full) + 1):
        assert abs(full[:stop].count("a") - share * stop) <= 1.5


def test_a_fraction_is_of_the_full_run_and_at_least_one_clip() -> None:
    protocol = suite(samples={"default": 4})
    assert len(list(suites.samples(protocol, Cases(*"ab" * 25), fraction=0.1))) == 20
    assert len(list(suites.samples(protocol, Cases("a"), fraction=0.01))) == 1
    assert len(list(suites.samples(protocol, Cases(*"ab" * 25), fraction=0.5, limit=7))) == 7


def test_seeds_replace_the_suite_s_counts() -> None:
    protocol = suite(samples={"default": 5, "a": 25}, clips=150)
    pairs = list(suites.samples(protocol, Cases(*"ab"), seeds=3))
    assert sorted((case.tags[0], seed) for case, seed in pairs) == [(t, s) for t in "ab" for s in range(3)]


def test_the_first_clips_read_no_more_cases_than_they_need() -> None:
    data = Cases(*"ab" * 500)
    list(suites.samples(suite(samples={"default": 3}), data, limit=10))
    assert data.read == 10


def test_a_data_set_that_ends_early_is_an_error_and_not_a_smaller_run() -> None:
    protocol = suite(clips=10)
    with pytest.raises(StgEvalError, match="needs 10 clips a variant and its dataset gives only 4"):
        list(suites.samples(protocol, Cases(*"abab")))
    assert len(list(suites.samples(protocol, Cases(*"abab"), limit=4))) == 4


@pytest.mark.parametrize("bad", [{"limit": 0}, {"fraction": 0.0}, {"fraction": 1.5}, {"seeds": 0}, {"seeds": 10**9}])
def test_a_senseless_amount_is_refused(bad: dict[str, float]) -> None:
    with pytest.raises(StgEvalError, match="--"):
        list(suites.samples(suite(), Cases("a"), **bad))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["ucf101-i2v", "vbench-i2v", "vbench-i2v-full", "evalcrafter"])
def test_a_dry_plan_counts_data_that_is_not_there(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STG_EVAL_CACHE", str(tmp_path))
    protocol = suites.load(name)
    data = suites.open_dataset(protocol)
    pairs = list(suites.samples(protocol, data, dry=True))
    assert len(pairs) == len({(case.id, seed) for case, seed in pairs}) == protocol.clips
    assert list(suites.samples(protocol, data, dry=True, fraction=0.01)) == pairs[: round(0.01 * len(pairs))]
    assert data.missing is not None
    with pytest.raises(StgEvalError, match="data fetch"):
        list(suites.samples(protocol, data))


def test_the_sprites_are_drawn_alike_each_time_and_labelled() -> None:
    protocol = suites.load("demo")
    data = suites.open_dataset(protocol)
    labels = Counter(case.label for case, _ in suites.samples(protocol, data))
    assert labels == dict.fromkeys(range(12), 16)
    one, two = data.reference(), suites.open_dataset(protocol).reference()
    assert one is not None
    assert two is not None
    assert (one.digest, one.count) == (two.digest, 2048)
    assert callable(one.clips)
    assert (one.clips(3, 5) == one.clips(0, 5)[3:]).all()


def test_datasets_stays_a_plain_directory_that_cannot_shadow_hugging_face() -> None:
    import stg_eval

    assert not (Path(stg_eval.__file__).parent / "datasets" / "__init__.py").exists()
