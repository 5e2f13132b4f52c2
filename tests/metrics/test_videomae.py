"""VideoMAE features and their preparation equal the cd-fvd package's. Golden values: see golden/fvd.json."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import VideoMAEConfig, VideoMAEForVideoClassification

from stg_eval import weights
from stg_eval.metrics import fvd, videomae
from stg_eval.types import StgEvalError

GOLDEN = Path(__file__).parent / "golden"
SMALL = {"hidden_size": 88, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 384}


def config(**sizes: int) -> VideoMAEConfig:
    return VideoMAEConfig(**(videomae.GIANT.to_diff_dict() | sizes))


def official(**sizes: Any) -> torch.nn.Module:
    """The network of the cd-fvd package, which is a development dependency installed without its own."""
    finetune = pytest.importorskip("cdfvd.third_party.VideoMAEv2.videomaev2_finetune", reason="cd-fvd is not installed")
    norm = partial(torch.nn.LayerNorm, eps=1e-6)
    arguments = {"patch_size": 14, "mlp_ratio": 48 / 11, "qkv_bias": True, "num_classes": 174, "drop_path_rate": 0.3}
    return finetune.VisionTransformer(norm_layer=norm, **arguments, **sizes)  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    with np.load(GOLDEN / "fvd.npz") as data:
        return dict(data)


@pytest.fixture(scope="module")
def network(small_videomae: tuple[dict[str, Any], dict[str, int]]) -> VideoMAEForVideoClassification:
    """A small network with random weights in the official format."""
    checkpoint, sizes = small_videomae
    return videomae.load_network(checkpoint, config(**sizes))


def clips(n: int, *, height: int = 40, width: int = 56) -> list[np.ndarray]:
    rng = np.random.default_rng(n)
    return [rng.integers(0, 256, (16, height, width, 3), dtype=np.uint8) for _ in range(n)]


def test_features_equal_cd_fvds_under_the_same_random_weights() -> None:
    reference = official(embed_dim=88, depth=3, num_heads=4)
    from cdfvd.third_party.VideoMAEv2.utils import preprocess_videomae

    torch.manual_seed(1)
    for parameter in reference.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    frames = np.stack(clips(2, height=64, width=64))
    with torch.no_grad():
        expected = reference.eval().forward_features(preprocess_videomae(frames)).numpy()
    network = videomae.load_network({"module": reference.state_dict()}, config(**SMALL))
    extractor = videomae.VideoMAEExtractor(network, fingerprint="random", device="cpu", resolution=None)
    features = extractor.extract(list(frames))
    assert np.abs(expected).max() > 0.1
    assert np.abs(features - expected).max() < 1e-4 * np.abs(expected).max()


def test_published_checkpoint_fits_name_by_name() -> None:
    # A quarter of the width and two frames, for the time it takes: position tables are no parameters.
    reference = official(embed_dim=352, depth=2, num_heads=4, all_frames=2)
    narrow = {"hidden_size": 352, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 1536}
    with torch.device("meta"):
        shallow = VideoMAEForVideoClassification(config(**narrow, num_frames=2))
        whole = VideoMAEForVideoClassification(config(num_frames=2))
    shallow.classifier = whole.classifier = torch.nn.Identity()
    ours = {name: value.shape for name, value in shallow.state_dict().items()}
    renamed = {name: value.shape for name, value in videomae.transformers_names(reference.state_dict()).items()}
    assert renamed == ours
    assert sum(p.numel() for p in whole.parameters()) == pytest.approx(1011.9e6, rel=1e-3)


def test_network_input_equals_cd_fvds(golden: dict[str, np.ndarray]) -> None:
    x = torch.stack([videomae.prepare(torch.from_numpy(v)) for v in golden["video_u8"]]).transpose(1, 2)
    expected = json.loads((GOLDEN / "fvd.json").read_text())["videomae_pre"]
    assert list(x.shape) == expected["shape"]
    assert float(x.sum(dtype=torch.float64)) == pytest.approx(expected["sum"], rel=1e-8)
    np.testing.assert_allclose(x[..., ::8, ::8], golden["videomae_pre_sample8"], atol=2e-6)


@pytest.mark.parametrize(("name", "resolution"), [("landscape", 24), ("portrait", 24), ("ucf_like", 32), ("up", 32)])
def test_crop_equals_cd_fvds_loader_to_the_grey_level(
    name: str, resolution: int, golden: dict[str, np.ndarray]
) -> None:
    frames = videomae.crop(torch.from_numpy(golden[f"load_{name}_in"]), resolution)
    np.testing.assert_array_equal(frames, golden[f"load_{name}_res{resolution}_u8"])


def test_batch_size_and_order_do_not_change_features(network: VideoMAEForVideoClassification) -> None:
    extractor = videomae.VideoMAEExtractor(network, fingerprint="random", device="cpu", batch_size=2)
    some = clips(3)
    together = extractor.extract(some)
    extractor.batch_size = 1
    alone = np.concatenate([extractor.extract([c]) for c in some[::-1]])[::-1]
    assert together.dtype == np.float32
    np.testing.assert_allclose(together, alone, atol=1e-6)


def test_clips_of_several_sizes_share_a_batch(network: VideoMAEForVideoClassification) -> None:
    extractor = videomae.VideoMAEExtractor(network, fingerprint="random", device="cpu")
    assert extractor.extract([*clips(1), *clips(1, height=70, width=50)]).shape == (2, 88)


def test_half_precision_file_loads_through_the_table_and_signs_with_its_digest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, network: VideoMAEForVideoClassification
) -> None:
    monkeypatch.setenv("STG_EVAL_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    with pytest.raises(StgEvalError, match="stg-eval weights fetch videomae-g-ssv2"):
        fvd.load("cpu")
    row = fvd.VIDEOMAE
    path = tmp_path / "weights" / row.name / Path(row.file).name
    path.parent.mkdir(parents=True)
    torch.save({"module": {"fc_norm.weight": torch.ones(88).half()}}, path)
    with pytest.raises(StgEvalError, match="damaged or another file"):
        fvd.load("cpu")
    checkpoint = weights.Checkpoint(path, "0123456789abcdef")
    monkeypatch.setattr(weights, "require", lambda name: checkpoint)
    monkeypatch.setattr(videomae, "load_network", lambda tensors: network)
    assert fvd.load("cpu").extractor.signature == "videomae-g-ssv2|16f|crop256-224|01234567"
    names = videomae.transformers_names(weights.load_torch(checkpoint)["module"])
    assert names["fc_norm.weight"].dtype == torch.float32


def test_short_clip_is_refused(network: VideoMAEForVideoClassification) -> None:
    extractor = videomae.VideoMAEExtractor(network, fingerprint="random", device="cpu")
    assert list(extractor.frame_indices(25, 7.0)) == list(range(16))
    with pytest.raises(StgEvalError, match="16 frames and the clip has 14"):
        extractor.frame_indices(14, 7.0)
