"""Tag2Text captions as the original does; a clip's scene is judged as by the official loop."""

from __future__ import annotations

import json
import math
import re
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from stg_eval.metrics.vbench import import_vbench, scene
from stg_eval.metrics.vbench.sampling import middle_indices
from stg_eval.metrics.vbench.tag2text import Tag2Text
from stg_eval.weights import Checkpoint

pytestmark = pytest.mark.filterwarnings("ignore")  # the official loops warn a lot
GOLDEN = Path(__file__).parents[1] / "golden" / "tag2text.json"


def golden() -> dict[str, Any]:
    """Names and shapes of the original's tensors (made narrow and shallow), and its captions of 16 pictures."""
    return json.loads(GOLDEN.read_text())  # type: ignore[no-any-return]


def random_state(shapes: dict[str, list[int]]) -> dict[str, torch.Tensor]:
    """Tensors that anyone can draw again, of a size at which pictures get other tags and captions end."""
    rng, state = np.random.default_rng(0), {}
    for name in sorted(shapes):
        shape = tuple(shapes[name])
        value = rng.normal(size=shape) / math.sqrt(math.prod(shape[1:]) if len(shape) > 1 else 100)
        if ("embeddings" in name and len(shape) > 1) or name == "fc.W":
            value = 0.3 * rng.normal(size=shape)
        if "relative_position_bias" in name or name == "label_embed.weight":
            value = rng.normal(size=shape)
        if len(shape) == 1 and name.endswith("weight"):
            value = value + 1  # of a normalisation
        if name == "fc.b":
            value = value - 4
        if name.endswith("predictions.decoder.bias"):
            value[102] = 8.0
        state[name] = torch.from_numpy(np.asarray(value, np.float32))
    for name in shapes:  # tied, in the file too
        if name.replace("tag_encoder.", "vision_multi.") in shapes:
            state[name] = state[name.replace("tag_encoder.", "vision_multi.")]
    head = "text_decoder.cls.predictions."
    state[f"{head}bias"] = state[f"{head}decoder.bias"]
    state[f"{head}decoder.weight"] = state["text_decoder.bert.embeddings.word_embeddings.weight"]
    return state


def vocabulary() -> list[str]:
    """A vocabulary with half of the tags' words, letters for the others, and the prompt's."""
    tags = import_vbench("vbench.third_party.tag2Text.tag_class").tra_array
    words = sorted({word for tag in tags for word in re.findall(r"[a-z0-9]+|[^a-z0-9 ]", tag.lower())})
    letters = sorted(set("".join(words)))
    special = ["[PAD]", *(f"[unused{i}]" for i in range(99)), "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    spoken = ["a", "picture", "of", *".,'s|", *(f"##{letter}" for letter in letters), *letters, *words[::2]]
    out = list(dict.fromkeys([*special, *spoken]))
    return out + [f"##z{i}" if i % 4 == 0 else f"zz{i}" for i in range(30522 - len(out))]


def pictures() -> torch.Tensor:
    blocks = np.random.default_rng(1).normal(scale=1.5, size=(16, 3, 12, 12))
    return torch.from_numpy(np.kron(blocks, np.ones((1, 1, 32, 32))).astype(np.float32))


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Checkpoint, Checkpoint]:
    folder = tmp_path_factory.mktemp("tag2text")
    torch.save({"model": random_state(golden()["shapes"])}, folder / "tag2text_swin_14m.pth")
    (folder / "vocab.txt").write_text("\n".join(vocabulary()) + "\n", encoding="utf-8")
    return Checkpoint(folder / "tag2text_swin_14m.pth", "0" * 64), Checkpoint(folder / "vocab.txt", "0" * 64)


def test_captions_are_the_original_s_each_of_the_picture_k_over_3(files) -> None:
    """Recorded from vbench 0.1.5's Tag2Text with transformers 4.33.2, every word; frame k shows picture k // 3."""
    recorded = golden()["captions"]
    assert len(recorded) == 16
    network = Tag2Text(torch.load(files[0].path)["model"], files[1].path).eval()
    with torch.inference_mode():
        got = [network.caption(image) for image in pictures()[:6]]
    assert [got[k // 3] for k in range(16)] == recorded
    assert len(set(got)) >= 4
    assert min(map(len, got)) < max(map(len, got)), "some captions end before they must"


def official_scene(official: Any, patch: pytest.MonkeyPatch) -> Any:
    """The official loop; its network needs an old transformers and is left out."""
    patch.setitem(sys.modules, "vbench.third_party.tag2Text.tag2text", types.SimpleNamespace(tag2text_caption=None))
    return official("scene")


@pytest.mark.clips({"num_frames": 2}, {"num_frames": 40, "height": 122, "width": 210})
def test_a_scene_is_judged_as_officially(official, agree, score_case, clip_path, files, monkeypatch) -> None:
    """With a network that captions by the sum of the pixels, and the original's way of mixing frames up."""

    def caption(image: torch.Tensor) -> str:
        return "a park of amusement" if round(1000 * image.mean().item()) % 2 else "a park"

    class Mixing:
        def generate(self, images: torch.Tensor, **_: Any) -> tuple[list[str], None]:
            return [caption(images[k // 3]) for k in range(len(images))], None

    info = {"prompt": "amusement park", "video_list": [str(clip_path)]}
    info["auxiliary_info"] = {"scene": {"scene": "amusement park"}}
    expected, _ = official_scene(official, monkeypatch).scene(Mixing(), [info], "cpu")
    scorer = scene.Scene(*files, "cpu")
    monkeypatch.setattr(scorer._network, "caption", caption)
    agree("scene", clip_path, expected, score_case(scorer, clip_path, "amusement park"), 1e-12)


def test_frames_are_scaled_bit_for_bit_as_by_the_official_decoder(make_clip) -> None:
    decord = pytest.importorskip("decord")
    path = make_clip(num_frames=12, height=122, width=210)
    indices = middle_indices(16, 12)[:6]
    expected = decord.VideoReader(str(path), width=384, height=384, num_threads=1).get_batch(indices).asnumpy()
    got = scene.read_scaled(path, set(indices))
    assert sorted(got) == sorted(set(indices))
    assert all(np.array_equal(got[index], frame) for index, frame in zip(indices, expected, strict=True))
