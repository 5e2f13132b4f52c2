"""Scores during training: every so many steps a checkpoint makes clips of a few cases, as many as fit into its seconds,
and the gate says whether it got worse.

A plain loop::

    evaluate = Evaluate(network, model="tiny", suite="demo", every=500, seconds=30, output="runs/training")
    for step, batch in enumerate(batches):
        ...
        optimizer.step()
        if evaluate(step):  # True: worse than the best so far
            break

In one of diffusers' training scripts, where `log_validation` gets a pipeline: `evaluate(global_step, pipeline)`. In
Lightning: `Trainer(callbacks=[evaluate.for_lightning()])`. Every evaluation is a run: `stg-eval show`, `compare` and
`report` read OUTPUT/step-00000500.
"""

from stg_eval.callback.evaluate import Evaluate, Evaluation

__all__ = ["Evaluate", "Evaluation"]
