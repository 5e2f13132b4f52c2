"""Checkpoints of models, until each stands in its model's file."""

from stg_eval.weights.weight import Weight

MODEL_ROWS = (
    Weight(
        name="svd",
        needed_by="model svd",
        licence="Stability AI Community",
        size=4_510_000_000,
        repo="stabilityai/stable-video-diffusion-img2vid-xt",
        revision="9e43909513c6714f1bc78bcb44d96e733cd242aa",
        files=(
            "model_index.json",
            "*/*.json",
            "image_encoder/*.fp16.safetensors",
            "unet/*.fp16.safetensors",
            "vae/*.fp16.safetensors",
        ),
    ),
    Weight(
        name="mochi",
        needed_by="model mochi",
        licence="Apache-2.0",
        size=40_025_270_143,
        repo="genmo/mochi-1-preview",
        revision="14be5fcea23095ed330cb214647916a451e38b6e",
        # The text encoder has no bfloat16 files.
        files=(
            "model_index.json",
            "scheduler/*",
            "tokenizer/*",
            "*/config.json",
            "text_encoder/*",
            "transformer/*bf16*",
            "vae/*bf16*",
        ),
    ),
    Weight(
        name="opensora-stdit",
        needed_by="model opensora",
        licence="Apache-2.0",
        size=4_835_598_472,
        repo="hpcai-tech/OpenSora-STDiT-v3",
        revision="dccc046bf978d03e783508ed15bcea04c6f5b34c",
        files=("config.json", "*.safetensors", "*.safetensors.index.json"),
    ),
    Weight(
        name="opensora-vae",
        needed_by="model opensora",
        licence="Apache-2.0",
        size=1_573_430_548,
        repo="hpcai-tech/OpenSora-VAE-v1.2",
        revision="33d153e9b5a9f771a8a84f98bd3f46458a8ed0bf",
        files=("config.json", "*.safetensors", "*.safetensors.index.json"),
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
