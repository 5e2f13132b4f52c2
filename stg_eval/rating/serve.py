"""Serve a study until it is stopped, and say where."""

from __future__ import annotations

import socket
from pathlib import Path

from stg_eval.rating.study import Study
from stg_eval.types import StgEvalError


def invitations(study: Study, host: str, port: int) -> list[str]:
    """Return one line a rater: pseudonym, link, how far they are. The token stands behind the # of the link, where no
    server log sees it."""
    lines = []
    for rater in study.raters():
        done, total = study.progress(rater)
        lines.append(f"{rater.name}\thttp://{_shown(host)}:{port}/#t={rater.token}\t{done} of {total}")
    return lines


def free_port(host: str, port: int) -> socket.socket:
    """Return a socket bound to host and port (0: any free one). Raises StgEvalError where the address is taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((host, port))
    except (OSError, OverflowError) as error:
        bound.close()
        raise StgEvalError(f"cannot serve at {host} port {port} ({error}); choose another --host or --port") from error
    return bound


def serve(study: Study, store: Path, bound: socket.socket) -> None:
    """Answer raters on a bound socket until Ctrl-C. Raises StgEvalError where a clip is gone."""
    import uvicorn

    from stg_eval.rating.server import application

    config = uvicorn.Config(
        application(study, store), log_level="warning", access_log=False, server_header=False, limit_concurrency=64
    )
    uvicorn.Server(config).run(sockets=[bound])


def _shown(host: str) -> str:
    """Return the address to put into an invitation: of this machine in its network, where every address is served."""
    if host not in ("0.0.0.0", "::"):
        return f"[{host}]" if ":" in host else host
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # documentation address: nothing is sent, the kernel names the way out
            return str(probe.getsockname()[0])
        except OSError:
            return "127.0.0.1"
