"""What raters are asked: the five aspects of the paper's human study (Appendix A2), each from 1 to 5."""

from __future__ import annotations

from typing import Literal, NamedTuple

Mode = Literal["single", "pair"]
"""One clip a time on a scale from 1 to 5, or two in step with the choice left, equal, right."""

CHOICES = ("left", "equal", "right")
SCALE = (1, 2, 3, 4, 5)


class Aspect(NamedTuple):
    """One question."""

    name: str
    """Name in files, e.g. "video_quality"."""
    title: str
    question: str
    low: str
    """What 1 means."""
    high: str
    """What 5 means."""


ASPECTS = (
    Aspect("video_quality", "Video quality", "How sharp and clean are the pictures?", "blurred, noisy", "sharp, clean"),
    Aspect("text_alignment", "Fits the text", "Does the clip show what the text says?", "not at all", "all of it"),
    Aspect("motion_quality", "Motion", "Is the motion natural and is there enough of it?", "frozen or odd", "natural"),
    Aspect(
        "temporal_consistency", "Consistency over time", "Do things stay what they are?", "flickers, melts", "stable"
    ),
    Aspect("likeness", "Liking", "How much do you like the clip as a whole?", "not at all", "very much"),
)
NAMES = tuple(aspect.name for aspect in ASPECTS)
"""Names of all aspects, in the order of the page."""
