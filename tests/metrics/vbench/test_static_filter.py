"""The static filter's verdicts are the official ones."""

from __future__ import annotations

import importlib
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stg_eval.metrics.vbench.static_filter import StaticFilter
from stg_eval.storage.video import probe, read_frames
from stg_eval.weights import Checkpoint


@pytest.fixture(scope="module")
def filters(official: Callable[[str], Any], tmp_path_factory: pytest.TempPathFactory) -> tuple[StaticFilter, Any]:
    """Ours and the official one with the same random weights."""
    import torch

    path = tmp_path_factory.mktemp("raft") / "raft-things.pth"
    options = Namespace(model=path, small=False, mixed_precision=False, alternate_corr=False)
    torch.manual_seed(0)
    network = official("third_party.RAFT.core.raft").RAFT(options)
    torch.save({f"module.{name}": value for name, value in network.state_dict().items()}, path)
    module = official("cli.static_filter")
    module.DEVICE = "cpu"
    return StaticFilter(Checkpoint(path, "0" * 64), "cpu"), module.StaticFilter(options, device="cpu")


def test_a_pair_s_score_is_the_official_one(filters: tuple[StaticFilter, Any]) -> None:
    import torch

    ours, theirs = filters
    pair = np.random.default_rng(0).integers(0, 256, (2, 121, 131, 3), dtype=np.uint8)
    images = torch.from_numpy(pair).permute(0, 3, 1, 2).float()
    padder = importlib.import_module("vbench.third_party.RAFT.core.utils_core.utils").InputPadder(images.shape)
    with torch.no_grad():
        padded = padder.pad(images[:1], images[1:])
        expected = theirs.get_score(padded[0], theirs.model(*padded, iters=20, test_mode=True)[1])
    assert ours._score(*pair) == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize("num_frames", [1, 4, 5, 13, 40])
def test_the_verdict_is_the_official_one(
    filters: tuple[StaticFilter, Any], make_clip: Callable[..., Path], num_frames: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a cheap flow in RAFT's place, at gains on both sides of every threshold."""
    ours, theirs = filters
    clip = make_clip(num_frames=num_frames, speed=1)
    verdicts = []
    for gain in (0.0, *np.geomspace(0.003, 3, 25)):

        def flow(one: Any, two: Any, *, gain: float = gain, **options: object) -> list[Any]:
            return [None, gain * (two - one)[:, :2]]

        monkeypatch.setattr(ours._raft, "forward", flow)
        monkeypatch.setattr(theirs.model, "forward", flow)
        ours.begin(probe(clip), None)
        for frames in read_frames(clip, chunk=2):
            ours.update(frames)
        verdicts.append((bool(ours.end()), bool(theirs.infer(str(clip)))))
    assert [mine for mine, _ in verdicts] == [official for _, official in verdicts]
    assert verdicts[0] == (True, True)
    assert verdicts[-1][0] == (num_frames == 1), "the gains lie on both sides of the thresholds"
