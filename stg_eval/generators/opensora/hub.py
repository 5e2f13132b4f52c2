"""Where Open-Sora 1.2's published checkpoints lie. Imports no torch."""

TRANSFORMER = "hpcai-tech/OpenSora-STDiT-v3@dccc046bf978d03e783508ed15bcea04c6f5b34c"
VAE = "hpcai-tech/OpenSora-VAE-v1.2@33d153e9b5a9f771a8a84f98bd3f46458a8ed0bf"
TEXT_ENCODER = "PixArt-alpha/pixart_sigma_sdxlvae_T5_diffusers@2c17b4e85261cd549b4068d086b7c2ba9d468e9f"
"""T5-v1.1-XXL's encoder as float32 safetensors. The original reads DeepFloyd/t5-v1_1-xxl, the same model as pickled
.bin shards; that hub id works here too."""
