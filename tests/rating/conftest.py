"""A finished run with clips, its study, and a client of its server."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from stg_eval.rating.aspects import NAMES
from stg_eval.rating.begin import begin
from stg_eval.rating.study import Study
from stg_eval.storage.results import Results


@pytest.fixture(scope="session")
def made_run(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., tuple[Results, Path]]:
    """A run of the embedded model through the real pipeline: (results, store)."""
    from stg_eval import suites
    from stg_eval.pipeline.plan import make_plan
    from stg_eval.pipeline.run import run

    found: dict[int, tuple[Results, Path]] = {}

    def make(clips: int = 4) -> tuple[Results, Path]:
        if clips not in found:
            folder = tmp_path_factory.mktemp("rated")
            plan = make_plan(suites.load("demo"), "tiny", metric_names=("temporal_flickering",), limit=clips)
            found[clips] = run(plan, store_path=folder / "store", output=folder / "run", device="cpu"), folder / "store"
        return found[clips]

    return make


@pytest.fixture
def made_study(made_run: Callable[..., tuple[Results, Path]], tmp_path: Path) -> Callable[..., tuple[Study, Path]]:
    """A new study of that run in a folder of its own: (study, store)."""

    def make(clips: int = 4, **options: Any) -> tuple[Study, Path]:
        results, store = made_run(clips)
        return begin(replace(results, path=tmp_path / "run"), store, **options), store

    return make


@pytest.fixture
def good() -> dict[str, int]:
    """An answer to a single clip."""
    return dict.fromkeys(NAMES, 4)
