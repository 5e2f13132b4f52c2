"""The embedded extractor."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
import torch

from stg_eval.datasets import sprites
from stg_eval.metrics import sprites_c3d
from stg_eval.metrics.sprites import SpritesExtractor


@pytest.fixture(scope="module")
def network() -> sprites_c3d.SpritesC3D:
    return sprites_c3d.load("cpu")


def _run(network: sprites_c3d.SpritesC3D, clips: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    with torch.inference_mode():
        return network(torch.from_numpy(clips))


def test_names_99_of_100_held_out_clips_right(network: sprites_c3d.SpritesC3D) -> None:
    """On reference clips: neither trained on nor used to choose anything."""
    features, logits = _run(network, sprites.reference(600))
    assert features.shape == (600, 64)
    assert logits.shape == (600, 12)
    labels = torch.tensor([sprites.label(sprites.REFERENCE_FIRST + i) for i in range(600)])
    assert (logits.argmax(1) == labels).float().mean() >= 0.99


def test_motion_is_what_it_looks_at(network: sprites_c3d.SpritesC3D) -> None:
    """A frozen clip keeps its shape and loses its motion, and so do its names."""
    clips = sprites.clips(sprites.VALIDATION_FIRST + np.arange(240))
    labels = torch.tensor([sprites.label(sprites.VALIDATION_FIRST + i) for i in range(240)])
    frozen = _run(network, np.repeat(clips[:, :1], 8, axis=1))[1].argmax(1)
    assert (frozen // 4 == labels // 4).float().mean() > 0.6
    assert (frozen % 4 == labels % 4).float().mean() < 0.5


def test_features_tell_shuffled_frames_from_ordered_ones(network: sprites_c3d.SpritesC3D) -> None:
    """Distance of the mean feature from that of other real clips, in its own standard error."""
    clips = sprites.clips(sprites.VALIDATION_FIRST + np.arange(480))
    draw = np.random.default_rng(0)
    shuffled = np.stack([clip[draw.permutation(8)] for clip in clips[:240]])
    real, other, odd = (_run(network, x)[0] for x in (clips[:240], clips[240:], shuffled))
    assert (odd.mean(0) - other.mean(0)).square().sum() > 5 * (real.mean(0) - other.mean(0)).square().sum()


def test_features_do_not_depend_on_the_batch(network: sprites_c3d.SpritesC3D) -> None:
    clips = sprites.reference(32)
    together, _ = _run(network, clips)
    alone = torch.cat([_run(network, clip[None])[0] for clip in clips])
    torch.testing.assert_close(together, alone, atol=1e-4, rtol=1e-4)


def test_floats_and_bytes_give_the_same_features(network: sprites_c3d.SpritesC3D) -> None:
    clips = sprites.reference(4)
    torch.testing.assert_close(_run(network, clips), _run(network, clips.astype(np.float32)))


def test_weights_are_in_half_precision_and_named_by_their_digest() -> None:
    data = sprites_c3d.WEIGHTS.read_bytes()
    assert len(data) < 1_000_000
    assert SpritesExtractor("cpu").signature.endswith(hashlib.sha256(data).hexdigest()[:8])
