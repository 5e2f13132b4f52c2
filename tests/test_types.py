"""Guidance signatures read back as what they were; keys hold what changes a pixel, and nothing else."""

from __future__ import annotations

from dataclasses import replace
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stg_eval.types import Case, Guidance, Method, Request, Restart, StgEvalError

scale = st.floats(0, 1e300)
positive = st.floats(1e-300, 1e300)
layers = st.lists(st.from_regex(r"[\w.]+", fullmatch=True), min_size=1, max_size=3).map(tuple)


@st.composite
def restarts(draw: st.DrawFn) -> Restart | None:
    low, high = sorted(draw(st.lists(st.floats(0, 1e6), min_size=2, max_size=2, unique=True)))
    return draw(st.sampled_from([None, Restart(low, high, draw(st.integers(0, 9)))]))


@st.composite
def guidances(draw: st.DrawFn) -> Guidance:
    common = {"cfg_scale": draw(scale), "rescale": draw(st.floats(0, 1)), "restart": draw(restarts())}
    if not draw(st.booleans()):
        return Guidance(**common)
    method = draw(st.sampled_from(get_args(Method)))
    if draw(st.booleans()):
        scales = {"joint_scale": draw(scale)}
    else:
        scales = {"spatial_scale": draw(scale), "temporal_scale": draw(scale)}
    return Guidance(
        **common,
        **scales,
        method=method,
        layers=draw(layers),
        blur_sigma=draw(st.none() | positive) if method == "seg" else None,
        orthogonal=bool(scales.get("spatial_scale") and scales.get("temporal_scale")) and draw(st.booleans()),
    )


@given(guidances())
@settings(deadline=None)
def test_a_signature_reads_back_as_the_guidance_it_was(guidance: Guidance) -> None:
    assert Guidance.parse(str(guidance)) == guidance


REQUEST = Request(
    model="svd",
    weights="w",
    guidance=Guidance(),
    case=Case(id="a", prompt="é", tags=("x",)),
    seed=1,
    height=8,
    width=8,
    num_frames=2,
    fps=7.0,
    num_inference_steps=2,
    dtype="float32",
    encoding="vp9-lossless",
)


@given(st.dictionaries(st.sampled_from(["offload", "vae_tiling", "motion"]), st.none() | st.integers() | st.text()))
@settings(deadline=None)
def test_settings_are_in_the_key_as_they_are_but_offload_as_if_it_were_none(
    chosen: dict[str, int | str | None],
) -> None:
    made = replace(REQUEST, settings=tuple(sorted(chosen.items())))
    assert dict(made.settings) == chosen
    plain = chosen | ({"offload": "none"} if "offload" in chosen else {})
    assert made.canonical()["settings"] == plain
    assert made.key == replace(REQUEST, settings=tuple(sorted(plain.items()))).key


def test_a_key_stays_the_same_between_versions() -> None:
    settings = (("offload", "none"), ("vae_tiling", False))
    made = replace(REQUEST, guidance=Guidance.parse("cfg3+stg-a[8]s2t2"), settings=settings)
    assert made.key == "376e11028c2a3bf997d9767af708335489e82302cfc2eff445aafc0aa2ad9828"


@pytest.mark.parametrize(
    "text",
    ["none", "cfg7", "cfg7+stg-a[11]s2t2", "cfg4.5+stg-r[35]w1", "cfg3+stg-i[up_blocks.1.attentions.0]s1t0.5"],
)
def test_canonical_signatures_print_as_they_were_written(text: str) -> None:
    assert str(Guidance.parse(text)) == ("cfg1" if text == "none" else text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cfg7+stg-b[1]s1", "stg-b"),
        ("cfg7+", "cannot read ''"),
        ("cfg7+cfg3", "cfg_scale twice"),
        ("cfg-1", "cfg-1"),
        ("stg-a[1]s1w1", "not both"),
        ("cfg7+stg-a[1]s1b3", "belongs to seg"),
        ("cfg7+orth", "need a method"),
        ("cfg7+stg-a[1]s1+orth", "both a spatial and a temporal"),
        ("cfg7+rescale1.5", "between 0 and 1"),
        ("cfg7+restart[0.5,0.2]x1", "up to a higher one"),
        ("cfg7+stg-a[]s1", "cannot read"),
        ("cfg7+stg-a[,]s1", "module path"),
    ],
)
def test_a_bad_signature_is_refused_with_what_is_wrong(text: str, message: str) -> None:
    with pytest.raises(StgEvalError, match=message):
        Guidance.parse(text)


def test_an_image_comes_with_its_digest() -> None:
    """Else two images of one name would share a key and a noise."""
    with pytest.raises(StgEvalError, match="'a' has an image without image_sha256"):
        Case(id="a", image="first.png")
    one, other = (replace(REQUEST, case=Case(id="a", image="first.png", image_sha256=digest)) for digest in ("0", "1"))
    assert one.key != other.key
    assert one.noise_seed != other.noise_seed


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1.0])
def test_scales_are_finite_and_not_negative(value: float) -> None:
    with pytest.raises(StgEvalError, match="finite"):
        Guidance(cfg_scale=value)
