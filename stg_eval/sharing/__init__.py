"""Runs and baselines as data set repositories of the Hugging Face hub: what goes up is listed first, and comes back
equal."""

from stg_eval.sharing.bundle import Bundle, bundle
from stg_eval.sharing.card import model_index
from stg_eval.sharing.hub import pull, push

__all__ = ["Bundle", "bundle", "model_index", "pull", "push"]
