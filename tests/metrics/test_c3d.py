"""C3D and its preparation equal Chainer's; golden/c3d.npz holds what Chainer 7.8.1 returned for the arrays below."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from stg_eval import weights
from stg_eval.metrics import c3d, registry
from stg_eval.types import StgEvalError

GOLDEN = Path(__file__).parent / "golden" / "c3d.npz"

CONV = {
    "conv1a": (3, 64),
    "conv2a": (64, 128),
    "conv3a": (128, 256),
    "conv3b": (256, 256),
    "conv4a": (256, 512),
    "conv4b": (512, 512),
    "conv5a": (512, 512),
    "conv5b": (512, 512),
}
LINEAR = {"fc6": (8192, 4096), "fc7": (4096, 4096), "fc8": (4096, 101)}


@pytest.fixture(scope="module")
def arrays() -> dict[str, np.ndarray]:
    """Random parameters in the names and shapes of conv3d_deepnetA_ucf.npz, as Chainer's save_npz writes them."""
    rng = np.random.default_rng(7)
    out = {}
    for name, (i, o) in (CONV | LINEAR).items():
        kernel = (3, 3, 3) if name in CONV else ()
        scale = np.float32(2 * np.sqrt(6 / (i * np.prod(kernel, dtype=int))))
        out[f"{name}/W"] = (rng.random((o, i, *kernel), dtype=np.float32) - np.float32(0.5)) * scale
        out[f"{name}/b"] = rng.random(o, dtype=np.float32) - np.float32(0.5)
    return out


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    with np.load(GOLDEN) as data:
        return dict(data)


@pytest.fixture(scope="module")
def mean(golden: dict[str, np.ndarray]) -> np.ndarray:
    rng = np.random.default_rng(8)
    rng.normal(size=(60, 80, 16, 3))  # the golden clip drew its noise first
    return 95 + 10 * rng.random((3, 16, 128, 171), dtype=np.float32)


@pytest.fixture(scope="module")
def network(arrays: dict[str, np.ndarray]) -> c3d.C3D:
    with torch.device("meta"):
        network = c3d.C3D()
    network.load_state_dict(c3d.state_dict(arrays), assign=True)
    return network


@pytest.mark.parametrize("protocol", ["tgan", "tganv2"])
def test_network_input_equals_the_originals(protocol: str, golden: dict[str, np.ndarray], mean: np.ndarray) -> None:
    x = c3d.PREPARE[protocol](torch.from_numpy(golden["frames"]), torch.from_numpy(mean))
    assert x.shape == (3, 16, 112, 112)
    assert x.dtype == torch.float32
    np.testing.assert_allclose(x[..., ::16, ::16], golden[f"{protocol}_input_sample8"], atol=2e-3)


@pytest.mark.parametrize("protocol", ["tgan", "tganv2"])
def test_logits_equal_chainers_under_the_same_random_weights(
    protocol: str, golden: dict[str, np.ndarray], mean: np.ndarray, network: c3d.C3D
) -> None:
    extractor = c3d.C3DExtractor(network, mean, protocol, fingerprint="random", device="cpu")
    logits = extractor.extract([golden["frames"]])
    expected = golden[f"{protocol}_logits"]
    assert np.abs(logits[0] - expected).max() < 1e-4 * np.abs(expected).max()


def test_all_protocols_of_the_score_can_prepare_frames() -> None:
    from stg_eval.metrics.inception_score import PROTOCOLS

    assert set(PROTOCOLS) == set(c3d.PREPARE)


def test_published_files_load_through_the_table(
    arrays: dict[str, np.ndarray], mean: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STG_EVAL_CACHE", str(tmp_path))
    card = registry.card("is_tganv2")
    with pytest.raises(StgEvalError, match="stg-eval weights fetch c3d-ucf101"):
        card.load("cpu")
    for row, content in zip(card.weights, (arrays, {"mean": mean[None]}), strict=True):
        path = tmp_path / "weights" / row.name / row.file
        path.parent.mkdir(parents=True)
        np.savez(path, **content)
    extractor = card.load("cpu").extractor
    assert torch.equal(extractor.network.conv3b.bias, torch.from_numpy(arrays["conv3b/b"]))
    digests = [weights.require(row).fingerprint for row in card.weights]
    assert extractor.signature == f"c3d-ucf101|16f|112|tganv2|{'-'.join(digests)}"


def test_other_arrays_are_refused() -> None:
    with pytest.raises(StgEvalError, match="unexpected array 'conv1a/gamma'"):
        c3d.state_dict({"conv1a/gamma": np.zeros(3)})


def test_short_clip_is_refused(network: c3d.C3D, mean: np.ndarray) -> None:
    extractor = c3d.C3DExtractor(network, mean, "tgan", fingerprint="random", device="cpu")
    assert list(extractor.frame_indices(25, 7.0)) == list(range(16))
    with pytest.raises(StgEvalError, match="16 frames and the clip has 15"):
        extractor.frame_indices(15, 7.0)
