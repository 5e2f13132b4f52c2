"""What other packages offer is found by its entry point; a broken one is reported and stops nothing."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from dataclasses import replace
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path
from types import ModuleType

import pytest

from stg_eval import generators, plug_ins, suites
from stg_eval.suites import sources
from stg_eval.types import StgEvalError

OTHERS = {
    "stg_eval.models": {
        "pebble": "stranger:MODEL",
        "a_taken": "stranger:TAKEN",
        "a_no_model": "stranger:NO_MODEL",
        "a_gone": "stranger:GONE",
        "a_missing": "stranger.absent:MODEL",
        "a_leaving": "stranger_that_leaves:MODEL",
    },
    "stg_eval.datasets": {"poems": "stranger:open_dataset", "a_text": "stranger:NO_MODEL"},
}
REASONS = {
    "a_taken": "'tiny' is in use",
    "a_no_model": "a str, not a stg_eval.generators.Model",
    "a_gone": "AttributeError",
    "a_missing": "ModuleNotFoundError",
    "a_leaving": "SystemExit: 3",
}


@pytest.fixture
def stranger(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[ModuleType]:
    """An installed package with one good model, one good dataset, and broken ones."""
    module, tiny = ModuleType("stranger"), generators.get("tiny")
    module.MODEL = replace(tiny, card=replace(tiny.card, name="pebble"))  # type: ignore[attr-defined]
    module.TAKEN, module.NO_MODEL = tiny, "pebble"  # type: ignore[attr-defined]
    module.open_dataset = lambda name, options, clips: (name, options, clips)  # type: ignore[attr-defined]
    (tmp_path / "stranger_that_leaves.py").write_text("import sys; sys.exit(3)")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(sys.modules, "stranger", module)
    points = EntryPoints(EntryPoint(n, v, group) for group, rows in OTHERS.items() for n, v in rows.items())
    monkeypatch.setattr(plug_ins, "entry_points", lambda group: points.select(group=group))
    caches = (generators._plug_ins, sources.others)
    for cached in caches:
        cached.cache_clear()
    yield module
    for cached in caches:
        cached.cache_clear()


def test_models_of_other_packages_are_found_and_broken_ones_reported_once(
    stranger: ModuleType, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        assert [model.card.name for model in generators.models()] == [*generators.MODELS, "pebble"]
        assert generators.get("pebble") is stranger.MODEL
        with pytest.raises(StgEvalError, match="did you mean 'pebble'"):
            generators.get("peble")
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == len(REASONS)
    for name, reason in REASONS.items():
        assert sum(f"plug-in {name} (" in line and reason in line for line in lines) == 1, name


def test_our_own_models_and_datasets_do_not_even_import_plug_ins(
    stranger: ModuleType, caplog: pytest.LogCaptureFixture
) -> None:
    assert generators.card("svd").title == "Stable Video Diffusion"
    suites.open_dataset(suites.load("demo"))
    assert caplog.records == []


def test_a_suite_may_name_a_dataset_of_another_package(stranger: ModuleType, tmp_path: Path) -> None:
    text = "name: mine\ntitle: Mine\ndataset: {}\ndataset_options: {{n: 3}}\nmetrics: [temporal_flickering]\n"
    (tmp_path / "mine.yaml").write_text(text.format("poems"))
    assert suites.open_dataset(suites.load(tmp_path / "mine.yaml")) == ("poems", {"n": 3}, None)
    (tmp_path / "mine.yaml").write_text(text.format("poem"))
    with pytest.raises(StgEvalError, match="did you mean 'poems'"):
        suites.load(tmp_path / "mine.yaml")
