"""A sweep spells out layers, scales and modes, and takes prediction methods beside them."""

from __future__ import annotations

import pytest

from stg_eval.pipeline.sweep import signatures
from stg_eval.types import Guidance, StgEvalError


def test_a_sweep_goes_over_methods_of_every_kind() -> None:
    modes = ["stg-r:both", "stg-r:unconditional", "tcfg", "apg[norm=0]", 'guider:AdaptiveProjectedGuidance{"eta":0.5}']
    assert signatures(Guidance.parse("cfg3+rescale0.5"), ["3", "5"], ["0.5", "1"], modes) == [
        "cfg3+rescale0.5",
        *(f"cfg3+stg-r[{layer}]s{scale}t{scale}+rescale0.5" for layer in (3, 5) for scale in (0.5, 1)),
        "cfg3+stg-r[3]u+rescale0.5",
        "cfg3+stg-r[5]u+rescale0.5",
        "cfg3+tcfg+rescale0.5",
        "cfg3+apg[norm=0]+rescale0.5",
        'cfg3+guider:AdaptiveProjectedGuidance{"eta":0.5}+rescale0.5',
    ]


@pytest.mark.parametrize(
    ("mode", "message"),
    [
        ("stg-b:both", "cannot read mode 'stg-b:both'"),
        ("[", "cannot read mode '\\['"),
        ("=", "cannot read mode '='"),
        ("stg-a:all", "which: joint"),
        ("apg[zeta=1]", "no parameter"),
    ],
)
def test_a_mode_that_there_is_not_is_named(mode: str, message: str) -> None:
    with pytest.raises(StgEvalError, match=message):
        signatures(Guidance.parse("cfg3"), ["3"], ["1"], [mode])
