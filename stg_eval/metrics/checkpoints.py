"""Checkpoints of metrics."""

from stg_eval.weights import Weight

VIDEOMAE = Weight(
    name="videomae-g-ssv2",
    needed_by="metrics fvd, fvd_unbiased",
    licence="CC-BY-NC-4.0",
    size=2_023_804_201,
    sha256="5a210a92f035dff30c53b46157b612e7a1a5d3c99700e1b2d71da5c399ca7e70",
    repo="OpenGVLab/VideoMAE2",
    revision="97d119d270aca7a1217fff7f413c0c543eb325d9",
    file="mae-g/vit_g_hybrid_pt_1200e_ssv2_ft.pth",
)
C3D = Weight(
    name="c3d-ucf101",
    needed_by="metrics is, is_tgan, is_tganv2",
    licence="not stated",
    size=314_000_000,
    url="https://github.com/rezoo/tgan2/releases/download/v1.0/conv3d_deepnetA_ucf.npz",
    file="conv3d_deepnetA_ucf.npz",
)
C3D_MEAN = Weight(
    name="c3d-mean",
    needed_by="metrics is, is_tgan, is_tganv2",
    licence="not stated",
    size=4_200_000,
    url="https://github.com/rezoo/tgan2/releases/download/v1.0/mean2.npz",
    file="mean2.npz",
)
AMT = Weight(
    name="amt-s",
    needed_by="metric motion_smoothness",
    licence="CC-BY-NC-4.0",
    size=12_000_000,
    repo="lalala125/AMT",
    file="amt-s.pth",
)
RAFT = Weight(
    name="raft-things",
    needed_by="metrics dynamic_degree, static_filter",
    licence="BSD-3-Clause",
    size=21_108_000,
    sha256="fcfa4125d6418f4de95d84aec20a3c5f4e205101715a79f193243c186ac9a7e1",
    url="https://dl.dropboxusercontent.com/s/4j4z58wuv8o0mfz/models.zip",
    zip_sha256="4be6101b271f58ec49866da5cf609fd17e86e9cae2483f70630ef4a295dc66bd",
    file="models/raft-things.pth",
)
MUSIQ = Weight(
    name="musiq-spaq",
    needed_by="metric imaging_quality",
    licence="Apache-2.0",
    size=109_000_000,
    sha256="358bb6af275e28ea56821d44fb55c6cb83645db11f394d3ad65b2d149965ab50",
    url="https://github.com/chaofengc/IQA-PyTorch/releases/download/v0.1-weights/musiq_spaq_ckpt-358bb6af.pth",
    file="musiq_spaq_ckpt-358bb6af.pth",
)
CLIP_L_14 = Weight(
    name="clip-vit-l-14",
    needed_by="metric aesthetic_quality",
    licence="MIT",
    size=1_710_540_580,
    sha256="a2bf730a0c7debf160f7a6b50b3aaf3703e7e88ac73de7a314903141db026dcb",
    repo="openai/clip-vit-large-patch14",
    revision="32bd64288804d66eefd0ccbe215aa642df71cc41",
    file="model.safetensors",
)
LAION = Weight(
    name="laion-aesthetic",
    needed_by="metric aesthetic_quality",
    licence="MIT",
    size=4_071,
    url="https://github.com/LAION-AI/aesthetic-predictor/raw/main/sa_0_4_vit_l_14_linear.pth",
    file="sa_0_4_vit_l_14_linear.pth",
)
