"""Opens a diffusers pipeline and puts it on its device; every failure becomes one line of advice."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

from stg_eval.generators.model import torch_dtype
from stg_eval.generators.random_weights import is_random, seeded
from stg_eval.generators.speed import SPEED_SETTINGS
from stg_eval.types import JSONValue, StgEvalError

MEMORY_SETTINGS: dict[str, JSONValue] = {"offload": "none", "vae_tiling": False, **SPEED_SETTINGS}
"""Settings of diffusers models: offload "none", "model" (whole networks wait on the CPU), "group" (blocks of a network
do, each brought in for itself) or "sequential" (every layer does: least memory, slowest); vae_tiling, where the VAE
can, decodes in overlapping tiles, which changes pixels slightly. (Slicing a VAE's batch would do nothing: clips are
decoded one at a time.)"""
OFFLOADS = ("none", "model", "group", "sequential")


def open_pipeline(
    kind: str,
    small: Callable[[], Any] | None,
    *,
    dtype: str,
    weights: str,
    variants: Mapping[str, str] = MappingProxyType({}),
    float32: Sequence[str] = (),
) -> Any:
    """Return the diffusers pipeline `kind` on the CPU in `dtype`: from a hub id with or without @revision, a local
    folder, or what `small` builds for "random-weights(seed=N)".

    variants and float32: see `stg_eval.generators.diffusers_video.DiffusersModel`.
    """
    import diffusers
    import torch

    default = torch_dtype(dtype)
    if small is not None and is_random(weights):
        pipeline = seeded(weights, small)
        return pipeline if dtype == "float32" else pipeline.to(default)  # which warns, whatever it is asked for
    local = Path(weights).expanduser().is_dir()
    name, _, revision = (str(Path(weights).expanduser()), "", "") if local else weights.partition("@")
    problem: Exception | None = None
    for variant in dict.fromkeys((variants.get(dtype), None)):
        try:
            return getattr(diffusers, kind).from_pretrained(
                name,
                revision=revision or None,
                variant=variant,
                dtype={"default": default, **dict.fromkeys(float32, torch.float32)},
            )
        except (OSError, ValueError, RuntimeError) as error:  # hub and file errors of huggingface_hub are OSErrors
            if isinstance(error, torch.OutOfMemoryError):
                raise
            if problem is None or "no such modeling files" in str(problem):  # of that variant, which is no reason yet
                problem = error
    assert problem is not None
    raise StgEvalError(_advice(name, kind, local, problem)) from problem


def pinned(weights: str) -> str:
    """Say what `auto[<weights>]` loads: a file whose SHA-256 begins as its name says, else a hub id or random weights.

    Raises StgEvalError for a file that is not there or has another digest.
    """
    name, _, digest = weights.partition("@")
    path = Path(name).expanduser()
    if is_random(weights) or (not path.suffix and not path.exists()):
        return weights
    if not path.is_file():
        raise StgEvalError(f"auto[{weights}]: there is no file {name}")
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if not found.startswith(digest):
        raise StgEvalError(f"{name} has the SHA-256 {found[:16]}..., not {digest}; write auto[{name}@{found[:12]}]")
    return name


def place(pipeline: Any, device: str, settings: Mapping[str, JSONValue]) -> None:
    """Put a pipeline on its device as MEMORY_SETTINGS say."""
    import torch

    if device.startswith("cuda") and not torch.cuda.is_available():
        raise StgEvalError("this machine has no CUDA device; leave out --device or give --device cpu")
    offload = settings.get("offload", "none")
    if offload not in OFFLOADS:
        raise StgEvalError(f"offload is {', '.join(OFFLOADS[:-1])} or {OFFLOADS[-1]}, not {offload!r}")
    if offload != "none" and device == "cpu":
        raise StgEvalError(f"offload={offload} moves networks between CPU and GPU; leave it out on the CPU")
    if offload == "model":
        pipeline.enable_model_cpu_offload(device=device)
    elif offload == "sequential":
        pipeline.enable_sequential_cpu_offload(device=device)
    elif offload == "group":
        # Nothing is brought in ahead: weak passes call blocks in another order than the strong one. A VAE stays, since
        # what decodes is not the call that would bring it in.
        stay = [name for name in pipeline.components if "vae" in name]
        pipeline.enable_group_offload(
            torch.device(device), offload_type="block_level", num_blocks_per_group=1, exclude_modules=stay
        )
    else:
        pipeline.to(device)
    if settings.get("vae_tiling"):
        try:
            pipeline.vae.enable_tiling()
        except (AttributeError, NotImplementedError) as error:
            raise StgEvalError(f"{type(pipeline.vae).__name__} cannot decode in tiles; leave out vae_tiling") from error


@contextmanager
def enough_memory(
    what: str, device: str, settings: Mapping[str, JSONValue], smaller: str = "a smaller size or fewer frames"
) -> Iterator[None]:
    """Turn a failed allocation, on a GPU or the CPU, into one line of advice.

    settings: the model's, with the values that did not suffice; only those that are there and have more to give are
    advised."""
    import torch

    try:
        yield
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        message = str(error)
        if not isinstance(error, torch.OutOfMemoryError | MemoryError) and "allocate memory" not in message:
            raise
        advice = []
        if device != "cpu" and settings.get("offload") in ("none", "model"):
            both = settings["offload"] == "none"
            advice.append("--set offload=model (or sequential)" if both else "--set offload=sequential")
        if settings.get("vae_tiling") is False:
            advice.append("--set vae_tiling=true")
        advice.append(smaller)
        raise StgEvalError(f"too little memory for {what}: try {', '.join(advice)}") from error


def _advice(name: str, kind: str, local: bool, problem: Exception) -> str:
    if local:
        return (
            f"{name} holds no {kind} that diffusers can open ({_first_line(problem)}); give the folder of a whole one"
        )
    chain: list[BaseException] = []
    error: BaseException | None = problem
    while error is not None and error not in chain:
        chain.append(error)
        error = error.__cause__ or error.__context__
    names = {type(e).__name__ for e in chain}
    text = " ".join(str(e) for e in chain)
    if "GatedRepoError" in names or "gated repo" in text:
        return f"{name} is gated: accept its licence at https://huggingface.co/{name}, then run: hf auth login"
    if "RevisionNotFoundError" in names:
        return f"{name} has no such revision; give one listed at https://huggingface.co/{name}/commits/main"
    if "RepositoryNotFoundError" in names:
        return f"no model {name!r} on the hub, nor a folder of that name; check --set weights="
    return (
        f"{name} is not on this machine and could not be fetched ({_first_line(problem)}); connect once, or copy the "
        f"checkpoint here and give its folder: --set weights=FOLDER"
    )


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
