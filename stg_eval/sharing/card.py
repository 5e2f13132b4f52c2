"""What a repository says of a run: the data set's README.md, and `model-index` for the card of the model."""

from __future__ import annotations

import math

from stg_eval.reports import markdown
from stg_eval.storage.results import Results


def model_index(results: Results, name: str = "") -> str:
    """Return YAML for the head of a model card: each finite score as one of huggingface_hub's EvalResults.

    The data set of a result is the suite, its configuration the guidance: the hub groups results by these. Values are
    unscaled; interval, n and signature are metric arguments. name: the model's; the run's by default.
    """
    from huggingface_hub import EvalResult, ModelCardData

    run, columns = results.run, {column.name: column for column in results.columns}
    found = [
        EvalResult(
            task_type="text-to-video",
            dataset_type=run.suite,
            dataset_name=run.title,
            dataset_config=run.variant(one.variant).signature,
            metric_type=one.metric,
            metric_name=columns[one.metric].title,
            metric_value=one.value,
            metric_args={
                "signature": columns[one.metric].signature,
                "n": one.n,
                **{key: value for key, value in (("low", one.low), ("high", one.high)) if math.isfinite(value)},
            },
        )
        for one in results.estimates
        if math.isfinite(one.value)
    ]
    return ModelCardData(model_name=name or run.model_title or run.model, eval_results=found).to_yaml()


def readme(title: str, body: str) -> str:
    """Return README.md of a data set repository."""
    from huggingface_hub import DatasetCardData

    head = DatasetCardData(pretty_name=title, tags=["stg-eval", "video-generation", "evaluation"]).to_yaml()
    return f"---\n{head}\n---\n\n# {title}\n\n{body}\n"


def run_readme(results: Results) -> str:
    """Return README.md of a run: its tables, and how to get it back."""
    title = f"{results.run.title}: {results.run.model_title or results.run.model}"
    how = "Get it with `stg-eval hub pull REPO FOLDER`; then `stg-eval show FOLDER`, `report` and `compare` read it."
    return readme(title, f"A run of stg-eval {results.run.provenance.stg_eval}. {how}\n\n{markdown(results)}")
