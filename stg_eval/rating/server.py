"""The rating page and its interface: FastAPI over one study.

A rater's token travels in the fragment of the invitation's URL, so no log and no referrer holds it, and from there in
the header `Authorization: Bearer`, which no foreign page can send: writes need no other protection against forgery.
"""

import time
from collections import defaultdict
from collections.abc import Awaitable, Callable
from importlib.resources import files
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Header, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from stg_eval.rating.aspects import ASPECTS, CHOICES, NAMES, SCALE
from stg_eval.rating.media import EXAMPLES, padded, padded_size, path_of
from stg_eval.rating.study import AlreadyAnswered, Rater, Study, Trial
from stg_eval.types import StgEvalError

MAX_BODY = 4096
"""Bytes of a request's body; an answer has about 200."""
REQUESTS, PER_SECONDS = 300, 10.0
"""So many requests from one address in so many seconds; a rater needs about five a clip."""
PATIENCE = 0.95
"""Share of a clip's length that must have passed since it was sent."""
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "media-src blob:; img-src 'self' data:; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
PAGE = {
    "": ("index.html", "text/html"),
    "rate.js": ("rate.js", "text/javascript"),
    "rate.css": ("rate.css", "text/css"),
}


class Answer(BaseModel):
    """What the page sends: a rating or a choice for every aspect of one trial."""

    model_config = ConfigDict(extra="forbid", strict=True)
    trial: Annotated[str, Field(max_length=64)]
    answer: Annotated[dict[str, int | str], Field(max_length=len(NAMES))]


def application(study: Study, store: Path) -> FastAPI:
    """Return the web application of a study; `store` is where the run's clips lie.

    Raises StgEvalError for a clip that is not there.
    """
    clips = study.clips()
    paths = {id_: path_of(clip, store, study.path.parent) for id_, clip in clips.items()}
    examples = {name: study.path.parent / "examples" / f"{name}.mp4" for name in EXAMPLES}
    gone = next((path for path in [*paths.values(), *examples.values()] if not path.is_file()), None)
    if gone:
        raise StgEvalError(f"{gone} is gone; run the same `stg-eval run` again, then go on")
    size = padded_size([path.stat().st_size for path in [*paths.values(), *examples.values()]])
    shown: dict[str, float] = {}  # trial -> when its clips were first sent, on this process's clock
    app = FastAPI(title="stg-eval rate", docs_url=None, redoc_url=None, openapi_url="/openapi.json")
    app.middleware("http")(_guard(defaultdict(list)))
    # without the input that FastAPI would send back: it may hold what JSON cannot say, such as NaN
    app.exception_handler(RequestValidationError)(lambda *_: JSONResponse({"detail": "not an answer"}, 422))

    def rater(authorization: Annotated[str, Header()] = "") -> Rater:
        scheme, _, token = authorization.partition(" ")
        found = study.rater(token) if scheme == "Bearer" and token else None
        if found is None:
            raise HTTPException(401, "this invitation is not valid; open the whole link that you were sent")
        return found

    Known = Annotated[Rater, Depends(rater)]

    def own(trial: str, who: Rater) -> Trial:
        found = study.trial(trial, who)
        if found is None:
            raise HTTPException(404, "no such clip")
        return found

    def state(who: Rater) -> dict[str, Any]:
        done, total = study.progress(who)
        trial = study.next_trial(who)
        out: dict[str, Any] = {"done": done, "total": total, "mode": study.mode, "trial": None}
        if trial:
            first = clips[trial.clips[0]]
            out["trial"] = {
                "id": trial.id,
                "prompt": first.prompt or first.case,
                "clips": len(trial.clips),
                "width": first.width,
                "height": first.height,
            }
        return out

    @app.get("/api/instructions")
    def instructions(who: Known) -> dict[str, Any]:
        """Say what is asked, and the examples."""
        return {
            "mode": study.mode,
            "aspects": [aspect._asdict() for aspect in ASPECTS],
            "examples": [{"name": name, "caption": caption} for name, (caption, _) in EXAMPLES.items()],
        }

    @app.get("/api/next")
    def next_trial(who: Known) -> dict[str, Any]:
        """Say how far the rater is, and the first trial without an answer."""
        return state(who)

    @app.get("/api/examples/{name}")
    def example(name: str, who: Known) -> Response:
        """Return a clip of the instructions."""
        if name not in examples:
            raise HTTPException(404, "no such example")
        return Response(padded(examples[name].read_bytes(), size), media_type="video/mp4")

    @app.get("/api/clips/{trial}/{side}")
    def clip(trial: str, side: int, who: Known) -> Response:
        """Return a clip of the rater's trial: side 0, or 1 for the right one of a pair."""
        found = own(trial, who)
        if not 0 <= side < len(found.clips):
            raise HTTPException(404, "no such clip")
        data = padded(paths[found.clips[side]].read_bytes(), size)
        shown.setdefault(trial, time.monotonic())
        return Response(data, media_type="video/mp4")

    @app.post("/api/answers")
    def answer(given: Answer, who: Known) -> dict[str, Any]:
        """Keep an answer; it is on the disk when this returns. The same answer again is acknowledged again."""
        trial = own(given.trial, who)
        allowed: tuple[int | str, ...] = SCALE if study.mode == "single" else CHOICES
        if set(given.answer) != set(NAMES) or any(value not in allowed for value in given.answer.values()):
            raise HTTPException(422, f"give each of {', '.join(NAMES)} one of {', '.join(map(str, allowed))}")
        seconds = time.monotonic() - shown.get(trial.id, time.monotonic())
        if study.stored(trial) is None and seconds < max(clips[id_].seconds for id_ in trial.clips) * PATIENCE:
            raise HTTPException(425, "watch the clip to its end first")
        try:
            study.answer(trial, given.answer, round(seconds, 2))
        except AlreadyAnswered as error:
            raise HTTPException(409, str(error)) from None
        return state(who)

    @app.get("/{name}")
    def page(name: str) -> Response:
        """Return the page, the same for everyone."""
        if name not in PAGE:
            raise HTTPException(404, "not here")
        file, kind = PAGE[name]
        return Response((files("stg_eval.rating") / "page" / file).read_bytes(), media_type=kind)

    app.get("/", include_in_schema=False)(lambda: page(""))
    return app


def _guard(seen: dict[str, list[float]]) -> Callable[[Request, Callable[[Request], Awaitable[Response]]], Any]:
    """Refuse foreign host names (DNS rebinding), large bodies and floods; add the headers."""

    async def guard(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        response = _refusal(request, seen) or await call_next(request)
        response.headers.update(HEADERS)
        return response

    return guard


def _refusal(request: Request, seen: dict[str, list[float]]) -> Response | None:
    if not _is_address(request.url.hostname or ""):
        return Response("open the page by the address in your invitation", 421)
    if request.method not in ("GET", "HEAD"):
        length = request.headers.get("content-length", "")
        if not length.isdecimal():  # a body of unknown length is not read at all
            return Response("a body needs its length", 411)
        if int(length) > MAX_BODY:
            return Response("too large", 413)
    now, address = time.monotonic(), request.client.host if request.client else ""
    seen[address] = [at for at in seen[address] if at > now - PER_SECONDS]
    if len(seen[address]) >= REQUESTS:
        return Response("slow down", 429, headers={"Retry-After": str(round(PER_SECONDS))})
    seen[address].append(now)
    return None


def _is_address(host: str) -> bool:
    """A page on another host's name that was made to point here has that name in its requests."""
    try:
        ip_address(host)
    except ValueError:
        return host == "localhost"
    return True
