"""Options of `stg_eval.options` as parameters of a command."""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from stg_eval.options import Option, options_of

ON_THE_LINE: dict[Any, Any] = {os.PathLike: Path, list[os.PathLike]: list[Path]}


def takes(verb: Any) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command, which takes `**given`, the options of a verb: it is called with all of them. Parameters of its
    own stay."""

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        known = options_of(verb)
        signature = inspect.signature(command, eval_str=True)
        own = [p.replace(kind=p.KEYWORD_ONLY) for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD]
        parameters = [*(_parameter(name, one.option, one.required) for name, one in known.items()), *own]

        @functools.wraps(command)
        def call(**given: Any) -> None:
            command(**{name: () if value is None and name in lists else value for name, value in given.items()})

        lists = {name for name, one in known.items() if one.option.default == ()}
        call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        call.__annotations__ = {p.name: p.annotation for p in parameters}
        return call

    return decorate


def _parameter(name: str, option: Option, required: bool) -> inspect.Parameter:
    hint = ON_THE_LINE.get(option.cli, option.cli)
    extra: dict[str, Any] = {"help": option.help, "min": option.at_least, "envvar": option.envvar}
    flag = f"--{name.replace('_', '-')}" if option.flag is None else option.flag
    info = typer.Option(flag, **extra) if flag else typer.Argument(**extra)
    default = option.default
    if required:
        default = inspect.Parameter.empty
    elif default == () or default is None:
        default, hint = None, hint | None
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[hint, info])
