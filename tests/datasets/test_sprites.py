"""Sprites: the procedural data set behind the embedded model."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stg_eval.datasets import sprites


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, (1 << 42) - 1), min_size=1, max_size=6), st.integers(0, 5))
def test_a_clip_depends_on_its_index_alone(indices: list[int], position: int) -> None:
    position %= len(indices)
    together = sprites.clips(indices)
    alone = sprites.clips([indices[position]])
    assert together.dtype == np.uint8
    assert together.shape == (len(indices), 8, 16, 16, 3)
    np.testing.assert_array_equal(together[position], alone[0])


def test_known_pixels_stay_what_they_are() -> None:
    # Stored output on purpose: with other pixels the shipped weights would have another data set. A grey level of
    # room each, as sines may round differently on another processor.
    pixels = sprites.clips(range(12))[:, [0, 7], 8, 8].astype(int)
    assert np.abs(pixels[0, 0] - [238, 145, 54]).max() <= 1
    assert abs(pixels.sum() - 6815) <= 72


def test_twelve_classes_in_equal_parts_at_any_start() -> None:
    for first in (sprites.TRAIN_FIRST, 5, sprites.VALIDATION_FIRST, sprites.REFERENCE_FIRST):
        labels = [sprites.label(first + i) for i in range(36)]
        assert np.bincount(labels, minlength=12).tolist() == [3] * 12


def test_cases_name_the_classes() -> None:
    cases = list(sprites.cases())
    assert [case.label for case in cases] == list(range(12))
    assert [case.id for case in cases] == list(sprites.CLASS_NAMES)
    assert cases[0].prompt == "a square that slides"
    assert {case.id for case in cases} == {f"{s}-{m}" for s in sprites.SHAPES for m in sprites.MOTIONS}


def test_reference_clips_are_not_training_or_validation_clips() -> None:
    reference = sprites.reference(24)
    np.testing.assert_array_equal(
        reference, sprites.clips(range(sprites.REFERENCE_FIRST, sprites.REFERENCE_FIRST + 24))
    )
    assert sprites.TRAIN_FIRST < sprites.VALIDATION_FIRST < sprites.REFERENCE_FIRST
    for first in (sprites.TRAIN_FIRST, sprites.VALIDATION_FIRST):
        others = sprites.clips(range(first, first + 24))
        assert not (reference.reshape(24, 1, -1) == others.reshape(1, 24, -1)).all(-1).any()


@pytest.mark.parametrize("motion", sprites.MOTIONS)
def test_each_motion_moves_what_its_name_says(motion: str) -> None:
    """Measured on drawn pixels, at 48 pixels a side: how far the sprite's centre goes, how much its area grows, how
    far the half of one colour turns around the centre."""
    numbers = [i for i in range(240) if sprites.CLASS_NAMES[sprites.label(i)].endswith(motion)]
    travel, growth, turn = [], [], []
    for clip in sprites.clips(numbers, height=48, width=48, num_frames=8):
        mask = clip.max(-1) > 155  # sprites are bright (value >= 0.75), backgrounds dark (<= 0.5)
        area = mask.sum((1, 2))
        if area.min() < 12:
            continue
        rows, columns = np.mgrid[:48, :48]
        centre = np.stack([(mask * rows).sum((1, 2)) / area, (mask * columns).sum((1, 2)) / area], axis=1) / 48
        travel.append(np.linalg.norm(centre - centre[0], axis=1).max())
        growth.append(area.max() / area.min())
        first = clip[mask][0].astype(float)
        same = mask & (np.abs(clip - first).sum(-1) < 60)
        half = (
            np.stack([(same * rows).sum((1, 2)), (same * columns).sum((1, 2))], axis=1)
            / np.maximum(same.sum((1, 2)), 1)[:, None]
        )
        side = half / 48 - centre
        angle = np.unwrap(np.arctan2(side[:, 0], side[:, 1]))
        turn.append(np.ptp(angle))
    assert len(travel) > 40
    moves, grows, turns = np.median(travel) > 0.2, np.median(growth) > 2, np.median(turn) > 2
    assert (moves, grows, turns) == {
        "slide": (True, False, False),
        "orbit": (True, False, False),
        "pulse": (False, True, False),
        "spin": (False, False, True),
    }[motion]


def test_slides_are_straight_and_orbits_round() -> None:
    """Between bounces a slide's path is straight; an orbit keeps its distance from one point."""
    draw = np.random.default_rng(0).uniform(size=(64, 18)).astype(np.float32)
    slide = np.stack(sprites._motion(np.zeros(64, dtype=np.int64), draw, 8)[:2], axis=-1)
    orbit = np.stack(sprites._motion(np.ones(64, dtype=np.int64), draw, 8)[:2], axis=-1)
    steps = np.abs(np.diff(slide, axis=1))
    assert np.allclose(np.median(steps, axis=1), steps.max(axis=1), atol=1e-5)
    # The circle through three of its points holds the others.
    a, b, c = orbit[:, 0].astype(float), orbit[:, 2].astype(float), orbit[:, 4].astype(float)
    left = 2 * np.stack([b - a, c - a], axis=1)
    right = np.stack([(b**2).sum(1) - (a**2).sum(1), (c**2).sum(1) - (a**2).sum(1)], axis=1)
    centre = np.linalg.solve(left, right[..., None])[..., 0]
    distance = np.linalg.norm(orbit - centre[:, None], axis=-1)
    assert np.allclose(distance, distance[:, :1], atol=1e-3)
    assert (distance > 0.15).all()


def test_more_frames_sample_the_same_motion() -> None:
    np.testing.assert_array_equal(sprites.clips(range(12), num_frames=16)[:, ::2], sprites.clips(range(12)))


def test_colours_and_places_vary() -> None:
    first_frames = sprites.clips(range(0, 12 * 64, 12))[:, 0].reshape(64, -1)
    assert len(np.unique(first_frames, axis=0)) == 64
    assert first_frames.std(axis=0).min() > 5
