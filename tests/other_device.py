"""A device that is not the processor, played by it: what mixes the two, or needs doubles, fails."""

from contextlib import contextmanager, nullcontext
from unittest import mock

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

DEVICE = "lazy"  # a kind that torch knows without any driver
MOVES = (torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default)


class Elsewhere(torch.Tensor):
    """A tensor that says it is on `DEVICE`, with its values in ``here``."""

    @staticmethod
    def __new__(cls, here):
        if here.dtype == torch.float64:
            raise TypeError(f"{DEVICE} has no float64")
        return torch.Tensor._make_wrapper_subclass(
            cls, here.shape, here.stride(), here.storage_offset(), dtype=here.dtype, device=DEVICE
        )

    def __init__(self, here):
        self.here = here

    def tolist(self):
        return self.here.tolist()

    @classmethod
    def __torch_dispatch__(cls, function, types, arguments=(), settings=None):
        return run(function, arguments, settings or {})


def run(function, arguments, settings):
    """One operation, where its tensors are."""
    tensors = [one for one in tree_leaves((arguments, settings)) if isinstance(one, torch.Tensor)]
    away = [one for one in tensors if isinstance(one, Elsewhere)]
    if (
        away
        and function not in MOVES
        and any(one.ndim for one in tensors if not isinstance(one, Elsewhere))
    ):
        raise RuntimeError(f"{function} mixes tensors of {DEVICE} and of the processor")
    device = settings.get("device")
    values, options = tree_map_only(Elsewhere, lambda one: one.here, (arguments, settings))
    out = function(*values, **(options | {"device": "cpu"} if device is not None else options))
    if function._schema.is_mutable and away:
        return arguments[0]
    there = torch.device(device).type == DEVICE if device is not None else bool(away)
    return tree_map_only(torch.Tensor, Elsewhere, out) if there else out


class _Mode(TorchDispatchMode):
    def __torch_dispatch__(self, function, types, arguments=(), settings=None):
        return run(function, arguments, settings or {})


@contextmanager
def other_device():
    """Lets `DEVICE` be used inside, also by modules, by autocast and where nothing is learnt."""
    future, autocast = torch.__future__, torch.autocast
    swap = future.get_swap_module_params_on_conversion()
    future.set_swap_module_params_on_conversion(True)

    def known(kind, **settings):
        return nullcontext() if kind == DEVICE else autocast(kind, **settings)

    try:
        with mock.patch.multiple(torch, autocast=known, inference_mode=torch.no_grad), _Mode():
            yield DEVICE
    finally:
        future.set_swap_module_params_on_conversion(swap)
