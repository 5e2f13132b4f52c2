"""Every checkpoint of the paper's metrics and models as it was published: source, digest, size and licence."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Weight:
    """One checkpoint: a file on the hub (`repo`), several (`files`), or a file behind a URL, perhaps inside a zip."""

    name: str
    needed_by: str
    """The metric or model that loads it."""
    licence: str
    size: int
    """Bytes; rounded where the publisher's exact number is not known."""
    sha256: str | None = None
    """Of the file. None: not published, so the digest of the first fetch is kept and checked from then on."""
    repo: str | None = None
    revision: str | None = None
    """Commit on the hub; None: the newest one."""
    file: str = ""
    """Path inside the repo or the zip, else the name of the file."""
    files: tuple[str, ...] = ()
    """Patterns of a whole pipeline's files, which models load from the hub's cache; `weights.require` gives the folder.
    Each network has a pattern of its own, and each pattern a file in the repo, but for `*.index.json`: indices of
    shards, which are there only where a network was cut into shards."""
    url: str | None = None
    zip_sha256: str | None = None
    """Digest of the archive at `url` that holds `file`."""


_TABLE = (
    Weight(
        name="videomae-g-ssv2",
        needed_by="metrics fvd, fvd_unbiased",
        licence="CC-BY-NC-4.0",
        size=2_023_804_201,
        sha256="5a210a92f035dff30c53b46157b612e7a1a5d3c99700e1b2d71da5c399ca7e70",
        repo="OpenGVLab/VideoMAE2",
        revision="97d119d270aca7a1217fff7f413c0c543eb325d9",
        file="mae-g/vit_g_hybrid_pt_1200e_ssv2_ft.pth",
    ),
    Weight(
        name="c3d-ucf101",
        needed_by="metrics is, is_tgan, is_tganv2",
        licence="not stated",
        size=314_000_000,
        url="https://github.com/rezoo/tgan2/releases/download/v1.0/conv3d_deepnetA_ucf.npz",
        file="conv3d_deepnetA_ucf.npz",
    ),
    Weight(
        name="c3d-mean",
        needed_by="metrics is, is_tgan, is_tganv2",
        licence="not stated",
        size=4_200_000,
        url="https://github.com/rezoo/tgan2/releases/download/v1.0/mean2.npz",
        file="mean2.npz",
    ),
    Weight(
        name="amt-s",
        needed_by="metric motion_smoothness",
        licence="CC-BY-NC-4.0",
        size=12_000_000,
        repo="lalala125/AMT",
        file="amt-s.pth",
    ),
    Weight(
        name="raft-things",
        needed_by="metrics dynamic_degree, static_filter",
        licence="BSD-3-Clause",
        size=21_108_000,
        sha256="fcfa4125d6418f4de95d84aec20a3c5f4e205101715a79f193243c186ac9a7e1",
        url="https://dl.dropboxusercontent.com/s/4j4z58wuv8o0mfz/models.zip",
        zip_sha256="4be6101b271f58ec49866da5cf609fd17e86e9cae2483f70630ef4a295dc66bd",
        file="models/raft-things.pth",
    ),
    Weight(
        name="musiq-spaq",
        needed_by="metric imaging_quality",
        licence="Apache-2.0",
        size=109_000_000,
        sha256="358bb6af275e28ea56821d44fb55c6cb83645db11f394d3ad65b2d149965ab50",
        url="https://github.com/chaofengc/IQA-PyTorch/releases/download/v0.1-weights/musiq_spaq_ckpt-358bb6af.pth",
        file="musiq_spaq_ckpt-358bb6af.pth",
    ),
    Weight(
        name="clip-vit-l-14",
        needed_by="metric aesthetic_quality",
        licence="MIT",
        size=1_710_540_580,
        sha256="a2bf730a0c7debf160f7a6b50b3aaf3703e7e88ac73de7a314903141db026dcb",
        repo="openai/clip-vit-large-patch14",
        revision="32bd64288804d66eefd0ccbe215aa642df71cc41",
        file="model.safetensors",
    ),
    Weight(
        name="laion-aesthetic",
        needed_by="metric aesthetic_quality",
        licence="MIT",
        size=4_071,
        url="https://github.com/LAION-AI/aesthetic-predictor/raw/main/sa_0_4_vit_l_14_linear.pth",
        file="sa_0_4_vit_l_14_linear.pth",
    ),
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

WEIGHTS: dict[str, Weight] = {weight.name: weight for weight in _TABLE}
"""All checkpoints, by name."""
