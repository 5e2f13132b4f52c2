"""The generators of diffusers' video models, on small random pipelines of the real classes."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from stg_eval import generators
from stg_eval.generators import ModelCard
from stg_eval.generators.loading import enough_memory
from stg_eval.types import Case, Guidance, Request, StgEvalError

RANDOM = "random-weights(seed=0)"
MODELS = [name for name in generators.MODELS if name not in ("tiny", "tiny-weak", "opensora")]
SIZES = {"svd": (64, 64, 3), "mochi": (32, 48, 7), "ltx": (64, 64, 9), "cogvideox": (32, 48, 9), "wan": (32, 48, 5)} | {
    "ltx13b": (64, 64, 9),
    "ltx2": (64, 64, 9),
    "wan14b": (32, 48, 5),
    "wan22": (32, 48, 5),
    "wan22-i2v": (32, 48, 5),
    "hunyuan": (32, 48, 5),
    "hunyuan15": (32, 48, 5),
    "cogvideox-i2v": (32, 48, 9),
    "ltx23": (64, 64, 9),
}


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("images") / "first.png"
    pixels = np.random.default_rng(0).integers(0, 255, (96, 64, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture(scope="module")
def loaded() -> dict[str, Any]:
    return {}


@pytest.fixture
def load(loaded: dict[str, Any]) -> Any:
    torch.set_num_threads(1)

    def load(name: str) -> Any:
        if name not in loaded:
            settings = generators.card(name).settings
            loaded[name] = generators.get(name).load(device="cpu", dtype="float32", weights=RANDOM, settings=settings)
        return loaded[name]

    return load


def request(
    name: str, guidance: str, image: Path, *, prompt: str = "a red ball", seed: int = 0, **more: Any
) -> Request:
    card, (height, width, num_frames) = generators.card(name), SIZES[name]
    digest = hashlib.sha256(image.read_bytes()).hexdigest()
    settings = dict(card.settings) | more.pop("settings", {})
    return replace(
        Request(
            model=name,
            weights=RANDOM,
            guidance=card.presets[guidance].guidance if guidance in card.presets else Guidance.parse(guidance),
            case=Case(id="x", prompt=prompt, image=str(image), image_sha256=digest),
            seed=seed,
            height=height,
            width=width,
            num_frames=num_frames,
            fps=card.fps,
            num_inference_steps=2,
            dtype="float32",
            encoding=card.encoding,
            settings=tuple(sorted(settings.items())),
        ),
        **more,
    )


# ---- cards


def cards() -> list[ModelCard]:
    return [generators.card(name) for name in MODELS]


def test_cards_and_maps_import_no_torch() -> None:
    code = (
        "import sys; from stg_eval import generators; import stg_eval.generators.guidance.combinations\n"
        f"[generators.card(n) for n in {MODELS}]\n"
        "assert not {'torch', 'diffusers', 'transformers'} & set(sys.modules), 'heavy import'"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@pytest.mark.parametrize("card", cards(), ids=MODELS)
def test_every_card_has_the_presets_and_a_pinned_checkpoint(card: ModelCard) -> None:
    assert {"none", "cfg", "stg"} <= set(card.presets)
    assert card.presets["none"].guidance == Guidance()
    assert card.tflops_per_pass > 0
    repository, _, revision = card.weights.partition("@")
    assert repository.count("/") == 1
    assert len(revision) == 40 or (
        not revision and card.name not in ("svd", "mochi", "ltx", "cogvideox", "wan")  # those are pinned
    )


@pytest.mark.parametrize("card", cards(), ids=MODELS)
def test_costs_order_as_the_work_does(card: ModelCard) -> None:
    none, cfg, stg = (generators.get(card.name).cost(card.presets[name].guidance) for name in ("none", "cfg", "stg"))
    assert (none, cfg) == (1, 3 if card.name in ("ltx2", "ltx23") else 2)  # its modality guidance goes with CFG
    assert (2 if card.presets["stg"].guidance.cfg_scale > 1 else 1) < stg <= 4


def test_costs_are_the_counted_ones() -> None:
    # the floors of FLOPs over CFG's, each within 1 %
    def ratio(name: str, text: str) -> float:
        return generators.get(name).cost(Guidance.parse(text)) / 2

    assert ratio("svd", "cfg3+stg-a[8]s2t2") == pytest.approx(1.587, rel=0.01)
    assert ratio("svd", "cfg3+stg-a[up_blocks.1.attentions.0]s2") == pytest.approx(1.298, rel=0.01)
    assert ratio("mochi", "cfg4.5+stg-r[35]w1") == pytest.approx(1.125, rel=0.01)
    assert ratio("mochi", "cfg4.5+stg-r[transformer_blocks.34]w1") == pytest.approx(1.135, rel=0.01)
    # of benchmarks/guidance_flops.py, which counts them on the meta device
    assert ratio("wan14b", "cfg5+stg-a[8]w1") == pytest.approx(1.392, rel=0.01)
    assert ratio("wan14b", "cfg5+stg-r[9]u") == pytest.approx(0.9875, rel=0.01)
    assert ratio("ltx13b", "cfg6+stg-a[28]w4") == pytest.approx(1.204, rel=0.01)
    assert ratio("hunyuan", "cfg6+stg-r[2]w1") == pytest.approx(1.475, rel=0.01)
    with pytest.raises(StgEvalError, match="from 0 to 47"):
        ratio("mochi", "cfg4.5+stg-r[48]w1")
    with pytest.raises(StgEvalError, match="from 1 to 16"):
        ratio("svd", "cfg3+stg-a[0]s2")


@pytest.mark.parametrize("name", MODELS)
def test_smoke_settings_are_sizes_the_model_can_make(load: Any, image: Path, name: str) -> None:
    smoke = generators.get(name).smoke
    assert smoke["weights"] == RANDOM
    changes = {key: smoke[key] for key in ("height", "width", "num_frames")}
    asked = request(name, "cfg99+stg-a[0.0]w1", image, **changes)
    with pytest.raises(StgEvalError, match=r"no layer '0\.0'"):  # the first thing refused after the size
        load(name).generate([asked])


# ---- clips


@pytest.mark.parametrize("name", MODELS)
def test_clips_are_of_the_request_alone(load: Any, image: Path, name: str) -> None:
    """Shape and dtype; the same clip alone, in a batch, and after other guidance; another one for seed and guidance."""
    generator = load(name)
    cfg = request(name, "cfg", image)
    (alone,) = generator.generate([cfg])
    height, width, num_frames = SIZES[name]
    assert alone.dtype == np.uint8
    assert alone.shape == (num_frames, height, width, 3)
    (stg,) = generator.generate([request(name, "stg", image)])
    assert not np.array_equal(alone, stg)
    other, again = generator.generate([request(name, "cfg", image, seed=1), cfg])
    assert np.array_equal(again, alone)
    assert not np.array_equal(other, alone)


def test_ltx_2_is_called_as_its_vendor_calls_it(load: Any, image: Path) -> None:
    ltx2 = load("ltx2")
    asked = request("ltx2", "vendor", image)
    frames = ltx2.pipeline(
        "a red ball",
        negative_prompt="",
        **{"height": 64, "width": 64, "num_frames": 9, "frame_rate": 24.0, "num_inference_steps": 2},
        **{"guidance_scale": 3.0, "stg_scale": 1.0, "modality_scale": 3.0, "guidance_rescale": 0.7},
        **{"audio_guidance_scale": 7.0, "audio_stg_scale": 1.0, "audio_modality_scale": 3.0},
        audio_guidance_rescale=0.7,
        spatio_temporal_guidance_blocks=[29],
        generator=torch.Generator().manual_seed(asked.noise_seed),
        output_type="np",
    ).frames[0]
    found, expected = ltx2.generate([asked])[0].astype(int), generators.to_uint8(frames)
    assert np.abs(found - expected).max() <= 1


def test_a_clip_that_is_not_finite_is_an_error_in_its_place(load: Any, image: Path) -> None:
    ltx, calls = load("ltx"), []

    def spoil(module: torch.nn.Module, args: Any, output: Any) -> Any:
        calls.append(1)
        return (output[0] * torch.nan,) if len(calls) == 1 else None

    handle = ltx.pipeline.transformer.register_forward_hook(spoil)
    try:
        first, second = ltx.generate([request("ltx", "none", image), request("ltx", "none", image, seed=1)])
    finally:
        handle.remove()
    assert isinstance(first, StgEvalError)
    assert isinstance(second, np.ndarray)


def test_same_seed_makes_the_same_random_weights(image: Path) -> None:
    clips = []
    for seed in (0, 0, 1):
        weights = f"random-weights(seed={seed})"
        ltx = generators.get("ltx").load(device="cpu", dtype="float32", weights=weights, settings={})
        clips.append(ltx.generate([request("ltx", "none", image)])[0])
    assert np.array_equal(clips[0], clips[1])
    assert not np.array_equal(clips[0], clips[2])


@pytest.mark.parametrize("name", ["svd", "mochi", "wan"])
def test_half_precision_clips_are_near_those_in_full(load: Any, image: Path, name: str) -> None:
    half = generators.get(name).load(device="cpu", dtype="bfloat16", weights=RANDOM, settings={})
    asked = request(name, "stg", image)
    (found,), (full,) = half.generate([asked]), load(name).generate([asked])
    assert 0 < np.abs(found.astype(float) - full).mean() < 10


def test_prompts_and_first_frames_are_seen(load: Any, image: Path, tmp_path: Path) -> None:
    mochi = load("mochi")
    one, two = mochi.generate([request("mochi", "cfg", image), request("mochi", "cfg", image, prompt="a blue cat")])
    assert not np.array_equal(one, two)
    svd, flat = load("svd"), tmp_path / "flat.png"
    Image.new("RGB", (64, 64), "navy").save(flat)
    stretch, crop, other = svd.generate(
        [
            request("svd", "cfg", image),
            request("svd", "cfg", image, settings={"image_fit": "crop"}),
            request("svd", "cfg", flat),
        ]
    )
    assert not np.array_equal(stretch, crop)
    assert not np.array_equal(stretch, other)


def test_svd_scales_cfg_from_the_first_frame_to_the_last(load: Any, image: Path) -> None:
    svd = load("svd")
    ramp, flat = svd.generate(
        [request("svd", "cfg3", image), request("svd", "cfg3", image, settings={"min_guidance_scale": 3.0})]
    )
    assert not np.array_equal(ramp[0], flat[0])


def test_autoguidance_takes_a_second_checkpoint_of_the_same_pipeline(load: Any, image: Path) -> None:
    ltx = load("ltx")
    plain, pushed, same = (
        ltx.generate([request("ltx", f"cfg3{term}", image)])[0]
        for term in ("", "+auto[random-weights(seed=1)]w1", "+auto[random-weights(seed=0)]w1")
    )
    assert np.abs(plain.astype(int) - pushed).max() > 1
    assert np.abs(plain.astype(int) - same).max() <= 1  # from itself there is no way to go, but for the batch's noise


@pytest.mark.parametrize("name", ["mochi", "ltx2"])
def test_one_step_views_are_clips_of_every_prediction(load: Any, image: Path, name: str) -> None:
    model = load(name)
    asked = request(name, "stg", image)
    (clip,) = model.generate([asked])
    views = model.one_step_views(asked, 1)
    assert sorted(views) == ["c", "cfg", "stg", "u", "weak-joint"]
    assert all(frames.shape == clip.shape and frames.dtype == np.uint8 for frames in views.values())
    assert not np.array_equal(views["c"], views["u"])
    # the last step goes to its clean sample, so the view of what was sampled is the clip
    assert np.abs(views["stg"].astype(int) - clip).max() <= 1
    # and that of plain guidance the clip that had the skip in the other step alone
    outside = replace(asked, guidance=Guidance.parse(str(asked.guidance).replace("w1", "w1@0-0.5")))
    (without,) = model.generate([outside])
    assert np.abs(views["cfg"].astype(int) - without).max() <= 1
    assert np.array_equal(model.generate([asked])[0], clip)
    with pytest.raises(StgEvalError, match="0 is the first"):
        model.one_step_views(asked, 2)


# ---- one clear line


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("mochi", {"num_frames": 8}, "1 \\+ a multiple of 6 frames, not 8; try 7"),
        ("cogvideox", {"num_frames": 5}, "1 \\+ a multiple of 8 frames, not 5; try 9"),
        ("cogvideox", {"num_frames": 21}, "not 21; try 17"),
        ("mochi", {"height": 40}, "divisible by 16, not 40x48"),
        ("cogvideox-i2v", {"weights": "THUDM/CogVideoX-5b-I2V"}, "makes 480x720 only, not 32x48"),
        ("mochi", {"num_inference_steps": 1}, "at least 2 steps"),
        ("mochi", {"guidance": "cfg0.5"}, "no CFG scale below 1"),
        ("mochi", {"guidance": "cfg3+stg-r[48]w1"}, "no layer '48': give a number from 0 to 47"),
        ("mochi", {"guidance": "cfg3+stg-r[35]s1"}, "write stg-r\\[35\\]w1"),
        ("wan", {"guidance": "cfg3+restart[0.1,0.9]x1"}, "leave restart out"),
        ("svd", {"case": Case(id="y", prompt="p")}, "starts from an image"),
        ("svd", {"case": Case(id="y", image="no/such.png", image_sha256="0")}, "cannot be read"),
        ("svd", {"fps": 7.9}, "whole frames a second, not 7.9"),
        ("svd", {"settings": {"image_fit": "squeeze"}}, "image_fit is stretch or crop"),
    ],
)
def test_a_request_that_cannot_be_met_is_refused(
    load: Any, image: Path, name: str, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(StgEvalError, match=message):
        load(name).generate([request(name, **{"guidance": "cfg", "image": image} | change)])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weights": "random-weights(tiny)"}, r"random-weights\(seed=0\)"),
        ({"weights": "genmo/no-such-checkpoint@" + "0" * 40}, "not on this machine and could not be fetched"),
        ({"dtype": "int8"}, "dtype is one of float32"),
        ({"settings": {"offload": "disk"}}, "offload is none, model, group or sequential"),
        ({"settings": {"offload": "model"}}, "leave it out on the CPU"),
        ({"device": "cuda"}, "no CUDA device"),
    ],
)
def test_what_cannot_be_loaded_says_what_to_do(
    change: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    asked = {"device": "cpu", "dtype": "float32", "weights": RANDOM, "settings": {}} | change
    with pytest.raises(StgEvalError, match=message) as stop:
        generators.get("mochi").load(**asked)
    assert "\n" not in str(stop.value)


def test_a_folder_without_a_pipeline_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StgEvalError, match="holds no MochiPipeline"):
        generators.get("mochi").load(device="cpu", dtype="float32", weights=str(tmp_path), settings={})


@pytest.mark.parametrize("variant", [None, "bf16"])
def test_a_broken_folder_is_refused_for_what_is_broken_in_it(load: Any, tmp_path: Path, variant: str | None) -> None:
    """Not for the variant's files that it has no need of, nor for the plain ones where it has the variant's."""
    load("mochi").pipeline.save_pretrained(tmp_path, variant=variant)
    (file,) = (tmp_path / "vae").glob("*.safetensors")
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(StgEvalError, match=rf"holds no MochiPipeline .*{file.name}"):
        generators.get("mochi").load(device="cpu", dtype="bfloat16", weights=str(tmp_path), settings={})


@pytest.mark.parametrize(
    ("error", "message"),
    [
        ("GatedRepoError", "accept its licence at https://huggingface.co/a/b"),
        ("RepositoryNotFoundError", "no model 'a/b'"),
    ],
)
def test_hub_errors_become_advice(error: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import diffusers
    from huggingface_hub import errors

    def refuse(*_: Any, **__: Any) -> None:
        cause = getattr(errors, error).__new__(getattr(errors, error))
        raise OSError("wrapped") from cause

    monkeypatch.setattr(diffusers.MochiPipeline, "from_pretrained", refuse)
    with pytest.raises(StgEvalError, match=message):
        generators.get("mochi").load(device="cpu", dtype="float32", weights="a/b", settings={})


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA"), RuntimeError("can't allocate memory: 9 GB"), MemoryError()]
)
def test_too_little_memory_is_one_line_of_advice(
    load: Any, image: Path, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    ltx = load("ltx")

    def fail(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(ltx.pipeline.vae, "decode", fail)
    with pytest.raises(StgEvalError, match="9 frames of 64x64: try --set vae_tiling=true, a smaller size"):
        ltx.generate([request("ltx", "none", image)])


@pytest.mark.parametrize(
    ("device", "settings", "advice"),
    [
        (
            "cuda",
            {"offload": "none", "vae_tiling": False},
            "offload=model (or sequential), --set vae_tiling=true, a sm",
        ),
        ("cuda", {"offload": "model", "vae_tiling": True}, "offload=sequential, a smaller"),
        ("cuda:1", generators.card("opensora").settings, "offload=model (or sequential), a smaller"),
        ("cuda", generators.card("svd").settings, "offload=model (or sequential), a smaller"),
        ("cpu", generators.card("svd").settings, "too little memory for a clip: try a smaller"),
    ],
)
def test_memory_advice_names_only_settings_that_the_model_has_and_that_have_more_to_give(
    device: str, settings: dict[str, Any], advice: str
) -> None:
    with pytest.raises(StgEvalError) as stop, enough_memory("a clip", device, settings):
        raise MemoryError
    assert advice in str(stop.value)


def test_a_decoder_without_tiles_says_so() -> None:
    assert "vae_tiling" not in generators.card("svd").settings
    with pytest.raises(StgEvalError, match="AutoencoderKLTemporalDecoder cannot decode in tiles"):
        generators.get("svd").load(device="cpu", dtype="float32", weights=RANDOM, settings={"vae_tiling": True})


def test_other_errors_pass_through(load: Any, image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ltx = load("ltx")

    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(ltx.pipeline.vae, "decode", fail)
    with pytest.raises(RuntimeError, match="a bug"):
        ltx.generate([request("ltx", "none", image)])


def test_a_local_folder_is_a_checkpoint(load: Any, image: Path, tmp_path: Path) -> None:
    ltx = load("ltx")
    ltx.pipeline.save_pretrained(tmp_path / "mine")
    local = generators.get("ltx").load(
        device="cpu", dtype="float32", weights=str(tmp_path / "mine"), settings={"vae_tiling": True}
    )
    asked = request("ltx", "stg", image)
    assert np.array_equal(local.generate([asked])[0], ltx.generate([asked])[0])  # smaller than one tile
