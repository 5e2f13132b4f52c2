"""GRiT finds and describes what the original does; the four dimensions judge it as the official loops do."""

from __future__ import annotations

import importlib
import json
import math
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from stg_eval.metrics.vbench import grit, objects
from stg_eval.metrics.vbench.grit import captions
from stg_eval.weights import Checkpoint

pytestmark = pytest.mark.filterwarnings("ignore")  # the official loops warn a lot
GOLDEN = Path(__file__).parents[1] / "golden" / "grit.json"
COLORS = objects.COLORS


def golden() -> dict[str, Any]:
    """Names and shapes of the original's tensors (made narrow and shallow), and what it found in images."""
    return json.loads(GOLDEN.read_text())  # type: ignore[no-any-return]


def random_state(shapes: dict[str, list[int]]) -> dict[str, torch.Tensor]:
    """Tensors that anyone can draw again, of a size at which boxes are found and texts end."""
    rng, state = np.random.default_rng(0), {}
    for name in sorted(shapes):
        shape = tuple(shapes[name])
        fan_in = math.prod(shape[1:]) if len(shape) > 1 else 100
        value = rng.normal(size=shape) / math.sqrt(fan_in)
        if "pos" in name or "embedding" in name:
            value = 0.3 * rng.normal(size=shape)
        if (len(shape) == 1 and name.endswith("weight")) or name.endswith("scale"):
            value = value + 1  # of a normalisation
        if "agn_hm" in name or ".bbox_pred.2.weight" in name:
            value = 2 * value
        if name.endswith("agn_hm.bias"):
            value = value + -2.0
        if name.endswith("centernet_head.bbox_pred.bias"):
            value = value + 4
        if "cls_score.bias" in name:
            value = np.array([-1.0, 0.0])
        if name.endswith("output.bias"):
            value[captions.SEPARATOR] = 6
        state[name] = torch.from_numpy(np.asarray(value, np.float32))
    textual = "roi_heads.text_decoder.textual."
    state[f"{textual}output.weight"] = state[f"{textual}embedding.words.weight"]  # tied, in the file too
    return state


def words() -> list[str]:
    """A vocabulary in which every number has a word, among them colours, objects and punctuation."""
    special = ["[PAD]", *(f"[unused{i}]" for i in range(99)), "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    spoken = [*COLORS, ".", ",", "'", "s", "##s", "##ing", "bicycle", "dog", "person"]
    return [
        *special,
        *((f"##w{i}" if i % 3 == 0 else f"w{i}") if i % 2 else spoken[i % len(spoken)] for i in range(296)),
    ]


def picture(number: int, height: int, width: int) -> np.ndarray:
    blocks = np.random.default_rng(number).integers(0, 256, (height // 8 + 1, width // 8 + 1, 3))
    return np.kron(blocks, np.ones((8, 8, 1)))[:height, :width].astype(np.uint8)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Checkpoint, Checkpoint]:
    folder = tmp_path_factory.mktemp("grit")
    torch.save({"model": random_state(golden()["shapes"])}, folder / "grit_b_densecap_objectdet.pth")
    (folder / "vocab.txt").write_text("\n".join(words()) + "\n", encoding="utf-8")
    return Checkpoint(folder / "grit_b_densecap_objectdet.pth", "0" * 64), Checkpoint(folder / "vocab.txt", "0" * 64)


def test_grit_finds_names_and_describes_what_the_original_does(files) -> None:
    """Recorded from vbench 0.1.5's GRiT on detectron2, exactly: boxes in whole pixels and every word."""
    network = grit.load_grit(files[0], files[1].path, "cpu")
    recorded = golden()["images"]
    assert len(recorded) >= 2
    for number, (size, found) in enumerate(recorded.items()):
        height, width = map(int, size.split("x"))
        image = torch.from_numpy(picture(number, height, width)).permute(2, 0, 1).float()
        with torch.inference_mode():
            got = network.detect(image, describe=True)
            named = network.detect(image, describe=False)
        assert [[list(d.box), d.name, d.description] for d in got] == found, size
        assert [(d.box, d.name) for d in named] == [(d.box, d.name) for d in got]
        assert all(d.description == d.name for d in named)
    assert sum(map(len, recorded.values())) > 20


@pytest.fixture
def official_loops(official, monkeypatch) -> Callable[[str], Any]:
    """Official modules of the four dimensions, whose detector (it needs detectron2) is left out."""

    def module(name: str) -> Any:
        monkeypatch.setitem(sys.modules, "vbench.third_party.grit_model", types.SimpleNamespace(DenseCaptioning=None))
        monkeypatch.delitem(sys.modules, f"vbench.{name}", raising=False)
        return official(name)

    return module


class Caption:
    """What the official loops ask of a detector, answered by ours."""

    def __init__(self, detect: Callable[[torch.Tensor], list[grit.Detection]]) -> None:
        self.detect = detect

    def run_caption_tensor(self, frame: np.ndarray) -> tuple[list[tuple[str, list[int], list[str]]], None]:
        found = self.detect(torch.from_numpy(np.asarray(frame)).permute(2, 0, 1).float())
        names = [d.name for d in found]
        return [(d.description, list(d.box), names) for d in found], None


PROMPTS = {
    "object_class": "a bicycle",
    "multiple_objects": "a dog and a horse",
    "color": "a red bicycle",
    "spatial_relationship": "a bicycle on the left of a car, front view",
}


@pytest.mark.parametrize("name", PROMPTS)
@pytest.mark.clips({"num_frames": 2}, {"num_frames": 5, "height": 776, "width": 800, "speed": 5})
def test_a_whole_clip_is_judged_as_officially(
    official_loops, agree, score_case, clip_path, files, monkeypatch, name
) -> None:
    """With a detector that sees what the mean of the pixels it is given says."""

    def see(image: torch.Tensor, describe: bool = False) -> list[grit.Detection]:
        rng = np.random.default_rng(round(10 * image.mean().item()))
        if describe:  # a colour has a value only where the surest object is the one asked for
            return [grit.Detection((0, 0, 9, 9), "bicycle", f"a {rng.choice(['red', 'blue', 'grey'])} bicycle")]
        found = []
        for _ in range(rng.integers(1, 6)):
            thing, (x, y, w, h) = str(rng.choice(["dog", "horse", "bicycle", "car"])), rng.integers(1, 60, 4)
            found.append(grit.Detection((int(x), int(y), int(x + w), int(y + h)), thing, thing))
        return found

    prompt = PROMPTS[name]
    scorer = objects.ObjectScorer(name, objects.JUDGES[name], *files, "cpu")
    monkeypatch.setattr(scorer._network, "detect", see)
    info = objects.auxiliary(name, objects.Case(id="x", prompt=prompt))
    detector = Caption(lambda image: see(image, name == "color"))
    expected, _ = getattr(official_loops(name), name)(
        detector, [{"prompt": prompt, "video_list": [str(clip_path)], "auxiliary_info": info}], "cpu"
    )
    agree(name, clip_path, expected, score_case(scorer, clip_path, prompt), 1e-12)


NAMES = st.sampled_from(["dog", "horse", "bicycle", "red bicycle", ""])
TEXTS = st.sampled_from(["a red bicycle", "a blue dog", "grey", "a bicycle", ""])
BOXES = st.tuples(*[st.integers(0, 40)] * 4).map(lambda b: (b[0], b[1], b[0] + b[2] + 1, b[1] + b[3] + 1))
FRAMES = st.lists(st.lists(st.builds(grit.Detection, BOXES, NAMES, TEXTS), max_size=4), min_size=1, max_size=5)


@given(
    frames=FRAMES,
    relationship=st.sampled_from(["on the left of", "on the right of", "on the top of", "on the bottom of"]),
)
def test_judgements_are_the_official_ones(frames, relationship) -> None:
    with pytest.MonkeyPatch.context() as patch:
        stub = types.SimpleNamespace(DenseCaptioning=None)
        patch.setitem(sys.modules, "vbench.third_party.grit_model", stub)
        theirs = {name: importlib.import_module(f"vbench.{name}") for name in PROMPTS}
    sets = [{d.name for d in frame} for frame in frames]
    one = objects.judge_objects({"object": "dog"}, "", frames)
    assert one == pytest.approx(theirs["object_class"].check_generate("dog", sets) / len(sets))
    both = objects.judge_objects({"object": "dog and horse"}, "", frames)
    assert both == pytest.approx(theirs["multiple_objects"].check_generate("dog and horse", sets) / len(sets))
    info = {"object_a": "dog", "object_b": "horse", "relationship": relationship}
    boxes = [[[d.name, list(d.box)] for d in frame] for frame in frames]
    expected = theirs["spatial_relationship"].check_generate(info, boxes)
    assert objects.judge_relationship({"spatial_relationship": info}, "", frames) == pytest.approx(
        float(np.mean(expected))
    )
    texts = [[[d.description, frame[0].name] for d in frame] or [["", ""]] for frame in frames]
    shown, right = theirs["color"].check_generate("red", "bicycle", texts)
    got = objects.judge_color({"color": "red"}, "a red bicycle", frames)
    assert got == (pytest.approx(right / shown) if shown else pytest.approx(math.nan, nan_ok=True))


def test_every_prompt_of_the_four_dimensions_says_what_to_look_for() -> None:
    from importlib.metadata import files as installed

    path = next(f for f in installed("vbench") or () if f.name == "VBench_full_info.json")
    entries = json.loads(Path(str(path.locate())).read_text())
    frame = [[grit.Detection((0, 0, 1, 1), "nothing", "nothing")]]
    for name in PROMPTS:
        for entry in entries:
            if name in entry["dimension"]:
                objects.JUDGES[name](entry["auxiliary_info"][name], entry["prompt_en"], frame)
