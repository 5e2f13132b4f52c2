"""A prompt is encoded once, and its clips are those of a text encoder that runs for each."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from stg_eval import generators
from stg_eval.generators import prompts
from stg_eval.types import Case, Guidance, Request

RANDOM = "random-weights(seed=0)"


def request(name: str, guidance: str, prompt: str, seed: int) -> Request:
    card = generators.card(name)
    return Request(
        model=name,
        weights=RANDOM,
        guidance=Guidance.parse(guidance),
        case=Case(id="x", prompt=prompt),
        seed=seed,
        height=32,
        width=32,
        num_frames=9,
        fps=card.fps,
        num_inference_steps=generators.get(name).min_steps,
        dtype="float32",
        encoding=card.encoding,
        settings=tuple(sorted(card.settings.items())),
    )


def load(name: str) -> Any:
    settings = generators.card(name).settings
    return generators.get(name).load(device="cpu", dtype="float32", weights=RANDOM, settings=settings)


def runs_of(network: torch.nn.Module) -> list[int]:
    seen: list[int] = []
    network.register_forward_hook(lambda *_: seen.append(1))
    return seen


def test_five_seeds_and_two_guidances_of_a_prompt_take_one_encoding() -> None:
    name = "wan"
    generator = load(name)
    seen = runs_of(generator.pipeline.text_encoder)
    asked = [
        request(name, guidance, prompt, seed)
        for guidance in ("cfg3", "cfg3+stg-a[2]w1")
        for prompt in ("a red ball", "a blue ball", "rain")
        for seed in range(5)
    ]
    generator.generate(asked)
    assert len(seen) == 2 * 3  # of three prompts, each with the negative prompt beside it


@pytest.mark.parametrize("name", ["ltx", "wan"])
def test_clips_are_those_of_a_text_encoder_that_runs_for_each(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = [request(name, guidance, "a red ball", seed) for guidance in ("cfg3", "cfg3+stg-a[2]w1") for seed in (0, 1)]
    once = load(name).generate(asked)
    with monkeypatch.context() as patch:
        patch.setattr(prompts, "encode_once", lambda _: None)
        each = load(name).generate(asked)
    np.testing.assert_array_equal(np.stack(once), np.stack(each))


def test_the_longest_unused_features_go_first(monkeypatch: pytest.MonkeyPatch) -> None:
    class Pipeline:
        def __init__(self) -> None:
            self.asked: list[str] = []

        def encode_prompt(self, prompt: str) -> torch.Tensor:
            self.asked.append(prompt)
            return torch.zeros(100)

    monkeypatch.setattr(prompts, "KEPT", 1000)
    pipeline: Any = Pipeline()
    prompts.encode_once(pipeline)
    for prompt in ("a", "b", "a", "c", "a", "b"):  # two have room
        pipeline.encode_prompt(prompt).add_(1)  # what a caller does to them stays with him
    assert pipeline.asked == ["a", "b", "c", "b"]
    assert float(pipeline.encode_prompt("b").sum()) == 0
