"""What whoever calls may have set in torch, which is to change no score."""

from contextlib import contextmanager

import torch


@contextmanager
def default(set_default, value, before):
    set_default(value)
    try:
        yield
    finally:
        set_default(before)


SETTINGS = {
    "double": lambda: default(torch.set_default_dtype, torch.float64, torch.float32),
    "half": lambda: default(torch.set_default_dtype, torch.float16, torch.float32),
    "bfloat16": lambda: default(torch.set_default_dtype, torch.bfloat16, torch.float32),
    "device": lambda: torch.device("meta"),  # stands in for one that is not the processor
    "default device": lambda: default(torch.set_default_device, "meta", None),
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
}
