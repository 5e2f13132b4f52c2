"""Peak memory: forecast by every dry run, and a run that cannot fit is refused before anything is loaded."""

from __future__ import annotations

from typing import Any

import pytest

from stg_eval import generators, suites
from stg_eval.generators import peak_memory
from stg_eval.generators.peak_memory import Size, check_fits
from stg_eval.pipeline import memory
from stg_eval.pipeline.plan import Plan, make_plan
from stg_eval.types import Guidance, StgEvalError

ROWS = peak_memory._table()


def plan(model: str = "mochi", **settings: Any) -> Plan:
    suite = suites.load("vbench-i2v" if generators.card(model).task == "image-to-video" else "vbench-t2v-full")
    return make_plan(suite, model, guidance=["cfg", "stg"], limit=1, settings=settings, allow_few=True, dry=True)


def peak(model: str, guidance: str = "cfg3", offload: str = "none", dtype: str = "", **size: int) -> int:
    card = generators.card(model)
    published = Size(card.height, card.width, card.num_frames)
    found = peak_memory.peak(
        model,
        published,
        Size(**{"height": card.height, "width": card.width, "num_frames": card.num_frames, **size}),
        dtype=dtype or card.dtype,
        guidance=Guidance.parse(guidance),
        settings={"offload": offload},
    )
    assert found is not None
    return found


@pytest.mark.parametrize("model", ROWS)
def test_peaks_order_as_the_work_does(model: str) -> None:
    card = generators.card(model)
    assert peak(model, "none") <= peak(model) <= peak(model, "cfg3+stg-a[8]w1")
    assert peak(model, offload="sequential") <= peak(model, offload="model") < peak(model)
    assert peak(model, height=card.height // 2) < peak(model)
    assert peak(model, dtype="float32") >= peak(model)
    assert peak(model) > sum(ROWS[model]["weights"].values())


def test_a_dry_run_says_the_peak_where_it_fits_and_what_settings_make_of_it() -> None:
    line = memory.forecast(plan())
    assert line is not None
    assert "163 frames of 480 x 848, cfg4.5+stg-r[35]w1" in line
    for setting in ("vae_tiling=true", "offload=model vae_tiling=true", "offload=sequential vae_tiling=true"):
        assert f"with {setting}" in line
    smaller = memory.forecast(plan(num_frames="31", vae_tiling="true"))
    assert smaller is not None
    assert "H100" in smaller


def test_other_checkpoints_and_models_that_need_no_gpu_have_no_forecast() -> None:
    assert "not known for mochi with random-weights" in (memory.forecast(plan(weights="random-weights(seed=0)")) or "")
    suite = suites.load("demo")
    assert memory.forecast(make_plan(suite, "tiny", guidance=["cfg"], limit=1, allow_few=True)) is None


def test_a_device_that_is_too_small_is_refused_with_the_setting_that_fits() -> None:
    gigabytes = {"": 60, "offload=model": 30, "offload=model vae_tiling=true": 20, "offload=sequential": 8}
    needs = {setting: size * 10**9 for setting, size in gigabytes.items()}
    check_fits("Mochi", needs, 80 * 10**9)
    with pytest.raises(StgEvalError, match=r"needs about 60 GB and this GPU has 40 GB; try --set offload=model$"):
        check_fits("Mochi", needs, 40 * 10**9)
    with pytest.raises(StgEvalError, match="--set offload=model --set vae_tiling=true"):
        check_fits("Mochi", needs, 24 * 10**9)
    with pytest.raises(StgEvalError, match="a smaller size or a larger GPU"):
        check_fits("Mochi", needs, 6 * 10**9)


def test_a_run_on_a_small_gpu_is_refused_before_anything_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    from types import SimpleNamespace

    import torch

    small = SimpleNamespace(total_memory=8 * 10**9)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: small)
    with pytest.raises(StgEvalError, match="this GPU has 8 GB"):
        memory.check(plan(), "cuda")
    memory.check(plan(), "cpu")
