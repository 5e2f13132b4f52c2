"""Peak memory of every model at its published size, found without weights and without a GPU.

    python benchmarks/peak_memory.py                       write stg_eval/generators/peak_memory.json, all models
    python benchmarks/peak_memory.py --only mochi,wan      these models' rows of it
    python benchmarks/peak_memory.py --published           published figures beside predicted ones, as Markdown

The networks have the published sizes and tensors without data (FakeTensorMode). A real pipeline runs one clip of real
latents around them; whatever a network makes is counted while it lives, as torch.cuda.max_memory_allocated counts it.
Two lengths of the clip give a line in the number of frames, the table's two numbers for each part. What is not seen:
workspaces of convolutions and matrix products, temporaries inside one kernel, and what the allocator reserves on top.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import sys
import time
import weakref
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any
from unittest.mock import patch

import diffusers
import numpy as np
import torch
from PIL import Image
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode, unset_fake_temporarily
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from stg_eval import generators
from stg_eval.generators import peak_memory
from stg_eval.generators.diffusers_video import DiffusersModel, PipelineGenerator
from stg_eval.generators.model import torch_dtype
from stg_eval.types import Case, Request

T5_XXL = {
    "vocab_size": 32128,
    "d_model": 4096,
    "d_kv": 64,
    "d_ff": 10240,
    "num_layers": 24,
    "num_heads": 64,
    "feed_forward_proj": "gated-gelu",
}
T5 = {"T5Config": T5_XXL}
WAN = {"AutoencoderKLWan": {}, "UMT5Config": {**T5_XXL, "vocab_size": 256384}}
WAN_14B: dict[str, Any] = {"num_attention_heads": 40, "ffn_dim": 13824, "num_layers": 40}
LTX_095: dict[str, Any] = {
    "block_out_channels": (128, 256, 512, 1024, 2048),
    "down_block_types": ("LTXVideo095DownBlock3D",) * 4,
    "decoder_block_out_channels": (256, 512, 1024),
    "layers_per_block": (4, 6, 6, 2, 2),
    "decoder_layers_per_block": (5, 5, 5, 5),
    "spatio_temporal_scaling": (True,) * 4,
    "decoder_spatio_temporal_scaling": (True,) * 3,
    "decoder_inject_noise": (False,) * 4,
    "downsample_type": ("spatial", "temporal", "spatiotemporal", "spatiotemporal"),
    "upsample_residual": (True,) * 3,
    "upsample_factor": (2, 2, 2),
    "spatial_compression_ratio": 32,
    "temporal_compression_ratio": 8,
}
CLIP_H: dict[str, Any] = {
    "hidden_size": 1280,
    "intermediate_size": 5120,
    "projection_dim": 1024,
    "num_hidden_layers": 32,
    "num_attention_heads": 16,
    "patch_size": 14,
}
CLIP_L = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12}
LLAMA_8B: dict[str, Any] = {
    "vocab_size": 128320,
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "pad_token_id": 0,
}
GEMMA_12B: dict[str, Any] = {
    "text_config": {
        "vocab_size": 262208,
        "hidden_size": 3840,
        "intermediate_size": 15360,
        "num_hidden_layers": 48,
        "num_attention_heads": 16,
        "num_key_value_heads": 8,
        "head_dim": 256,
    },
    "vision_config": {
        "hidden_size": 1152,
        "intermediate_size": 4304,
        "num_hidden_layers": 27,
        "num_attention_heads": 16,
        "image_size": 896,
        "patch_size": 14,
    },
}
COGVIDEOX_5B: dict[str, Any] = {"num_attention_heads": 48, "num_layers": 42, "use_rotary_positional_embeddings": True}
FULL: dict[str, dict[str, dict[str, Any]]] = {
    "svd": {
        "UNetSpatioTemporalConditionModel": {},
        "AutoencoderKLTemporalDecoder": {
            "down_block_types": ("DownEncoderBlock2D",) * 4,
            "block_out_channels": (128, 256, 512, 512),
            "layers_per_block": 2,
        },
        "CLIPVisionConfig": CLIP_H,
    },
    "mochi": {"MochiTransformer3DModel": {}, "AutoencoderKLMochi": {}, **T5},
    "opensora": T5,
    "ltx": {"LTXVideoTransformer3DModel": {}, "AutoencoderKLLTXVideo": {}, **T5},
    "ltx13b": {
        "LTXVideoTransformer3DModel": {
            "num_attention_heads": 32,
            "attention_head_dim": 128,
            "cross_attention_dim": 4096,
            "num_layers": 48,
        },
        "AutoencoderKLLTXVideo": LTX_095,
        **T5,
    },
    "ltx2": {
        "LTX2VideoTransformer3DModel": {"rope_double_precision": False},
        "AutoencoderKLLTX2Video": {},
        "AutoencoderKLLTX2Audio": {},
        "Gemma3Config": GEMMA_12B,
        "LTX2TextConnectors": {"rope_double_precision": False, "rope_type": "split"},
        "LTX2Vocoder": {},
    },
    "cogvideox": {"CogVideoXTransformer3DModel": COGVIDEOX_5B, "AutoencoderKLCogVideoX": {}, **T5},
    "wan": {
        "WanTransformer3DModel": {"num_attention_heads": 12, "ffn_dim": 8960, "num_layers": 30},
        **WAN,
    },
    "wan14b": {"WanTransformer3DModel": WAN_14B, **WAN},
    "wan22": {"WanTransformer3DModel": WAN_14B, **WAN},
    "wan22-i2v": {"WanTransformer3DModel": {**WAN_14B, "in_channels": 36}, **WAN},
    "hunyuan": {
        "HunyuanVideoTransformer3DModel": {},
        "AutoencoderKLHunyuanVideo": {},
        "LlamaConfig": LLAMA_8B,
        "CLIPTextConfig": {**CLIP_L, "vocab_size": 49408},
    },
}
"""Model -> class -> what `small` is built with instead of its own few channels: the published configurations. Classes
without an entry are left as they are (schedulers, tokenizers). {} are the class's own defaults."""
ELSEWHERE = {
    "LTX2TextConnectors": "diffusers.pipelines.ltx2",
    "LTX2Vocoder": "diffusers.pipelines.ltx2.vocoder",
}
SCHEDULERS = (
    "CogVideoXDDIMScheduler",
    "EulerDiscreteScheduler",
    "FlowMatchEulerDiscreteScheduler",
    "UniPCMultistepScheduler",
)
"""What is built with data."""
LARGE = 2**27
"""Values of a result that is not handed back: nothing reads a decoded clip's pixels."""


@dataclass
class Count:
    """Bytes that live on the device, without weights, and the most of them in each part of a clip."""

    now: int = 0
    peak: dict[str, int] = field(default_factory=dict)
    part: str = ""

    def grow(self, size: int) -> None:
        self.now += size
        self.peak[self.part] = max(self.peak.get(self.part, 0), self.now)

    def shrink(self, size: int) -> None:
        self.now -= size


class Counting(TorchDispatchMode):
    """Counts the storages that operators make, for as long as they live."""

    def __init__(self, count: Count) -> None:
        super().__init__()
        self.count, self.known = count, weakref.WeakKeyDictionary[Any, bool]()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = self._special(func, args)
        out = func(*args, **(kwargs or {})) if out is None else out
        if func is torch.ops.aten.convolution.default and out.itemsize == 2:
            copies = args[0].untyped_storage().nbytes() + out.untyped_storage().nbytes()
            self.count.grow(
                copies
            )  # cuDNN computes in half precision with the channels last, and copies there and back
            self.count.shrink(copies)
        for tensor in tree_leaves(out):
            if isinstance(tensor, torch.Tensor):
                self.see(tensor)
        return out

    def see(self, tensor: torch.Tensor) -> None:
        storage = tensor.untyped_storage()
        if storage not in self.known:
            size = -(-storage.nbytes() // 512) * 512  # the allocator's smallest piece
            self.known[storage] = True
            self.count.grow(size)
            weakref.finalize(storage, self.count.shrink, size)

    @staticmethod
    def _special(func: Any, args: Any) -> Any:
        """What tensors without data cannot answer: every text token is valid, every condition holds."""
        if func is torch.ops.aten.nonzero.default:
            return args[0].new_empty((args[0].numel(), args[0].ndim), dtype=torch.int64)
        if func is torch.ops.aten._local_scalar_dense.default:
            return True if args[0].dtype is torch.bool else 1
        return None


class Done(Exception):
    """The clip is decoded, and nobody looks at it."""


@contextlib.contextmanager
def full_size(name: str, other: Mapping[str, dict[str, Any]]) -> Iterator[None]:
    """Within the context, the model's `small` builds the published sizes, or those of another checkpoint."""
    from stg_eval.generators.opensora import small as opensora

    with contextlib.ExitStack() as stack:
        for kind, arguments in {**FULL[name], **other}.items():
            homes = (
                [importlib.import_module(ELSEWHERE[kind])]
                if kind in ELSEWHERE
                else [diffusers, sys.modules["transformers"], opensora]
            )
            for home in homes:
                if hasattr(home, kind):
                    real = getattr(home, kind)
                    built = lambda *_, real=real, arguments=arguments, **__: real(**arguments)  # noqa: E731
                    stack.enter_context(patch.object(home, kind, built))
        for home, kind in [*((diffusers, one) for one in SCHEDULERS), (opensora, "rectified_flow")]:
            stack.enter_context(patch.object(home, kind, _with_data(getattr(home, kind))))
        yield


def _with_data(function: Callable[..., Any]) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        with unset_fake_temporarily():
            return function(*args, **kwargs)

    return call


def build(
    model: DiffusersModel, dtype: str, fake: FakeTensorMode, other: Mapping[str, dict[str, Any]] = MappingProxyType({})
) -> Any:
    """Return the pipeline at its published size, without data."""
    name = model.card.name
    weights = "random-weights(full,seed=0)" if name == "opensora" else "random-weights(seed=0)"
    with full_size(name, other), patch.object(nn.Module, "to", lambda self, *_, **__: self), fake:
        pipeline = model.open(dtype="float32", weights=weights, settings=dict(model.card.settings))
        for component, network in pipeline.components.items():
            stays = component in model.float32 or (name == "opensora" and component == "text_encoder")
            if isinstance(network, nn.Module) and not stays:
                cast(network, torch_dtype(dtype))
    return pipeline


def casting(network: nn.Module, fake: FakeTensorMode) -> Callable[..., nn.Module]:
    """Module.to, of which pipelines use the dtype (SVD decodes in float32)."""

    def to(*_: Any, dtype: torch.dtype | None = None, **__: Any) -> nn.Module:
        if dtype is not None:
            with fake:
                cast(network, dtype)
        return network

    return to


def cast(network: nn.Module, dtype: torch.dtype) -> None:
    """Module.to(dtype), which tensors without data do not take."""
    made: dict[nn.Parameter | None, nn.Parameter | None] = {None: None}  # tied parameters stay one
    for module in network.modules():
        for name, value in module._parameters.items():
            if value not in made:
                made[value] = nn.Parameter(value.to(dtype), requires_grad=False)  # type: ignore[union-attr]
            module._parameters[name] = made[value]
        for name, buffer in module._buffers.items():
            if buffer is not None and buffer.is_floating_point():
                module._buffers[name] = buffer.to(dtype)


def watch(pipeline: Any, fake: FakeTensorMode, count: Count) -> None:
    """Let the pipeline's networks run on tensors without data, and count what they hold; it sees zeros come back."""
    mode = Counting(count)

    def on_fake(function: Callable[..., Any], part: str) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            if count.part:
                return function(*args, **kwargs)
            count.part = part
            with fake, mode:
                args, kwargs = tree_map(taken, (args, kwargs))
                out = function(*args, **kwargs)
            count.part = ""
            del args, kwargs
            if part == "decode" and sum(x.numel() for x in tree_leaves(out) if isinstance(x, torch.Tensor)) > LARGE:
                raise Done
            return tree_map(given, out)

        def taken(x: Any) -> Any:
            if not isinstance(x, torch.Tensor) or isinstance(x, FakeTensor):
                return x
            known = fake.from_tensor(x)
            mode.see(known)
            return known

        return call

    for name, component in pipeline.components.items():
        if not isinstance(component, nn.Module):
            continue
        component.to = casting(component, fake)  # type: ignore[method-assign]
        mode.known.update((tensor.untyped_storage(), True) for tensor in held(component))
        part = "step" if peak_memory.role(name) == "denoiser" else "text"
        kind = type(component)
        component.__class__ = type(
            kind.__name__,
            (kind,),
            {"__call__": on_fake_method(kind.__call__, on_fake, part), "__module__": kind.__module__},
        )
        for method in ("encode", "decode"):
            if hasattr(component, method) and "vae" in name:
                setattr(component, method, on_fake(getattr(component, method), method))


def on_fake_method(function: Callable[..., Any], on_fake: Any, part: str) -> Callable[..., Any]:
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        return on_fake(lambda *a, **k: function(self, *a, **k), part)(*args, **kwargs)

    return call


def given(x: Any) -> Any:
    if isinstance(x, FakeTensor):
        return torch.zeros(x.shape, dtype=x.dtype)
    return type(x)(given(x.parameters)) if hasattr(x, "parameters") else x  # a VAE's distribution


# ---- the table


def request_of(model: DiffusersModel, guidance: str, num_frames: int, dtype: str, image: Path) -> Request:
    card = model.card
    first = {"image": str(image), "image_sha256": "0" * 64} if card.task == "image-to-video" else {}
    return Request(
        model=card.name,
        weights=card.weights,
        guidance=card.presets[guidance].guidance,
        case=Case(id="x", prompt="a red ball", **first),
        seed=0,
        height=card.height,
        width=card.width,
        num_frames=num_frames,
        fps=card.fps,
        num_inference_steps=max(1, model.min_steps),
        dtype=dtype,
        encoding=card.encoding,
        settings=tuple(sorted(card.settings.items())),
    )


def peaks(model: DiffusersModel, pipeline: Any, request: Request, fake: FakeTensorMode, tiled: bool = False) -> Count:
    """Most bytes beside weights in each part of a clip: "text", "encode", "step", "decode"."""
    count = Count()
    classes = {name: type(one) for name, one in pipeline.components.items()}
    watch(pipeline, fake, count)
    if hasattr(pipeline.vae, "enable_tiling") and "vae_tiling" in model.card.settings:
        (pipeline.vae.enable_tiling if tiled else pipeline.vae.disable_tiling)()
    try:
        PipelineGenerator(pipeline, model, "cpu").generate([request])
    except Done:
        pass
    finally:
        for name, one in pipeline.components.items():
            if isinstance(one, nn.Module):
                one.__class__ = classes[name]
                for method in ("encode", "decode", "to"):
                    one.__dict__.pop(method, None)
    return count


def half(model: DiffusersModel) -> int:
    """Return a number of frames that the model can make, about half of its own."""
    every = model.frames_multiple
    return max(1 + every * round((model.card.num_frames - 1) / 2 / every), 17)


def line(short: tuple[int, int], long: tuple[int, int]) -> list[int]:
    """(frames, bytes) twice -> bytes at no frame, bytes a frame. Never falling."""
    slope = max(0, (long[1] - short[1]) / (long[0] - short[0]))
    return [round(long[1] - slope * long[0]), round(slope)]


def row(name: str, image: Path) -> dict[str, Any]:
    """Return a row of the table, in bytes; see `stg_eval.generators.peak_memory`."""
    model, fake = generators.get(name), FakeTensorMode(allow_non_fake_inputs=True)
    assert isinstance(model, DiffusersModel)
    pipeline = build(model, model.card.dtype, fake)
    networks = {key: one for key, one in pipeline.components.items() if isinstance(one, nn.Module)}
    short, long = half(model), model.card.num_frames

    def count(guidance: str, num_frames: int, tiled: bool = False) -> Count:
        return peaks(model, pipeline, request_of(model, guidance, num_frames, model.card.dtype, image), fake, tiled)

    few, many = count("cfg", short), count("cfg", long)
    step = line((short, few.peak["step"]), (long, many.peak["step"]))
    found: dict[str, Any] = {
        "dtype": model.card.dtype,
        "weights": {key: sum(x.nbytes for x in held(one)) for key, one in networks.items()},
        "largest_layer": max(x.nbytes for one in networks.values() for x in held(one)),
        "text": few.peak.get("text", 0),  # the prompt is encoded once
        "encode": many.peak.get("encode", 0),
        "step": {"cfg": step},
        "decode": line((short, few.peak["decode"]), (long, many.peak["decode"])),
    }
    share = count("stg", long).peak["step"] / many.peak["step"]
    found["step"]["stg"] = [round(value * share) for value in step]  # as far above CFG at every length as at this one
    tiled = [(n, count("none", n, tiled=True)) for n in (short, long)]
    found["step"]["none"] = line(*((n, one.peak["step"]) for n, one in tiled))
    if "vae_tiling" in model.card.settings:
        found["decode_tiled"] = line(*((n, one.peak["decode"]) for n, one in tiled))
    return found


def held(network: nn.Module) -> Iterator[torch.Tensor]:
    yield from network.parameters()
    yield from network.buffers()


# ---- published figures


@dataclass(frozen=True)
class Published:
    """A figure that others measured. Sizes as they ran it, in GiB as torch counts."""

    what: str
    model: str
    size: dict[str, int]
    gib: float
    source: str
    guidance: str = "cfg"
    dtype: str = "bfloat16"
    offload: str = "none"
    tiled: bool = False
    other: dict[str, dict[str, Any]] = field(default_factory=dict)


BLOG = "huggingface.co/blog/video_gen"
COGVIDEOX_DOCS = "diffusers 0.31, api/pipelines/cogvideox"
SMALL = {"height": 512, "width": 768, "num_frames": 121}
COGVIDEOX_2B: dict[str, Any] = {"CogVideoXTransformer3DModel": {}}
PUBLISHED = [
    Published("HunyuanVideo", "hunyuan", SMALL, 60.09, BLOG, "none"),
    Published("HunyuanVideo, VAE tiling", "hunyuan", SMALL, 43.58, BLOG, "none", tiled=True),
    Published("HunyuanVideo, offload=model", "hunyuan", SMALL, 28.87, BLOG, "none", offload="model"),
    Published("LTX-Video", "ltx", SMALL, 17.75, BLOG),
    Published(
        "Mochi, offload=model, tiling",
        "mochi",
        {"num_frames": 85},
        22,
        "diffusers, api/pipelines/mochi",
        offload="model",
        tiled=True,
    ),
    Published("CogVideoX-2B", "cogvideox", {}, 33, COGVIDEOX_DOCS, dtype="float16", other=COGVIDEOX_2B),
    Published(
        "CogVideoX-2B, offload=model",
        "cogvideox",
        {},
        19,
        COGVIDEOX_DOCS,
        dtype="float16",
        offload="model",
        other=COGVIDEOX_2B,
    ),
    Published(
        "CogVideoX-2B, offload=model, tiling",
        "cogvideox",
        {},
        11,
        COGVIDEOX_DOCS,
        dtype="float16",
        offload="model",
        tiled=True,
        other=COGVIDEOX_2B,
    ),
]


def predicted(one: Published, image: Path) -> tuple[float, str]:
    """Return the peak in GiB, and the part of a clip in which it comes."""
    model, fake = generators.get(one.model), FakeTensorMode(allow_non_fake_inputs=True)
    assert isinstance(model, DiffusersModel)
    pipeline = build(model, one.dtype, fake, one.other)
    request = replace(request_of(model, one.guidance, 1, one.dtype, image), num_frames=model.card.num_frames)
    count = peaks(model, pipeline, replace(request, **one.size), fake, one.tiled)  # type: ignore[arg-type]
    weights: dict[str, int] = {}
    for name, network in pipeline.components.items():
        if isinstance(network, nn.Module):
            weights[name] = sum(x.nbytes for x in held(network))
    parts = peak_memory.RUNS
    if one.offload == "model":
        found = {
            part: size + max(weights[k] for k in weights if peak_memory.role(k) == parts[part])
            for part, size in count.peak.items()
        }
    else:
        found = {part: size + sum(weights.values()) for part, size in count.peak.items()}
    print(
        one.what,
        {k: round(v / 2**30, 2) for k, v in found.items()},
        {k: round(v / 2**30, 2) for k, v in weights.items()},
        file=sys.stderr,
    )
    part = max(found, key=lambda name: found[name])
    return found[part] / 2**30, part


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="comma-separated models")
    parser.add_argument("--table", type=Path, default=peak_memory.TABLE, help="the file to write")
    parser.add_argument("--published", action="store_true", help="published figures beside predicted ones")
    options = parser.parse_args()
    diffusers.utils.logging.set_verbosity_error()
    image = Path("/tmp/peak-memory.png")
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(image)
    if options.published:
        print("| | published GiB | predicted GiB | off by | where | source |\n|---|---:|---:|---:|---|---|")
        for one in PUBLISHED:
            gib, part = predicted(one, image)
            print(
                f"| {one.what} | {one.gib:g} | {gib:.1f} | {gib / one.gib - 1:+.0%} | {part} | {one.source} |",
                flush=True,
            )
        return
    table = json.loads(options.table.read_text()) if options.table.is_file() else {}
    for name in options.only.split(",") if options.only else FULL:
        start = time.process_time()
        table[name] = row(name, image)
        print(f"{name}: {time.process_time() - start:.0f} s", file=sys.stderr, flush=True)
        lines = ",\n".join(f"{json.dumps(key)}: {json.dumps(value)}" for key, value in table.items())
        options.table.write_text(f"{{\n{lines}\n}}\n")


if __name__ == "__main__":
    main()
