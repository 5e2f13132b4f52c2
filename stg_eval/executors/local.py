"""Generation in this process, one batch after the other."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from stg_eval import generators
from stg_eval.generators import ModelCard
from stg_eval.types import Request, StgEvalError


def generate(
    batches: Iterable[Sequence[Request]], *, card: ModelCard, device: str
) -> Iterator[tuple[Sequence[Request], Sequence[np.ndarray | StgEvalError], float]]:
    """(requests, frames or what went wrong for each, seconds) of each batch, in order.

    The model is loaded when the first batch is asked for, so a run that finds everything in the store loads nothing.
    A batch that does not fit the GPU is halved until it does: seeds belong to requests, so the clips stay the same.
    """
    generator = None
    for batch in batches:
        if generator is None:
            settings = dict(batch[0].settings)
            generator = generators.get(card.name).load(
                device=device, dtype=card.dtype, weights=card.weights, settings=settings
            )
        start = time.perf_counter()
        frames = _halving(generator, batch)
        yield batch, frames, time.perf_counter() - start


def _halving(generator: generators.Generator, batch: Sequence[Request]) -> Sequence[np.ndarray | StgEvalError]:
    import torch

    try:
        return generator.generate(batch)
    except torch.OutOfMemoryError as error:
        if len(batch) == 1:
            raise StgEvalError(
                "one clip does not fit in the GPU's memory; make it smaller with --set height=… width=… num_frames=…"
            ) from error
    torch.cuda.empty_cache()
    middle = len(batch) // 2
    return [*_halving(generator, batch[:middle]), *_halving(generator, batch[middle:])]
