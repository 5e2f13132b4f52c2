"""JEDi is the published formula on V-JEPA's own features."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from stg_eval.metrics import jedi, vjepa
from stg_eval.metrics.jedi import PolynomialDiscrepancy
from stg_eval.types import StgEvalError


def by_pairs(x: np.ndarray, y: np.ndarray) -> float:
    """The definition: mean kernel within each set and across, every clip with itself included."""

    def kernel(a: np.ndarray, b: np.ndarray) -> float:
        return float(((a @ b.T / a.shape[1]) ** 2).mean())

    return 100 * (kernel(x, x) + kernel(y, y) - 2 * kernel(x, y))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 999), st.integers(1, 30), st.integers(1, 30), st.integers(1, 20))
def test_discrepancy_is_the_mean_of_the_kernel_over_all_pairs(seed: int, n: int, m: int, d: int) -> None:
    rng = np.random.default_rng(seed)
    x, y = rng.normal(0.3, 2, (n, d)), rng.normal(size=(m, d))
    found = PolynomialDiscrepancy()(x, y)
    assert found == pytest.approx(by_pairs(x, y), rel=1e-9, abs=1e-9 * 100 * float((x**2).mean() ** 2))
    assert found >= 0
    assert PolynomialDiscrepancy()(y, x) == pytest.approx(found, rel=1e-9)
    assert PolynomialDiscrepancy()(x, x[::-1]) == pytest.approx(0, abs=1e-9)


def test_values_of_the_sources_own_example() -> None:
    """videojedi prints 270.7 for these under gamma 1/3 and degree 2, before its factor of 100."""
    x = np.arange(1, 10).reshape(3, 3)
    y = np.array([[7, 6, 5], [4, 3, 2], [1, 1, 8], [0, 2, 5]])
    assert PolynomialDiscrepancy()(x, y) / 100 == pytest.approx(270.7, abs=0.05)


def test_a_reference_that_changes_is_not_taken_for_the_last_one() -> None:
    statistic, rng = PolynomialDiscrepancy(), np.random.default_rng(0)
    x, y, z = rng.normal(size=(3, 20, 6))
    assert statistic(x, y) != statistic(x, z)
    assert statistic(x, y) == PolynomialDiscrepancy()(x, y)


def test_bad_features_are_refused_by_name() -> None:
    ok = np.ones((4, 3))
    for bad, problem in (
        (np.ones((4, 2)), "of 2 and 3 dim"),
        (np.ones(3), "at least one"),
        (ok * np.nan, "of 4 clips"),
    ):
        with pytest.raises(StgEvalError, match=problem):
            PolynomialDiscrepancy()(bad, ok)
    with pytest.raises(StgEvalError, match="real clips"):
        PolynomialDiscrepancy()(ok, None)


DIM, DEPTH, HEADS, PATCH = 48, 2, 4, 16


def checkpoints(seed: int = 0) -> tuple[dict[str, dict[str, Tensor]], dict[str, dict[str, Tensor]]]:
    """Both files' contents with random weights, under the published names; small."""
    generator = torch.Generator().manual_seed(seed)

    def linear(name: str, out: int, into: int) -> dict[str, Tensor]:
        weight = torch.randn(out, into, generator=generator) / into**0.5
        return {f"{name}.weight": weight, f"{name}.bias": torch.randn(out, generator=generator) / 10}

    def norm(name: str) -> dict[str, Tensor]:
        return {
            f"{name}.weight": 1 + torch.randn(DIM, generator=generator) / 10,
            f"{name}.bias": torch.randn(DIM, generator=generator) / 10,
        }

    def mlp(name: str) -> dict[str, Tensor]:
        return linear(f"{name}.fc1", 4 * DIM, DIM) | linear(f"{name}.fc2", DIM, 4 * DIM)

    tokens = 8 * (224 // PATCH) ** 2
    encoder = {"pos_embed": torch.randn(1, tokens, DIM, generator=generator)} | norm("norm")
    encoder |= {
        "patch_embed.proj.weight": torch.randn(DIM, 3, 2, PATCH, PATCH, generator=generator) / 40,
        "patch_embed.proj.bias": torch.zeros(DIM),
    }
    for i in range(DEPTH):
        at = f"blocks.{i}"
        encoder |= norm(f"{at}.norm1") | norm(f"{at}.norm2") | mlp(f"{at}.mlp")
        encoder |= linear(f"{at}.attn.qkv", 3 * DIM, DIM) | linear(f"{at}.attn.proj", DIM, DIM)
    at = "pooler.cross_attention_block"
    probe = {"pooler.query_tokens": torch.randn(1, 1, DIM, generator=generator)}
    probe |= norm(f"{at}.norm1") | norm(f"{at}.norm2") | mlp(f"{at}.mlp") | linear("linear", 174, DIM)
    probe |= linear(f"{at}.xattn.q", DIM, DIM) | linear(f"{at}.xattn.kv", 2 * DIM, DIM)
    probe |= linear(f"{at}.xattn.proj", DIM, DIM)
    return (
        {"target_encoder": {f"module.backbone.{name}": value for name, value in encoder.items()}},
        {"classifier": {f"module.{name}": value for name, value in probe.items()}},
    )


def by_torchs_own_layers(clips: Tensor) -> Tensor:
    """The same network from torch.nn.MultiheadAttention and TransformerEncoderLayer."""
    encoder, probe = (
        {name.replace("module.", "").replace("backbone.", ""): value for name, value in part.items()}
        for (part,) in (found.values() for found in checkpoints())
    )
    x = F.conv3d(clips, encoder["patch_embed.proj.weight"], encoder["patch_embed.proj.bias"], stride=(2, PATCH, PATCH))
    x = x.flatten(2).transpose(1, 2) + encoder["pos_embed"]
    for i in range(DEPTH):
        layer = nn.TransformerEncoderLayer(
            DIM, HEADS, 4 * DIM, 0.0, "gelu", layer_norm_eps=1e-6, batch_first=True, norm_first=True
        ).eval()
        at = f"blocks.{i}"
        names = {
            "self_attn.in_proj_weight": "attn.qkv.weight",
            "self_attn.in_proj_bias": "attn.qkv.bias",
            "self_attn.out_proj.weight": "attn.proj.weight",
            "self_attn.out_proj.bias": "attn.proj.bias",
        }
        names |= {f"linear{k}.{p}": f"mlp.fc{k}.{p}" for k in (1, 2) for p in ("weight", "bias")}
        names |= {f"norm{k}.{p}": f"norm{k}.{p}" for k in (1, 2) for p in ("weight", "bias")}
        layer.load_state_dict({ours: encoder[f"{at}.{theirs}"] for ours, theirs in names.items()})
        x = layer(x)
    x = F.layer_norm(x, (DIM,), encoder["norm.weight"], encoder["norm.bias"], 1e-6)
    at = "pooler.cross_attention_block"
    attention = nn.MultiheadAttention(DIM, HEADS, batch_first=True)
    attention.load_state_dict(
        {
            "in_proj_weight": torch.cat([probe[f"{at}.xattn.q.weight"], probe[f"{at}.xattn.kv.weight"]]),
            "in_proj_bias": torch.cat([probe[f"{at}.xattn.q.bias"], probe[f"{at}.xattn.kv.bias"]]),
            "out_proj.weight": probe[f"{at}.xattn.proj.weight"],
            "out_proj.bias": probe[f"{at}.xattn.proj.bias"],
        }
    )
    query = probe["pooler.query_tokens"].expand(len(x), -1, -1)
    tokens = F.layer_norm(x, (DIM,), probe[f"{at}.norm1.weight"], probe[f"{at}.norm1.bias"])
    query = query + attention(query, tokens, tokens, need_weights=False)[0]
    hidden = F.layer_norm(query, (DIM,), probe[f"{at}.norm2.weight"], probe[f"{at}.norm2.bias"])
    for k in (1, 2):
        hidden = F.linear(hidden, probe[f"{at}.mlp.fc{k}.weight"], probe[f"{at}.mlp.fc{k}.bias"])
        hidden = F.gelu(hidden) if k == 1 else hidden
    return (query + hidden)[:, 0]


def test_network_is_that_of_torchs_own_transformer_layers() -> None:
    clips = torch.randn(2, 3, 16, 224, 224, generator=torch.Generator().manual_seed(5))
    with torch.inference_mode():
        ours = vjepa.network(*checkpoints(), heads=HEADS)(clips)
        torch.testing.assert_close(ours, by_torchs_own_layers(clips), atol=2e-5, rtol=2e-5)


def test_features_do_not_depend_on_the_batch_and_clips_may_differ_in_size() -> None:
    extractor = vjepa.VJEPAExtractor(
        vjepa.network(*checkpoints(), heads=HEADS), fingerprint="f", device="cpu", batch_size=2
    )
    rng = np.random.default_rng(0)
    clips = [rng.integers(0, 256, (16, *size, 3), dtype=np.uint8) for size in ((224, 224), (240, 320), (100, 60))]
    together = extractor.extract(clips)
    assert together.shape == (3, DIM)
    np.testing.assert_allclose(together, np.concatenate([extractor.extract([clip]) for clip in clips]), atol=1e-5)
    assert extractor.signature == "vjepa-h-ssv2|16f|crop224|f"
    with pytest.raises(StgEvalError, match="16 frames and the clip has 15"):
        extractor.frame_indices(15, 8.0)


def test_frames_are_normalised_with_imagenets_statistics() -> None:
    grey = torch.full((16, 224, 224, 3), 255, dtype=torch.uint8)
    expected = (1 - torch.tensor(vjepa.MEAN)) / torch.tensor(vjepa.STD)
    torch.testing.assert_close(vjepa.prepare(grey)[:, 0, 0, 0], expected)


def test_missing_weights_name_the_command(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    monkeypatch.setenv("STG_EVAL_CACHE", str(tmp_path))
    with pytest.raises(StgEvalError, match=r"10\.4 GB, for metric jedi.*stg-eval weights fetch vjepa-h-16"):
        jedi.CARD.load("cpu")  # type: ignore[misc]
