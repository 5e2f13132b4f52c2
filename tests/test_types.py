"""Guidance signatures read back as what they were; keys hold what changes a pixel, and nothing else."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stg_eval.methods import PREDICTIONS, SKIPS
from stg_eval.terms import Auto, Combine, Moment, Piece, Restart, Skip, Window, number
from stg_eval.types import Case, Guidance, Request, StgEvalError

scale = st.floats(0, 1e300)
positive = st.floats(1e-300, 1e300)
layers = st.lists(st.from_regex(r"[\w.]+", fullmatch=True), min_size=1, max_size=3).map(tuple)


@st.composite
def restarts(draw: st.DrawFn) -> Restart | None:
    low, high = sorted(draw(st.lists(st.floats(0, 1e6), min_size=2, max_size=2, unique=True)))
    return draw(st.sampled_from([None, Restart(low, high, draw(st.integers(0, 9)))]))


@st.composite
def windows(draw: st.DrawFn) -> Window:
    unit = draw(st.sampled_from(["", "s", "n"]))
    values = st.integers(0, 99).map(float) if unit == "s" else st.floats(0, 1 if not unit else 1e3)
    low, high = sorted(draw(st.lists(values, min_size=2, max_size=2, unique=True)))
    return Window(high, low, unit) if unit == "n" else Window(low, high, unit)


@st.composite
def pieces(draw: st.DrawFn, values: st.SearchStrategy[float]) -> tuple[Piece, ...]:
    unit = draw(st.sampled_from(["", "s", "n"]))
    bounds = sorted(draw(st.lists(st.integers(0, 99), min_size=2, max_size=6, unique=True)))
    bounds = [bound / 100 if not unit else float(bound) for bound in bounds]
    spans = [(high, low) if unit == "n" else (low, high) for low, high in pairwise(bounds)]
    kept = draw(st.lists(st.sampled_from(spans), min_size=1, unique=True))
    return tuple(Piece(draw(values), Window(*span, unit)) for span in kept)


@st.composite
def skips(draw: st.DrawFn) -> Skip:
    method = draw(st.sampled_from(sorted(SKIPS)))
    scales: dict[str, float | bool] = draw(
        st.one_of(
            st.fixed_dictionaries({"joint_scale": scale}),
            st.fixed_dictionaries({"spatial_scale": scale, "temporal_scale": scale}),
            st.just({"unconditional": True}),
        )
    )
    blur = draw(st.none() | positive) if method == "seg" else None
    window = draw(st.none() | windows())
    return Skip(method=method, layers=draw(layers), blur_sigma=blur, window=window, **scales)  # type: ignore[arg-type]


@st.composite
def combines(draw: st.DrawFn) -> Combine:
    window = draw(st.none() | windows())
    if draw(st.booleans()):
        config = draw(st.dictionaries(st.text(), st.integers() | st.text() | st.lists(st.floats(allow_nan=False))))
        config.pop("guidance_scale", None)
        return Combine(method=f"guider:{draw(st.sampled_from(['A', 'B_2']))}", config=json.dumps(config), window=window)
    method = draw(st.sampled_from(sorted(PREDICTIONS)))
    known = list(PREDICTIONS[method].parameters)
    chosen = draw(st.sets(st.sampled_from(known))) if known else set()
    values = {name: draw(st.floats(-1e9, 1e9)) for name in known if name in chosen}
    return Combine(method=method, parameters=tuple(values.items()), window=window)


@st.composite
def guidances(draw: st.DrawFn) -> Guidance:
    found = tuple(draw(st.lists(skips(), max_size=3)))
    said: dict[str, Any] = {"restart": draw(restarts()), "skips": found}
    for name, key, values, off in (("cfg", "cfg_scale", scale, 1), ("rescale", "rescale", st.floats(0, 1), 0)):
        if draw(st.booleans()):
            said[f"{name}_pieces"] = several = draw(pieces(values))
            said[key] = max((piece.value for piece in several), key=lambda value, off=off: abs(value - off))
        else:
            said[key] = draw(values)
    if draw(st.booleans()):
        weights = draw(st.sampled_from(["o/n@" + "0af9" * 10, "~/a-b/c d.x@0123abcd", "random-weights(seed=3)"]))
        said["auto"] = Auto(weights=weights, scale=draw(scale), window=draw(st.none() | windows()))
    if said["cfg_scale"] == 1:
        said["skips"] = found = tuple(skip for skip in found if not skip.unconditional)
    else:
        said["combine"] = draw(st.none() | combines())
    orthogonal = any(skip.spatial_scale and skip.temporal_scale for skip in found) and draw(st.booleans())
    return Guidance(**said, orthogonal=orthogonal)


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


values = st.none() | st.booleans() | st.integers(-2, 2) | st.floats(-2, 2) | st.text()


@given(st.text(), st.integers(0, 2**40), st.sampled_from([8, 8.0, 1, 1.0]), st.dictionaries(st.text(), values))
@settings(deadline=None)
def test_a_key_is_the_digest_of_the_canonical_json_whatever_was_asked_before(
    prompt: str, seed: int, fps: float, chosen: dict[str, Any]
) -> None:
    case = Case(id="a", prompt="".join(c for c in prompt if not "\ud800" <= c <= "\udfff"))
    plain = {"".join(c for c in name if not "\ud800" <= c <= "\udfff"): v for name, v in chosen.items()}
    made = replace(REQUEST, case=case, seed=seed, fps=fps, settings=tuple(sorted(plain.items())))
    text = json.dumps(made.canonical(), sort_keys=True, ensure_ascii=False)
    assert made.key == hashlib.sha256(text.encode()).hexdigest()


def test_a_key_stays_the_same_between_versions() -> None:
    settings = (("offload", "none"), ("vae_tiling", False))
    made = replace(REQUEST, guidance=Guidance.parse("cfg3+stg-a[8]s2t2"), settings=settings)
    assert made.key == "376e11028c2a3bf997d9767af708335489e82302cfc2eff445aafc0aa2ad9828"


@pytest.mark.parametrize(
    "text",
    [
        "cfg4.5+stg-r[35]w1@0.1-0.9",
        "cfg5+stg-r[9]u@0.1-0.9",
        "cfg6@n0.99-0.98+cfg8@n0.98-0.9+stg-a[11,25]w4@n0.99-0.98+stg-a[22]w2@s3-9+rescale0.7@0-0.5",
        "cfg4+apg[eta=0.5,momentum=-0.75]@0.2-1",
        'cfg4+guider:TangentialClassifierFreeGuidance{"start":0.1}@0-0.5',
        r'cfg4+guider:A{"\\":0}+rescale0.7',
        "none",
        "cfg7",
        "cfg7+stg-a[11]s2t2",
        "cfg4.5+stg-r[35]w1",
        "cfg3+stg-i[up_blocks.1.attentions.0]s1t0.5",
    ],
)
def test_canonical_signatures_print_as_they_were_written(text: str) -> None:
    assert str(Guidance.parse(text)) == ("cfg1" if text == "none" else text)


def test_a_list_is_short_for_terms_of_one_value_each() -> None:
    short = "cfg1,6,8@n1-0.996-0.98-0.9+stg-a[3]s4,2t1@s0-2-5"
    long = "cfg1@n1-0.996+cfg6@n0.996-0.98+cfg8@n0.98-0.9+stg-a[3]s4t1@s0-2+stg-a[3]s2t1@s2-5"
    assert Guidance.parse(short) == Guidance.parse(long)
    assert Guidance.parse(short).cfg_scale == 8


@pytest.mark.parametrize(
    ("window", "num_steps", "acting"),
    [
        ("@0-1", 5, [0, 1, 2, 3, 4]),
        ("@0.1-0.9", 10, [1, 2, 3, 4, 5, 6, 7, 8]),
        ("@0-0.5", 5, [0, 1, 2]),  # 2 / 5 is below a half
        ("@0.8-1", 5, [4]),
        ("@0.9-1", 5, []),
        ("@s0-1", 5, [0]),
        ("@s4-9", 5, [4]),
        ("@n0.8-0.4", 5, [1, 2]),  # 0.8 and 0.6, not 0.4
        ("@n1-0", 5, [0, 1, 2, 3, 4]),
    ],
)
def test_a_window_holds_its_first_moment_and_not_its_last(window: str, num_steps: int, acting: list[int]) -> None:
    term = Guidance.parse(f"cfg3{window}")
    moments = [Moment(i, num_steps, round(1 - i / num_steps, 3)) for i in range(num_steps)]
    assert [m.step for m in moments if term.cfg_at(m) == 3] == acting
    assert all(term.cfg_at(m) == 1 for m in moments if m.step not in acting)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cfg7+stg-b[1]s1", "stg-b"),
        ("cfg7+", "cannot read ''"),
        ("cfg7+cfg3", "cfg_scale twice"),
        ("cfg7+cfg3@0-0.5", "cfg twice"),
        ("cfg7+stg-r[3]w1@0.9-0.1", r"'stg-r\[3\]w1@0.9-0.1' .* from its first to its last"),
        ("cfg7@0-2", "fractions of the steps, 0 to 1"),
        ("cfg7@s0.5-2", "whole numbers"),
        ("cfg6,8@0-1", r"'cfg6,8@0-1' .* 2 values need 3 bounds, and the window has 2"),
        ("cfg7+stg-r[3]w1,2", "a list needs a window"),
        ("cfg6@0-0.5+cfg8@0.4-1", "overlap at 0.4"),
        ("cfg6@0-0.5+cfg8@s4-9", "in one unit"),
        ("cfg7+stg-r[3]uw1", "cannot read"),
        ("cfg1+stg-r[3]u", "which cfg1 does without"),
        ("cfg1+apg", "which cfg1 does without"),
        ("cfg7+apg[zeta=1]", "no parameter 'zeta'; it has eta, norm, momentum"),
        ("cfg7+tcfg+apg", "combine twice"),
        ("cfg7+auto[half.safetensors]w1", "first 8 or more hex digits"),
        ('cfg7+guider:X{"guidance_scale":3}', "which is cfg's number"),
        ("cfg7+guider:X{3}", "as JSON"),
        ("cfg7+orth@0-1", "cannot read 'orth@0-1'"),
        ("cfg-1", "cfg-1"),
        ("stg-a[1]s1w1", "not both"),
        ("cfg7+stg-a[1]s1b3", "belongs to seg"),
        ("cfg7+orth", "both a spatial and a temporal"),
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


@given(
    windows(), st.lists(st.floats(0, 1), min_size=2, max_size=5), st.integers(2, 8), st.sampled_from(["cfg", "rescale"])
)
@settings(deadline=None)
def test_a_wrong_window_or_list_is_one_line_that_names_its_part(
    window: Window, values: list[float], bounds: int, term: str
) -> None:
    listed = ",".join(map(number, values))
    wrong = [
        f"stg-r[3]w1@{window.unit}{number(window.stop)}-{number(window.start)}",
        f"stg-r[3]w{listed}",
        term + listed,
    ]
    if bounds != len(values) + 1:
        wrong.append(f"{term}{listed}@s" + "-".join(map(str, range(bounds))))
        wrong.append(f"stg-r[3]w{listed}@s" + "-".join(map(str, range(bounds))))
    for part in wrong:
        with pytest.raises(StgEvalError) as stop:
            Guidance.parse(f"{'rescale0.5' if term == 'cfg' else 'cfg3'}+stg-a[1]w1@0.1-0.9+{part}")
        assert str(stop.value).startswith(f"{part!r} in guidance ")
        assert "\n" not in str(stop.value)


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
