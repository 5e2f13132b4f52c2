"""Every metric has a card; other packages add theirs; a broken one is reported and stops nothing."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from importlib.metadata import EntryPoint, EntryPoints
from types import ModuleType

import numpy as np
import pytest

from stg_eval import weights
from stg_eval.metrics import ClipScorer, MetricCard, registry
from stg_eval.metrics.fvd import frechet_distance
from stg_eval.metrics.inception_score import PROTOCOLS, score_logits
from stg_eval.types import StgEvalError

GOOD = MetricCard(
    name="sharpness", title="Sharpness", short="Sh", higher_is_better=True, load=lambda device: f"on {device}"
)


@pytest.fixture
def stranger(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """An installed package with one good metric and four broken ones."""
    module = ModuleType("stranger.metrics")
    module.CARD = GOOD  # type: ignore[attr-defined]
    module.NO_CARD = "sharpness"  # type: ignore[attr-defined]
    module.TAKEN = replace(GOOD, name="fvd")  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "stranger", ModuleType("stranger"))
    monkeypatch.setitem(sys.modules, "stranger.metrics", module)
    values = {
        "sharpness": "stranger.metrics:CARD",
        "a_no_card": "stranger.metrics:NO_CARD",
        "a_taken": "stranger.metrics:TAKEN",
        "a_gone": "stranger.metrics:GONE",
        "a_missing": "stranger.absent:CARD",
    }
    points = EntryPoints(EntryPoint(name, value, registry.ENTRY_POINT_GROUP) for name, value in values.items())
    monkeypatch.setattr("stg_eval.plug_ins.entry_points", lambda group: points.select(group=group))
    registry.plug_ins.cache_clear()
    yield module
    registry.plug_ins.cache_clear()


def test_metric_of_another_package_is_found_and_loaded(stranger: ModuleType) -> None:
    assert registry.card("sharpness") is GOOD
    assert registry.load(GOOD, "cpu") == "on cpu"


def test_broken_plug_ins_are_reported_once_and_stop_nothing(
    stranger: ModuleType, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        assert dict(registry.plug_ins()) == {"sharpness": GOOD}
        registry.plug_ins()
        with pytest.raises(StgEvalError, match="did you mean 'sharpness'"):
            registry.card("sharpnes")
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 4
    for name, reason in {
        "a_no_card": "a str, not a stg_eval.metrics.MetricCard",
        "a_taken": "'fvd' is in use already",
        "a_gone": "AttributeError",
        "a_missing": "ModuleNotFoundError",
    }.items():
        assert sum(f"plug-in {name} (" in line and reason in line for line in lines) == 1, name


def test_own_metrics_do_not_even_import_plug_ins(stranger: ModuleType, caplog: pytest.LogCaptureFixture) -> None:
    assert registry.card("fvd").title == "Fréchet Video Distance"
    assert caplog.records == []


def test_unknown_metric_gives_the_nearest_name() -> None:
    with pytest.raises(StgEvalError, match="unknown metric 'dynamic_degre'; did you mean 'dynamic_degree'"):
        registry.card("dynamic_degre")


def test_metric_that_lacks_a_package_says_which() -> None:
    def load(device: str) -> ClipScorer:
        raise ModuleNotFoundError("No module named 'pyiqa'")

    with pytest.raises(StgEvalError, match="'sharpness' cannot be loaded: No module named 'pyiqa'"):
        registry.load(replace(GOOD, load=load), "cpu")


def test_cards_import_without_torch() -> None:
    code = "import sys, stg_eval.metrics.registry; sys.exit(any(m in sys.modules for m in ('torch', 'pandas', 'cv2')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_cards_are_what_a_table_needs() -> None:
    shorts = [card.short for card in registry.METRICS.values()]
    assert len(set(shorts)) == len(shorts)
    for name, card in registry.METRICS.items():
        assert card.name == name
        assert card.note
        assert card.kind == "set" or (not card.needs_reference and card.min_clips == 1)
        assert ("compare it only with itself" in card.note) == card.embedded == name.endswith("_sprites")
        assert card.margin != MetricCard.margin, f"{name} has no margin of its own"


def test_paper_metrics_are_all_here() -> None:
    dimensions = {"temporal_flickering", "motion_smoothness", "dynamic_degree", "imaging_quality", "aesthetic_quality"}
    assert {"fvd", "is"} | dimensions <= set(registry.METRICS)


def test_a_metric_that_lacks_two_files_names_both(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    monkeypatch.setenv("STG_EVAL_CACHE", str(tmp_path))
    monkeypatch.setattr("stg_eval.weights.hub.in_cache", lambda row: None)
    both = r"stg-eval weights fetch grit-b-densecap-objectdet bert-vocabulary$"
    with pytest.raises(StgEvalError, match=both):
        registry.load(registry.card("object_class"), "cpu")


def test_missing_weights_name_the_command(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    monkeypatch.setenv("STG_EVAL_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    for name in ("fvd", "is"):
        card = registry.card(name)
        with pytest.raises(StgEvalError, match=f"stg-eval weights fetch {card.weights[0].name}"):
            registry.load(card, "cpu")


def test_every_protocol_has_a_card_and_its_own_signature(monkeypatch: pytest.MonkeyPatch) -> None:
    from stg_eval.metrics import c3d, videomae

    class Network:
        signature = "network"

    monkeypatch.setattr(weights, "require", lambda row: None)
    monkeypatch.setattr(c3d, "load", lambda published, mean, device, protocol: Network())
    monkeypatch.setattr(videomae, "load", lambda checkpoint, device: Network())
    names = ("fvd", "fvd_unbiased", "is", "is_tgan", "is_tganv2")
    assert [registry.load(registry.card(name), "cpu").signature for name in names] == [
        "FVD|network|n*|cov-n|v1",
        "FVD|network|n*|cov-n-1|v1",
        "IS|network|n*|stylegan-v|10-splits|shuffle42|eps0|v1",
        "IS|network|n*|tgan|splits-of-9984|unshuffled|eps1e-07|v1",
        "IS|network|n*|tganv2|splits-of-2048|unshuffled|eps1e-20|v1",
    ]


def test_statistic_without_networks_is_that_of_the_protocol() -> None:
    rng = np.random.default_rng(0)
    features, reference = rng.normal(size=(2, 40, 6)) * 4
    values = {n: registry.card(n).of_set(features, reference) for n in ("fvd", "fvd_unbiased", "is_tgan")}
    assert values == pytest.approx(
        {
            "fvd": frechet_distance(features, reference),
            "fvd_unbiased": frechet_distance(features, reference, ddof=1),
            "is_tgan": score_logits(features, PROTOCOLS["tgan"]).mean,
        },
        rel=1e-12,
    )
    assert len(set(values.values())) == 3


def test_number_of_clips_is_filled_into_a_signature() -> None:
    assert registry.signed("FVD|x|n*|cov-n|v1", 2048) == "FVD|x|n2048|cov-n|v1"
    assert registry.signed("TF|x|v1", 2048) == "TF|x|v1"
