"""Pretended GPUs: tensors that say cuda:0 with values on the CPU, so that what a GPU would refuse is refused.

    with pretend(devices=2) as gpus:
        ...  # anything that takes device="cuda:1"
    assert gpus.used == {"cuda:1"}

Refused as there: operations that mix devices, generators of another device than the tensor's, `.numpy()` of a tensor
that is not on the CPU, devices that there are not, operators that have no CUDA kernel (where torch was built with
CUDA). Values are those of CPU kernels in the same dtype, computed in the same order. What is not seen: other rounding,
streams and races, out of memory, kernels that refuse a shape or a dtype on the GPU alone.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, NamedTuple
from unittest.mock import patch

import torch
from torch.utils._mode_utils import no_dispatch
from torch.utils._python_dispatch import TorchDispatchMode

aten = torch.ops.aten
CPU = torch.device("cpu")
CROSSES = {aten._to_copy.default, aten.copy_.default, aten._local_scalar_dense.default}
"""Operators that take tensors of one device to another."""
INDEXING = {aten.index.Tensor, aten.index_put_.default, aten.index_put.default, aten._index_put_impl_.default}
FOR_CPU_IN_NAME_ONLY = "_scaled_dot_product_flash_attention_for_cpu"
"""What attention on these tensors comes down to; on a GPU it is one of the kernels for that."""


@dataclass
class Gpus:
    """What happened on the pretended devices."""

    count: int
    used: set[str] = field(default_factory=set)
    """Devices on which a tensor has lain."""


class Pretended(torch.Tensor):
    """A tensor that says a CUDA device; `inner` holds its values."""

    inner: torch.Tensor
    where: torch.device

    @staticmethod
    def __new__(cls, inner: torch.Tensor, where: torch.device | None = None, requires_grad: bool = False) -> Any:
        if where is None:  # accelerate makes a parameter again by calling its class
            if not isinstance(inner, Pretended):
                return torch.nn.Parameter(inner, requires_grad)
            return torch.nn.Parameter(Pretended(inner.inner, inner.where), requires_grad)
        made = torch.Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls,
            inner.size(),
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            layout=inner.layout,
            device=where,
            requires_grad=requires_grad,
        )
        made.inner, made.where = inner.detach(), where
        return made

    def untyped_storage(self) -> Any:
        return self.inner.untyped_storage()

    def data_ptr(self) -> int:
        return self.inner.data_ptr()

    def tolist(self) -> Any:
        return self.inner.tolist()

    # torch.Tensor([scalar, ...]) reads below the dispatcher, by these

    def __float__(self) -> float:
        return float(self.inner)

    def __int__(self) -> int:
        return int(self.inner)

    def __index__(self) -> int:
        return self.inner.__index__()

    def __repr__(self, **_: Any) -> str:
        return f"Pretended({self.inner!r}, {self.where})"

    def __reduce_ex__(self, protocol: Any) -> Any:
        return (Pretended, (self.inner, self.where, self.requires_grad))

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        copied = Pretended(self.inner.clone(), self.where, self.requires_grad)
        return memo.setdefault(
            id(self), torch.nn.Parameter(copied, self.requires_grad) if hasattr(self, "_is_param") else copied
        )

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise RuntimeError(f"{func} met a pretended tensor outside of pretend()")


class _Mode(TorchDispatchMode):
    def __init__(self, gpus: Gpus) -> None:
        super().__init__()
        self.gpus = gpus

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is aten._pin_memory.default:
            return args[0].clone()
        if func is aten.is_pinned.default:
            return False
        tensors, asked = _tensors((args, kwargs.values())), kwargs.get("device")
        if not any(type(x) is Pretended for x in tensors) and (asked is None or torch.device(asked).type != "cuda"):
            _check_generator(func, kwargs, CPU)
            return func(*args, **kwargs)
        return self._on_devices(func, args, kwargs, tensors)

    def _on_devices(self, func: Any, args: Any, kwargs: Any, tensors: list[torch.Tensor]) -> Any:
        here = next((x.where for x in tensors if type(x) is Pretended), CPU)
        facts = _facts(func)
        if not facts.crosses:
            _check_devices(func, facts, args, tensors)
        asked = kwargs.get("device")
        if asked is not None:
            here = self._device(asked)
            kwargs = {
                **kwargs,
                "device": CPU if here.type == "cuda" else here,
                **({"pin_memory": False} if "pin_memory" in kwargs else {}),
            }
        elif func is aten.copy_.default:
            here = _where(args[0])
        _check_generator(func, kwargs, here)
        inner = _map(args, _inner)
        if func is aten._softmax.default and inner[2]:  # from half to float, which only a GPU does in one step
            inner = (inner[0].float(), inner[1], False)
        out = func(*inner, **{name: _map(x, _inner) for name, x in kwargs.items()})
        if here.type != "cuda" or func is aten._local_scalar_dense.default:
            return args[0] if func is aten.copy_.default else out
        self.gpus.used.add(str(here))
        if facts.reshapes_in_place:
            with no_dispatch():
                func(*args, **kwargs)
            return args[0]
        written = [x for x in tensors if type(x) is Pretended] if facts.writes else ()

        def wrapped(x: torch.Tensor) -> torch.Tensor:
            for one in written:
                if one.inner is x:
                    return one
            return Pretended(x, here)

        return _map(out, wrapped)

    def _device(self, asked: Any) -> torch.device:
        device = torch.device(asked)
        if device.type != "cuda":
            return device
        if (device.index or 0) >= self.gpus.count:
            raise RuntimeError(f"CUDA error: invalid device ordinal {device}")
        return torch.device("cuda", device.index or 0)


class _Facts(NamedTuple):
    """What is to be known of an operator."""

    crosses: bool
    """It takes tensors of one device to another."""
    takes_scalars: bool
    """Tensors without dimensions may lie on the CPU."""
    writes: bool
    reshapes_in_place: bool


@functools.cache
def _facts(func: Any) -> _Facts:
    """Raises NotImplementedError for an operator without a CUDA kernel."""
    name = func.name()
    keys = ("CUDA", "CompositeExplicitAutograd", "CompositeImplicitAutograd", "CompositeExplicitAutogradNonFunctional")
    has_kernel = any(torch._C._dispatch_has_kernel_for_dispatch_key(name, key) for key in keys)
    if torch.backends.cuda.is_built() and not has_kernel and FOR_CPU_IN_NAME_ONLY not in name:
        raise NotImplementedError(f"Could not run {name!r} with arguments from the 'CUDA' backend")
    return _Facts(
        func in CROSSES,
        torch.Tag.pointwise in func.tags or func in INDEXING or "masked_fill" in name,
        func._schema.is_mutable,
        torch.Tag.inplace_view in func.tags,
    )


def _tensors(values: Any) -> list[torch.Tensor]:
    found = []
    for x in values:
        if isinstance(x, torch.Tensor):
            found.append(x)
        elif not isinstance(x, str) and isinstance(x, list | tuple | type({}.values())):
            found += _tensors(x)
    return found


def _map(x: Any, function: Callable[[torch.Tensor], Any]) -> Any:
    if isinstance(x, torch.Tensor):
        return function(x)
    return type(x)(_map(one, function) for one in x) if type(x) in (list, tuple) else x


def _inner(x: torch.Tensor) -> torch.Tensor:
    return x.inner if isinstance(x, Pretended) else x


def _where(x: torch.Tensor) -> torch.device:
    return x.where if isinstance(x, Pretended) else x.device


def _check_devices(func: Any, facts: _Facts, args: Any, tensors: list[torch.Tensor]) -> None:
    if func in INDEXING:  # indices may lie on the CPU
        home = _where(args[0])
        if any(x.where != home for x in _tensors(args[1]) if isinstance(x, Pretended)):
            raise RuntimeError(f"indices should be on the CPU or on the device of the tensor, {home}")
        tensors = _tensors((args[0], *args[2:3]))
    places = {_where(x) for x in tensors if x.ndim or not facts.takes_scalars or x.device.type != "cpu"}
    if len(places) > 1:
        raise RuntimeError(
            f"Expected all tensors to be on the same device, but found {', '.join(sorted(map(str, places)))}: {func} "
            f"of {[(tuple(x.shape), str(_where(x))) for x in tensors]}"
        )


def _check_generator(func: Any, kwargs: Any, device: torch.device) -> None:
    generator = kwargs.get("generator")
    if generator is not None and generator.device.type != device.type:
        raise RuntimeError(
            f"Expected a '{device.type}' device type for generator but found '{generator.device.type}' ({func})"
        )


class _Device:
    """torch.cuda.device: pretended devices have no current one but cuda:0."""

    def __init__(self, device: Any) -> None:
        pass

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: Any) -> None:
        pass


def _set_data(self: torch.Tensor, value: torch.Tensor) -> None:
    """x.data = y, where the one lies on a device and the other does not: below Python they are unlike."""
    if isinstance(self, Pretended) == isinstance(value, Pretended):
        if isinstance(self, Pretended):
            self.inner, self.where = value.inner, value.where
        else:
            DATA.__set__(self, value)
        return
    if isinstance(self, torch.nn.Parameter):
        value = torch.nn.Parameter(value.detach(), self.requires_grad)
    torch.utils.swap_tensors(self, value)


DATA = torch._C.TensorBase.data


@contextlib.contextmanager
def pretend(devices: int = 1) -> Iterator[Gpus]:
    """Within the context, this process has that many CUDA devices."""
    gpus = Gpus(devices)
    memory = 80 * 2**30
    properties = SimpleNamespace(name="Pretended GPU", total_memory=memory, major=9, minor=0, multi_processor_count=1)
    replaced: dict[str, Any] = {
        "is_available": lambda: True,
        "is_initialized": lambda: True,
        "device_count": lambda: devices,
        "current_device": lambda: 0,
        "set_device": lambda *_: None,
        "device": _Device,
        "synchronize": lambda *_: None,
        "empty_cache": lambda: None,
        "_lazy_init": lambda: None,
        "manual_seed_all": lambda *_: None,
        "get_rng_state": lambda *_: torch.empty(0, dtype=torch.uint8),
        "set_rng_state": lambda *_: None,
        "mem_get_info": lambda *_: (memory, memory),
        "max_memory_allocated": lambda *_: 0,
        "reset_peak_memory_stats": lambda *_: None,
        "get_device_name": lambda *_: properties.name,
        "get_device_properties": lambda *_: properties,
        "get_device_capability": lambda *_: (9, 0),
        "is_bf16_supported": lambda *_, **__: True,
    }
    overwrites = torch.__future__.get_overwrite_module_params_on_conversion()
    torch._C._ensureCUDADeviceGuardSet()
    with contextlib.ExitStack() as stack:
        for name, value in replaced.items():
            stack.enter_context(patch.object(torch.cuda, name, value))
        stack.enter_context(patch.object(torch.Tensor, "data", property(DATA.__get__, _set_data), create=True))
        # Inference mode hands operators over before they are taken apart, and keeps no versions; values are the same.
        stack.enter_context(patch.object(torch._C, "_InferenceMode", lambda on: torch.set_grad_enabled(not on)))
        torch.__future__.set_overwrite_module_params_on_conversion(True)
        stack.callback(torch.__future__.set_overwrite_module_params_on_conversion, overwrites)
        lifts = torch._C._only_lift_cpu_tensors()
        torch._C._set_only_lift_cpu_tensors(True)
        stack.callback(torch._C._set_only_lift_cpu_tensors, lifts)
        stack.enter_context(_Mode(gpus))
        yield gpus
