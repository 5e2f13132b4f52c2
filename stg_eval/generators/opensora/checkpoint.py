"""Reading Open-Sora checkpoints: one folder or hub repository with config.json and safetensors, complete or refused."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stg_eval.types import StgEvalError

if TYPE_CHECKING:
    import torch

CONFIG = "config.json"
WEIGHTS = ("model.safetensors", "diffusion_pytorch_model.safetensors")
"""File names: as published on the hub; as diffusers' `save_pretrained` writes."""


def fetch(source: str | Path, patterns: tuple[str, ...]) -> Path:
    """Return a local folder as it is; `owner/name[@revision]` downloaded from the hub (or found in its cache when
    offline).

    Raises StgEvalError when it is neither.
    """
    if (local := Path(source).expanduser()).is_dir():
        return local
    repo, _, revision = str(source).partition("@")
    if repo.startswith((".", "/", "~")) or repo.count("/") != 1:
        raise StgEvalError(f"no folder {source}; give an existing folder or a hub id such as owner/name@revision")
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(repo, revision=revision or None, allow_patterns=list(patterns)))
    except (OSError, ValueError) as error:  # hub, network, offline and validation errors derive from these
        reason = " ".join(str(error).split())
        raise StgEvalError(
            f"cannot get {source} from the hub; connect once, or give a folder ({reason:.200})"
        ) from error


def load_checkpoint(cls: Any, source: str | Path, *, model_type: str, torch_dtype: torch.dtype) -> Any:
    """Build `cls` from config.json and fill every tensor from the safetensors files, cast to `torch_dtype`.

    Config entries that are not arguments of `cls` (training switches, attention kernels) do not shape the model and
    are passed over. Raises StgEvalError for another kind of model, and for missing, unknown or misshapen tensors.
    """
    import torch

    folder = fetch(source, (CONFIG, "*.safetensors", "*.safetensors.index.json"))
    config = read_config(folder, (model_type, cls.__name__))
    accepted = inspect.signature(cls.__init__).parameters
    with torch.device("meta"):
        model = cls(**{name: value for name, value in config.items() if name in accepted})
    expected = model.state_dict()
    state = read_weights(folder, torch_dtype)
    problems = [f"{name} is missing" for name in expected if name not in state]
    problems += [f"{name} is unknown" for name in state if name not in expected]
    problems += [
        f"{name} is {list(state[name].shape)}, not {list(tensor.shape)}"
        for name, tensor in expected.items()
        if name in state and state[name].shape != tensor.shape
    ]
    if problems:
        raise StgEvalError(
            f"{folder} does not hold a complete {model_type}: {'; '.join(problems[:3])}"
            f"{f' and {len(problems) - 3} more' if len(problems) > 3 else ''}; download it again"
        )
    model.load_state_dict(state, assign=True)
    return model.requires_grad_(False).eval()


def read_config(folder: Path, kinds: tuple[str, ...]) -> dict[str, Any]:
    """Return config.json of a folder: `kinds` are the model's name on the hub and its class here, which diffusers
    writes.

    Raises StgEvalError where it is missing, broken or of another kind of model.
    """
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        found = config.get("model_type") or config.get("_class_name")
    except FileNotFoundError:
        raise StgEvalError(f"{folder} is not an Open-Sora folder: it has no {CONFIG}") from None
    except (OSError, ValueError, AttributeError, RecursionError):
        raise StgEvalError(f"{folder / CONFIG} is not readable JSON; download it again") from None
    if found not in kinds:
        raise StgEvalError(f"{folder} is not an Open-Sora 1.2 {kinds[0]}: its {CONFIG} says {found!r}")
    return dict(config)


def read_weights(folder: Path, torch_dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """Return all tensors of a folder, from one safetensors file or from the shards that its index names.

    Raises StgEvalError where there is no file, a shard is missing or one is damaged.
    """
    from safetensors import SafetensorError, safe_open

    state: dict[str, torch.Tensor] = {}
    for path in _weight_files(folder):
        try:
            with safe_open(path, framework="pt") as file:
                # One tensor at a time: a float32 file of 4.8 GB then costs 2.4 GB of bfloat16, not both.
                state.update({name: file.get_tensor(name).to(torch_dtype) for name in file.keys()})  # noqa: SIM118
        except (SafetensorError, OSError) as error:
            raise StgEvalError(f"{path} is damaged or cut short; download it again ({error})") from error
    return state


def _weight_files(folder: Path) -> list[Path]:
    for name in WEIGHTS:
        if (folder / name).is_file():
            return [folder / name]
        index = folder / f"{name}.index.json"
        if index.is_file():
            try:
                shards = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
            except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
                raise StgEvalError(f"{index} is no readable index of shards; download it again") from None
            if missing := [shard for shard in shards if not (folder / shard).is_file()]:
                raise StgEvalError(f"{folder} lacks {', '.join(missing)} named in {index.name}; download it again")
            return [folder / shard for shard in shards]
    raise StgEvalError(f"{folder} has no {WEIGHTS[0]}; download it again")
