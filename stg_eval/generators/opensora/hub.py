"""Where Open-Sora 1.2's published checkpoints lie. Imports no torch."""

from stg_eval.weights import Weight

_PART = ("config.json", "*.safetensors", "*.safetensors.index.json")

CHECKPOINTS = (
    Weight(
        name="opensora-stdit",
        needed_by="model opensora",
        licence="Apache-2.0",
        size=4_835_598_472,
        repo="hpcai-tech/OpenSora-STDiT-v3",
        revision="dccc046bf978d03e783508ed15bcea04c6f5b34c",
        files=_PART,
    ),
    Weight(
        name="opensora-vae",
        needed_by="model opensora",
        licence="Apache-2.0",
        size=1_573_430_548,
        repo="hpcai-tech/OpenSora-VAE-v1.2",
        revision="33d153e9b5a9f771a8a84f98bd3f46458a8ed0bf",
        files=_PART,
    ),
    Weight(
        name="opensora-t5",
        needed_by="model opensora",
        licence="Apache-2.0",
        size=19_050_000_000,
        repo="PixArt-alpha/pixart_sigma_sdxlvae_T5_diffusers",
        revision="2c17b4e85261cd549b4068d086b7c2ba9d468e9f",
        files=("*.json", "*/*.json", "*/*.model", "text_encoder/*.safetensors"),
    ),
)
"""T5 is T5-v1.1-XXL's encoder as float32 safetensors. The original reads DeepFloyd/t5-v1_1-xxl, the same model as
pickled .bin shards; that hub id works here too."""

TRANSFORMER, VAE, TEXT_ENCODER = (row.source for row in CHECKPOINTS)
