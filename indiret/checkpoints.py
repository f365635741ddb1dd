"""Every read and write of weights and training state: safetensors only, whole or not at all.

A file of weights holds a module's tensors and, as metadata, what builds the module again and what
made it. Nothing here is ever unpickled.

Chapter: *A 4-D ResNet learns to match*.
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from indiret.datasets.writing import write_atomically
from indiret.network import CONFIGS, VERIFIER, IndicativeNetwork, build_network

P = TypeVar("P")
WEIGHTS = Path(__file__).parent / "data" / "weights"  # those that are shipped


def write_json(path: str | Path, data: Any) -> None:
    """Write JSON whole or not at all, with the folders above it."""
    with write_atomically(path) as part:
        part.write_text(json.dumps(data, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def file_name(name: str) -> str:
    """The file of shipped weights of this name.

    Examples
    --------
    >>> file_name("efficientnet-lite0/16:verifier")
    'efficientnet-lite0_16_verifier.safetensors'
    """
    return re.sub(r"[/:]", "_", name) + ".safetensors"


def find_weights(name_or_path: str | Path) -> Path:
    """The file of a shipped name, or the given path; FileNotFoundError if there is neither.

    Examples
    --------
    >>> find_weights("timm/resnet101:siam-fv")
    Traceback (most recent call last):
    FileNotFoundError: no weights of timm/resnet101:siam-fv are shipped; run: indiret train ...
    """
    name = str(name_or_path)
    shipped = WEIGHTS / file_name(str(name_or_path))
    if isinstance(name_or_path, str) and shipped.is_file():
        return shipped
    if Path(name_or_path).is_file():
        return Path(name_or_path)
    if ":" in name and not name.endswith(".safetensors"):  # of a backbone
        raise FileNotFoundError(
            f"no weights of {name} are shipped; run: indiret train --network {name} --out FOLDER, "
            "and give FOLDER/network.safetensors."
        )
    raise FileNotFoundError(f"there are no weights {name!r}: neither shipped nor in a file.")


def save_tensors(
    path: str | Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None
) -> None:
    """Write tensors and metadata to one safetensors file, whole or not at all."""
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with write_atomically(path) as part:
        try:
            save_file(plain, part, dict(metadata or {}))
        except SafetensorError as error:  # the disk is full
            raise OSError(error) from error


def hash_tensors(settings: object, tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 of settings, as they are printed, and of named tensors on whatever device."""
    digest = hashlib.sha256(repr(settings).encode())
    for name, tensor in sorted(tensors.items()):
        plain = tensor.detach().cpu().contiguous()
        digest.update(f"{name} {plain.dtype} {tuple(plain.shape)}".encode())
        digest.update(plain.flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def load_tensors(path: str | Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Metadata and tensors of a safetensors file; ValueError if it is not whole."""
    with _opened(path) as file:
        return file.metadata() or {}, {key: file.get_tensor(key) for key in file.keys()}


def read_metadata(name_or_path: str | Path) -> dict[str, str]:
    """What was written beside the weights: what builds the module, and where it came from."""
    with _opened(find_weights(name_or_path)) as file:
        return file.metadata() or {}


@contextmanager
def _opened(path: str | Path) -> Iterator[Any]:
    if not Path(path).is_file():
        raise ValueError(f"{path} is not a file; give one that indiret wrote.")
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except SafetensorError as error:
        raise ValueError(
            f"{path} is not a whole safetensors file ({error}); give one that indiret wrote."
        ) from error


def holds(name_or_path: str, key: str) -> bool:
    """Whether a file of weights is there and has ``key`` in its metadata, which tells its kind."""
    try:
        return key in read_metadata(name_or_path)
    except (OSError, ValueError):
        return False  # whoever loads it says what is wrong


def restore(module: nn.Module, tensors: Mapping[str, Tensor], path: str | Path) -> None:
    """Load weights into a module that was built from the metadata of their file, ``path``.

    It ends in eval mode. Raises ValueError if a tensor is missing, too many, of another shape, or
    not finite.
    """
    check_tensors(tensors, module.state_dict(), path)
    module.load_state_dict(dict(tensors))
    module.eval()


def check_tensors(
    tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor], path: str | Path
) -> None:
    """ValueError unless tensors have the names and shapes expected, and are finite."""
    for key in sorted(expected.keys() | tensors.keys()):
        found, wanted = (
            tuple(side[key].shape) if key in side else None for side in (tensors, expected)
        )
        if found != wanted:
            raise ValueError(
                f"the weights in {path} do not fit the module that its metadata says: "
                f"{key} is {found or 'missing'}, not {wanted or 'there at all'}."
            )
        if not tensors[key].isfinite().all():
            raise ValueError(f"the weights in {path} are broken: {key} holds NaN or infinity.")


def save_network(
    network: IndicativeNetwork, path: str | Path, extra: Mapping[str, str] | None = None
) -> None:
    """Write config, weights, metric state, calibration and run, and ``extra`` for `read_metadata`.

    Examples
    --------
    >>> from tempfile import mkdtemp
    >>> path = Path(mkdtemp()) / "small.safetensors"
    >>> save_network(build_network({"width": 2}), path, {"seed": "0"})
    >>> load_network(path).config.width, read_metadata(path)["seed"]
    (2, '0')
    """
    metadata = {"run": network.run, **(extra or {}), "config": json.dumps(asdict(network.config))}
    save_tensors(path, network.state_dict(), metadata)


def load_network(name_or_path: str | Path) -> IndicativeNetwork:
    """A trained network, shipped or from a file of `save_network`, in eval mode on the CPU.

    Raises FileNotFoundError if there is no such file, and ValueError if the name is unknown, or the
    file is not a whole, finite network of its own config.

    Examples
    --------
    >>> load_network("bass")
    Traceback (most recent call last):
    ValueError: network 'bass' is not known; choose from ... or give a .safetensors file.
    """
    path = _find_network(name_or_path)
    metadata, tensors = load_tensors(path)
    if "config" not in metadata:
        raise ValueError(f"{path} holds no network config; give a file made by save_network.")
    try:
        with torch.device("cpu"):  # and float32, whatever the defaults of the caller
            network = build_network(json.loads(metadata["config"])).float()
    except (ValueError, TypeError, RuntimeError) as error:  # RuntimeError: beyond all memory
        raise ValueError(f"the network config in {path} cannot be used: {error}") from error
    restore(network, tensors, path)
    network.run = metadata.get("run", "")
    return network


def _find_network(name_or_path: str | Path) -> Path:
    """As `find_weights`, but it says what a network's name or file can be."""
    name = str(name_or_path)
    try:
        return find_weights(name_or_path)
    except FileNotFoundError:
        if name.endswith(VERIFIER):
            raise
        if Path(name).suffix or Path(name).name != name:
            raise FileNotFoundError(
                f"there is no network file {name}; give a .safetensors file made by save_network."
            ) from None
    known = ", ".join(name for name in CONFIGS if (WEIGHTS / file_name(name)).is_file())
    raise ValueError(
        f"network {name!r} is not known; choose from {known} or give a .safetensors file."
    )


def save_checkpoint(
    path: Path, fingerprint: str, model: nn.Module, optimiser: torch.optim.Optimizer,
    best: Mapping[str, Tensor], progress: Mapping[str, Any],
) -> None:  # fmt: skip
    """Write all that the next step of a training depends on.

    ``fingerprint`` is what makes two runs the same run, ``best`` the weights of the best validation
    so far, and ``progress`` plain values: where the run stands, and its log.
    """
    tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    tensors |= {f"best.{name}": tensor for name, tensor in best.items()}
    for index, state in optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser.{index}.{name}": tensor for name, tensor in state.items()}
    save_tensors(path, tensors, {"run": fingerprint, "progress": json.dumps(progress)})


class OtherRunError(ValueError):
    """What lies in a folder is of another run: it has other data or settings."""


def check_run(found: str, expected: str, path: str | Path) -> None:
    """OtherRunError, which names what changed, unless two fingerprints of a run are equal."""
    if found != expected:
        before, now = map(_settings, (found, expected))
        names = [key for key in before | now if before.get(key) != now.get(key)]
        changed = f" ({', '.join(names)})" if names else ""
        raise OtherRunError(
            f"{path} belongs to a run with other data or settings{changed}; delete it to start "
            "afresh, or name another folder."
        )


def _settings(run: str) -> dict[str, Any]:
    """The settings of a fingerprint by name, for those that are JSON."""
    try:
        parts = json.loads(run)
        return {
            f"{part} {name}".strip(): value
            for part, values in parts.items()
            for name, value in (values if isinstance(values, dict) else {"": values}).items()
        }
    except (ValueError, AttributeError):
        return {}


def load_checkpoint(
    path: Path, fingerprint: str, model: nn.Module, optimiser: torch.optim.Optimizer,
    parse: Callable[[str], P],
) -> tuple[dict[str, Tensor], P]:  # fmt: skip
    """Restore model and optimiser in place; return the best weights, and the progress parsed.

    Raises OtherRunError if the file is of another run, and ValueError if it is no checkpoint: then
    model and optimiser are as they were.
    """
    metadata, tensors = load_tensors(path)
    if not {"run", "progress"} <= metadata.keys():
        raise ValueError(f"{path} is not a checkpoint: it lacks run or progress.")
    check_run(metadata["run"], fingerprint, path)
    parts = {name: _under(f"{name}.", tensors) for name in ("model", "best", "optimiser")}
    for name in ("model", "best"):
        check_tensors(parts[name], model.state_dict(), path)
    weights = [weight for group in optimiser.param_groups for weight in group["params"]]
    moments = {
        name: weights[int(name.split(".")[0])] if tensor.ndim else tensor
        for name, tensor in parts["optimiser"].items()
    }
    check_tensors(parts["optimiser"], moments, path)
    states: dict[int, dict[str, Tensor]] = {}
    for name, tensor in parts["optimiser"].items():
        index, part = name.split(".", 1)
        states.setdefault(int(index), {})[part] = tensor
    progress = parse(metadata["progress"])
    model.load_state_dict(parts["model"])
    groups = optimiser.state_dict()["param_groups"]
    optimiser.load_state_dict({"state": states, "param_groups": groups})
    return parts["best"], progress


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
