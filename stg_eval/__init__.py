"""stg-eval: paired, honest, fast evaluation of guidance in video diffusion.

The command line is the front door; programs go in by the same verbs::

    from pathlib import Path
    from stg_eval import suites, api

    plan = api.plan(suites.load("demo"), "tiny", guidance=["cfg", "cfg2+stg-a[4]s0.5t0.5"], limit=96)
    finished = api.run(plan, Path("store"), Path("runs/mine"), executor="local", device="auto")
    print(finished.table)

Guidance for a pipeline of one's own: `stg_eval.generators.guidance.guided`. Metrics for a loop of one's own:
`stg_eval.metrics`. A finished run: `stg_eval.storage.results.load`. A gate: `stg_eval.gate.gate`.
"""

from stg_eval.types import Case, Guidance, Request, StgEvalError

__all__ = ["Case", "Guidance", "Request", "StgEvalError", "__version__"]
__version__ = "0.1.0"
