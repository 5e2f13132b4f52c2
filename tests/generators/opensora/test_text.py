"""Text preparation against the original, and texts that are too long."""

from __future__ import annotations

import logging

import torch

from stg_eval.generators.opensora import text

NAMES = {"aes": "aesthetic_score", "flow": "motion_score", "camera_motion": "camera_motion"}


def test_prompts_with_scores_and_cleaned_equal_the_original_exactly(golden):
    data = golden("text_preprocessing.json")
    for entry in data["prompts"]:
        for key, scores in data["kwargs"].items():
            appended = text.with_scores(entry["prompt"], **{NAMES[name]: value for name, value in scores.items()})
            assert appended == entry[key]["appended"]
            assert text.clean(appended) == entry[key]["cleaned"]
    for entry in data["cleaning_twice"]:
        assert text.clean(entry["text"]) == entry["clean_twice"]


def test_scores_that_the_prompt_names_already_are_not_appended_again(golden):
    entry = golden("text_preprocessing.json")["already_scored"]
    assert text.with_scores(entry["prompt"], 6.5, 5.0) == entry["appended"]


def test_a_text_longer_than_the_model_reads_is_cut_and_said_so_once(small_pipe, caplog):
    long, short = "a cat and " * 60, "a cat"
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            features, mask = small_pipe.encode_prompt([long, short])
    assert features.shape == (2, 300, 32)
    assert mask.sum(1).tolist() == [300, len("a cat aesthetic score: 6.5.") + 1]
    (message,) = [record.getMessage() for record in caplog.records if "cut" in record.getMessage()]
    assert "cut to the model's 300: a cat and" in message


def test_padding_does_not_reach_the_features_of_real_tokens(small_pipe):
    alone, mask = small_pipe.encode_prompt("a cat")
    beside, _ = small_pipe.encode_prompt(["a cat", "a much longer prompt about two dogs"])
    torch.testing.assert_close(alone[0, mask[0].bool()], beside[0, mask[0].bool()])


def test_scores_change_what_is_encoded(small_pipe):
    plain, _ = small_pipe.encode_prompt("a cat", aesthetic_score=None)
    scored, _ = small_pipe.encode_prompt("a cat")
    assert not torch.equal(plain, scored)
