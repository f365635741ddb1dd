"""What whoever calls may have set in torch, which is to change no score."""

from contextlib import contextmanager

import torch


@contextmanager
def default_dtype(dtype):
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


SETTINGS = {
    "double": lambda: default_dtype(torch.float64),
    "half": lambda: default_dtype(torch.float16),
    "device": lambda: torch.device("meta"),  # stands in for one that is not the processor
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
}
