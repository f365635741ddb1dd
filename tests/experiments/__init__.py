"""Experiments are tested with a network that learns within a second."""

from indiret.network import CONFIGS

SMALL = CONFIGS["base"].replace(
    grid=(6, 6), query_grid=(4, 4), size=8, scales=(1.0,), shifts=1, width=2, blocks=(1,)
)


def record_calls(monkeypatch, module, name):
    """The positional arguments of every call of a module's function from now on, as a list."""
    calls, original = [], getattr(module, name)

    def recording(*args, **kwargs):
        calls.append(args)
        return original(*args, **kwargs)

    monkeypatch.setattr(module, name, recording)
    return calls
