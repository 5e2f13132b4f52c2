"""The autoencoder against the original code."""

from __future__ import annotations

import pytest
import torch

from stg_eval.generators.opensora.vae import OpenSoraVAE


def _close(actual, expected, atol=2e-5):
    torch.testing.assert_close(actual, expected, rtol=0, atol=atol)


@pytest.mark.parametrize("frames", [1, 5, 6, 8, 17])
def test_temporal_vae_equals_the_original(vae, golden, frames):
    data, key = golden("vae_cases.safetensors"), f"temporal_T{frames}"
    _close(vae.temporal_vae.encode(data[f"{key}/in.x"]), data[f"{key}/moments"])
    _close(vae.temporal_vae.decode(data[f"{key}/in.z"], frames), data[f"{key}/decoded"])


def test_decoding_in_chunks_equals_the_original(vae, golden):
    data = golden("vae_cases.safetensors")
    _close(vae.decode(data["pipeline_T1/in.z"], 1), data["pipeline_T1/decoded"])
    video = vae.decode(data["pipeline_T40/in.z"], 40)
    assert video.shape == (1, 3, 40, 16, 24)
    _close(video[:, :, ::8], data["pipeline_T40/decoded_every_8th_frame"])


@pytest.mark.parametrize("frames", [1, 40])
def test_encoding_in_chunks_equals_the_original(vae, golden, monkeypatch, frames):
    data, key = golden("vae_cases.safetensors"), f"pipeline_T{frames}"
    draws = [*data[f"{key}/spatial_noise"].split(4), *data[f"{key}/temporal_noise"].split(5, dim=2)]

    def next_draw(shape, **kwargs):
        assert draws[0].shape == shape
        return draws.pop(0)

    monkeypatch.setattr("diffusers.models.autoencoders.vae.randn_tensor", next_draw)
    _close(vae.encode(data[f"{key}/in.x"]), data[f"{key}/z"])
    assert not draws


def test_state_dict_of_the_full_size_model_equals_the_published_checkpoint(golden):
    with torch.device("meta"):
        model = OpenSoraVAE()
    names = {name: list(tensor.shape) for name, tensor in model.state_dict().items()}
    assert names == golden("state_dict_manifest.json")["opensora_vae_v1_2"]
    assert len(names) == 517
