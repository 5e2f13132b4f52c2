"""Appearance style, overall consistency, temporal style and human action give the official scores for prompts."""

from __future__ import annotations

import json
import os
import shutil
import sys
import types
from functools import partial
from importlib.metadata import files
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from stg_eval.metrics.vbench import clip, human_action, sampling
from stg_eval.metrics.vbench import umt as network
from stg_eval.metrics.vbench.appearance_style import AppearanceStyle
from stg_eval.metrics.vbench.overall_consistency import PromptConsistency
from stg_eval.metrics.vbench.prompts import auxiliary
from stg_eval.storage.video import probe, read_frames
from stg_eval.types import Case, StgEvalError

SIZES = [{"num_frames": 2, "height": 120, "width": 160}, {"num_frames": 16, "height": 290, "width": 170, "seed": 1}]
pytestmark = pytest.mark.filterwarnings("ignore")  # the official loops warn a lot


@pytest.fixture(scope="module")
def entries() -> list[dict[str, Any]]:
    """The official list, read on its own."""
    path = next(f for f in files("vbench") or () if f.name == "VBench_full_info.json")
    return json.loads(Path(str(path.locate())).read_text())  # type: ignore[no-any-return]


def test_appearance_style_is_the_official_one(official, agree, score_case, clip_b32, vocabulary, clip_path) -> None:
    module = official("appearance_style")
    network, _ = module.clip.load(str(clip_b32.path), device="cpu")
    prompt, style = "The bund Shanghai, oil painting", {"appearance_style": "oil painting"}
    info = {"prompt": prompt, "video_list": [str(clip_path)], "auxiliary_info": style}
    expected, _ = module.appearance_style(network, [info], "cpu")
    got = score_case(AppearanceStyle(clip_b32, vocabulary, "cpu"), clip_path, prompt)
    agree("appearance_style", clip_path, expected, got, 1e-6)


@pytest.fixture(scope="module")
def viclip(official, save_random, vocabulary, tmp_path_factory) -> tuple[Any, Any]:
    """A narrow, shallow ViCLIP in the layout of the published file, and the official network that loaded it."""
    pytest.importorskip("einops")
    cache = tmp_path_factory.mktemp("cache")
    (cache / "ViCLIP").mkdir()
    shutil.copy(vocabulary.path, cache / "ViCLIP")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(official("utils"), "CACHE_DIR", str(cache))  # importing looks there for the byte pairs
        module = official("third_party.ViCLIP.viclip")
        vision, text = official("third_party.ViCLIP.viclip_vision"), official("third_party.ViCLIP.viclip_text")

        def narrow_vision(**options: Any) -> Any:
            return vision.VisionTransformer(224, 14, 64, 2, 1, 96, num_frames=options["num_frames"]).eval()

        def narrow_text(**options: Any) -> Any:
            network = text.CLIP_TEXT(96, options["context_length"], options["vocab_size"], 64, 1, 2, 0)
            torch.nn.init.normal_(network.positional_embedding, std=0.1)
            torch.nn.init.normal_(network.text_projection, std=0.1)
            return network.eval()

        patch.setattr(module, "clip_joint_l14", narrow_vision)
        patch.setattr(module, "clip_text_l14", narrow_text)
        start = module.ViCLIP(pretrain=None)
        torch.nn.init.normal_(start.vision_encoder.proj, std=0.1)
        file = save_random("ViClip-InternVid-10M-FLT.pth", start, lambda state: {"model": state})
        return file, module.ViCLIP(pretrain=str(file.path)).eval()


@pytest.mark.parametrize("name", ["overall_consistency", "temporal_style"])
def test_similarity_to_the_prompt_is_the_official_one(
    official, agree, score_case, viclip, vocabulary, clip_path, name, entries
) -> None:
    file, network = viclip
    scorer = PromptConsistency(name, file, vocabulary, "cpu")
    prompts = [entry["prompt_en"] for entry in entries if name in entry["dimension"]]
    for prompt in (prompts[0], max(prompts, key=len)):
        info = {"prompt": prompt, "video_list": [str(clip_path)]}
        expected, _ = getattr(official(name), name)(network, [info], None, "cpu")
        agree(name, clip_path, expected, score_case(scorer, clip_path, prompt), 1e-6)


@pytest.fixture(scope="module")
def umt(official, save_random) -> tuple[Any, Any]:
    """A narrow, shallow UMT in the layout of the published file, and what the official code makes of its name."""
    module = official("third_party.umt.models.modeling_finetune")

    def build(name: str, *, pretrained: bool = False, drop_block_rate: None = None, **options: Any) -> Any:
        norm = partial(torch.nn.LayerNorm, eps=1e-6)
        return module.VisionTransformer(embed_dim=64, depth=2, num_heads=1, qkv_bias=True, norm_layer=norm, **options)

    network = build("", num_classes=400, all_frames=16, tubelet_size=1, use_mean_pooling=True, init_scale=1)

    def confident(state: Any) -> Any:
        """A head whose five best guesses lie on both sides of 85 %."""
        return state | {name: 1.6 * state[name] for name in ("head.weight", "head.bias")}

    return save_random("l16.pth", network, confident), build


@pytest.mark.clips(*SIZES)
def test_human_action_s_verdicts_are_the_official_ones(
    official, agree, score_case, umt, clip_path, tmp_path, monkeypatch
) -> None:
    file, build = umt
    # The modules around the transforms want a helper for printing that numpy no longer has.
    monkeypatch.setitem(sys.modules, "numpy.lib.function_base", types.SimpleNamespace(disp=print))
    module = official("human_action")
    monkeypatch.setattr(module, "create_model", build)
    scorer = human_action.HumanAction(file, "cpu")
    frames = sampling.MiddleFrames(16, probe(clip_path))
    for chunk in read_frames(clip_path, chunk=8):
        frames.update(chunk)
    images = torch.stack([network.preprocess(frame) for frame in frames.take()], dim=1)
    with torch.inference_mode():
        best = scorer._network(images[None])[0].topk(6).indices.tolist()
    names = [human_action.actions()[i] for i in best]
    paths = []
    for name in names:
        paths.append(str(tmp_path / f"A person is {name.replace('/', ' ')}-0.mp4"))
        shutil.copy(clip_path, paths[-1])
    _, results = module.human_action(str(file.path), paths, "cpu")
    expected = [float(result["video_results"]) for result in results]
    for name, verdict in zip(names, expected, strict=True):
        agree("human_action", clip_path, verdict, score_case(scorer, clip_path, f"A person is {name}"), 0.0)
    assert set(expected) == {0.0, 1.0} or "STG_EVAL_PARITY" in os.environ, "the test no longer covers both verdicts"


def test_every_human_action_prompt_names_a_class_that_the_network_knows(entries) -> None:
    prompts = [entry["prompt_en"] for entry in entries if "human_action" in entry["dimension"]]
    assert len(prompts) == 100
    assert len(human_action.actions()) == 400
    assert [p for p in prompts if human_action.action(p) not in human_action.actions()] == []


def test_an_unknown_action_is_named(umt, make_clip) -> None:
    from stg_eval.metrics.decoding import score_clips

    scorer = human_action.HumanAction(umt[0], "cpu")
    (outcome,) = score_clips([(make_clip(3), Case(id="x", prompt="a red bicycle"))], {"it": scorer}, {})
    assert outcome.problems == {
        "it": "human_action knows the 400 actions of Kinetics-400, and 'a red bicycle' is none of them"
    }


def test_byte_pairs_of_all_prompts_are_openai_s(official, vocabulary, entries) -> None:
    tokenize = official("appearance_style").clip.tokenize
    prompts = [entry["prompt_en"] for entry in entries]
    odd = [
        "naïve café ÀÉ 你好 🎉",
        "&amp;amp; foo &lt;b&gt;",
        "it's 12345 don't",
        "İstanbul ½ ﬁne",
        "a\u00a0b\tc\n",
        "",
    ]
    for prompt in prompts + odd:
        for length in (32, 77):
            assert torch.equal(clip.tokens(vocabulary.path, prompt, length), tokenize([prompt], length, True).long())


@given(wanted=st.integers(1, 20), num_frames=st.integers(1, 300))
def test_middle_frames_are_the_official_ones(wanted, num_frames) -> None:
    from stg_eval.metrics.vbench import import_vbench

    expected = import_vbench("vbench.utils").get_frame_indices(wanted, num_frames, sample="middle")
    assert sampling.middle_indices(wanted, num_frames) == [int(i) for i in expected]


def test_auxiliary_info_is_the_package_s(entries) -> None:
    counts: dict[str, int] = {}
    for entry in entries:
        for dimension, info in entry.get("auxiliary_info", {}).items():
            counts[dimension] = counts.get(dimension, 0) + 1
            assert auxiliary(dimension, Case(id="x", prompt=entry["prompt_en"])) == info
    assert counts == {
        "multiple_objects": 82,
        "object_class": 79,
        "color": 85,
        "appearance_style": 90,
        "scene": 86,
        "spatial_relationship": 84,
    }
    with pytest.raises(StgEvalError, match="color is for VBench's own prompts of that dimension"):
        auxiliary("color", Case(id="x", prompt="a mauve bicycle"))
    with pytest.raises(StgEvalError, match="scene is for VBench's own prompts"):
        auxiliary("scene", None)


def test_published_sizes_are_read_off_the_tensors(official, viclip, monkeypatch) -> None:
    """The official networks at full size, without a byte of weights: names and shapes fit, nothing is left over."""
    from stg_eval.metrics.vbench.viclip import ViCLIP

    monkeypatch.setattr(torch, "linspace", partial(torch.linspace, device="cpu"))  # they read rates off it
    with torch.device("meta"):
        whole = torch.nn.ModuleDict(
            {
                "vision_encoder": official("third_party.ViCLIP.viclip_vision").clip_joint_l14(),
                "text_encoder": official("third_party.ViCLIP.viclip_text").clip_text_l14(
                    context_length=32, pretrained=False
                ),
            }
        )
    ours = ViCLIP(whole.state_dict(), "meta")
    assert sum(p.numel() for p in ours.parameters()) + ours.times.numel() == sum(p.numel() for p in whole.parameters())
    assert (len(ours.vision.vision_model.encoder.layers), len(ours.text.text_model.encoder.layers)) == (24, 12)


def test_the_full_suite_scores_all_sixteen_dimensions_each_on_its_official_prompts(entries) -> None:
    from stg_eval import suites
    from stg_eval.metrics import registry

    suite = suites.load("vbench-t2v-full")
    cases = {case.id: case for case, _ in suites.samples(suite, suites.open_dataset(suite))}.values()
    official = {dimension for entry in entries for dimension in entry["dimension"]}
    assert len(official) == 16
    totals = {"vbench_total", "vbench_quality", "vbench_semantic"}
    assert set(suite.metrics) == official | totals
    for name in official:
        expected = sorted(entry["prompt_en"] for entry in entries if name in entry["dimension"])
        assert sorted(case.prompt for case in cases if name in case.tags) == expected
        if name in {d for entry in entries for d in entry.get("auxiliary_info", {})} | {"human_action"}:
            assert registry.card(name).needs_case, name
