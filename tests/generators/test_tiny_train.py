"""Training of the embedded model: data, loss and exact resumption."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from stg_eval.datasets import sprites
from stg_eval.generators.tiny.model import TinyConfig, TinyDiT
from stg_eval.generators.tiny.train import Recipe, Training, batch_at, loss_of

RECIPE = Recipe(steps=20, decay_from=10, batch_size=4, warmup=2)


def test_stopped_training_goes_on_as_if_it_had_not_been(tmp_path: Path) -> None:
    whole = Training(RECIPE)
    losses = [whole.advance(whole.model) for _ in range(4)]
    first = Training(RECIPE)
    part = [first.advance(first.model) for _ in range(2)]
    first.save(tmp_path)
    second = Training(RECIPE)
    second.restore(tmp_path)
    part += [second.advance(second.model) for _ in range(2)]
    assert part == losses
    for name, value in whole.ema.items():
        torch.testing.assert_close(second.ema[name], value, rtol=0, atol=0)


def test_saved_weights_are_the_average_in_half_precision(tmp_path: Path) -> None:
    training = Training(RECIPE)
    for _ in range(2):
        training.advance(training.model)
    training.save(tmp_path)
    for name, value in load_file(tmp_path / "weights.safetensors").items():
        assert value.dtype == torch.float16
        torch.testing.assert_close(value, training.ema[name].half(), rtol=0, atol=0)


def test_a_few_steps_lower_the_loss() -> None:
    training = Training(replace(RECIPE, batch_size=8))
    fixed = batch_at(1000, training.recipe)
    with torch.no_grad():
        before = loss_of(training.model, fixed)
    for _ in range(12):
        training.advance(training.model)
    with torch.no_grad():
        assert loss_of(training.model, fixed) < 0.9 * before


def test_batches_are_fresh_balanced_and_sometimes_unlabelled() -> None:
    recipe = replace(RECIPE, batch_size=240)
    batch, other = batch_at(0, recipe), batch_at(1, recipe)
    assert not torch.equal(batch.clean, other.clean)
    np.testing.assert_allclose((batch.clean[3].permute(1, 2, 3, 0) + 1) * 127.5, sprites.clips([3])[0], atol=1e-4)
    assert batch.clean.min() >= -1
    assert batch.clean.max() <= 1
    dropped = (batch.labels == 12).float().mean()
    assert dropped == pytest.approx(recipe.label_drop, abs=0.07)
    kept = batch.labels != 12
    assert torch.equal(batch.labels[kept], torch.arange(240)[kept] % 12)
    assert 0 < batch.timestep.min() < 0.1
    assert 0.9 < batch.timestep.max() < 1


def test_learning_rate_rises_stays_and_falls_to_zero() -> None:
    rates = [RECIPE.learning_rate(step) for step in range(21)]
    assert rates[0] == 0.5
    assert rates[2:10] == [1.0] * 8
    assert (np.diff(rates[10:]) < 0).all()
    assert rates[20] == 0


def test_perfect_prediction_has_no_loss() -> None:
    batch = batch_at(0, RECIPE)
    assert loss_of(lambda *_: batch.noise - batch.clean, batch) == 0


@pytest.mark.parametrize("size", [{}, {"height": 8, "width": 24, "num_frames": 4}])
def test_patches_are_put_back_where_they_came_from(size: dict[str, int]) -> None:
    model = TinyDiT(TinyConfig(**size))
    c = model.config
    x = torch.randn(2, 3, c.num_frames, c.height, c.width)
    patches = model._patches(x)
    assert patches.shape == (2, c.num_frames, c.num_patches, 48)
    torch.testing.assert_close(model._pixels(patches.flatten(1, 2)), x, rtol=0, atol=0)


def test_spatial_blocks_mix_patches_and_temporal_blocks_mix_frames() -> None:
    torch.manual_seed(0)
    model = TinyDiT()
    condition, x = torch.randn(1, model.config.condition_size), torch.randn(1, 8 * 16, 96)
    for block, same_frame in ((model.spatial_blocks[0], True), (model.temporal_blocks[0], False)):
        torch.nn.init.normal_(block.modulation.weight, std=0.1)
        changed = x.clone()
        changed[0, 3 * 16 + 5] = torch.randn(96)  # frame 3, patch 5
        moved = (block(changed, condition) - block(x, condition)).abs().amax(-1).reshape(8, 16) > 1e-6
        expected = torch.zeros(8, 16, dtype=torch.bool)
        if same_frame:
            expected[3] = True
        else:
            expected[:, 5] = True
        assert torch.equal(moved, expected)
