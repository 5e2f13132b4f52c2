"""A gate as a test: fails when the videos of the code under test are worse than those of the baseline.

    pytest examples/pytest_gate --stg-eval-update-baseline    # once, with the code you trust: writes baseline.zip
    pytest examples/pytest_gate                               # from then on

`stg_eval` is a fixture that comes with the package. Each test makes its clips anew, in a folder of its own.
"""

from pathlib import Path

BASELINE = Path(__file__).with_name("baseline.zip")


def test_the_sampler_is_as_good_as_the_baseline(stg_eval):
    run = stg_eval.run("demo", "tiny", guidance=["cfg"], metrics="temporal_flickering", limit=8)  # 256 tell more
    stg_eval.check(BASELINE, run)
