"""stg-eval: paired, honest, fast evaluation of guidance in video diffusion.

The verbs of the command line are functions, with the same options as keywords::

    import stg_eval

    finished = stg_eval.run(suite="demo", model="tiny", guidance=["cfg", "cfg2+stg-a[4]s0.5t0.5"], limit=96)
    print(finished.table)
    print(finished.results[0].scores)

Guidance for a pipeline of one's own: `stg_eval.generators.guidance.guided`. Metrics for a loop of one's own:
`stg_eval.metrics`. `import stg_eval` itself loads nothing heavy: a verb does when it is first asked for.
"""

from typing import TYPE_CHECKING, Any

from stg_eval.types import Case, Guidance, Request, StgEvalError
from stg_eval.version import __version__

if TYPE_CHECKING:
    from stg_eval.api import (
        Finished,
        compare,
        export,
        first_frames,
        import_results,
        load,
        report,
        reproduce,
        run,
        score,
        sweep,
        track,
        views,
    )

__all__ = [
    "Case",
    "Finished",
    "Guidance",
    "Request",
    "StgEvalError",
    "__version__",
    "compare",
    "export",
    "first_frames",
    "import_results",
    "load",
    "report",
    "reproduce",
    "run",
    "score",
    "sweep",
    "track",
    "views",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from stg_eval import api

    return getattr(api, name)
