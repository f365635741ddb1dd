"""A collection's work on a Dask cluster: a `map` whose parts are done by other machines.

`indiret.index.Collection` encodes photos, searches segments and verifies photos in parts that
depend on nothing but their arguments, so its ``map`` may be `cluster_map`. The workers find photos
and index under the same paths. What a lost one did, Dask has done by others.

Chapter: *From pairs to collections*.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

Map = Callable[..., Iterable[Any]]  # `map`, or one whose parts are done beside one another


@contextmanager
def dask_client(scheduler: str, workers: int = 1) -> Iterator[Any]:
    """Client of a Dask scheduler's address; ``"local"`` starts a cluster of so many workers here.

    Raises ImportError if Dask is not installed, and OSError if nobody answers at the address.
    """
    try:
        from distributed import Client, LocalCluster
    except ImportError as error:
        raise ImportError("--scheduler needs Dask: pip install indiret[cluster]") from error
    with ExitStack() as stack:
        address: Any = scheduler
        if scheduler == "local":
            here = LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address=":0")
            address = stack.enter_context(here)
        yield stack.enter_context(Client(address))


def cluster_map(client: Any, function: partial[Any], parts: Iterable[Any]) -> Iterator[Any]:
    """Results of a function for each part, in order, made by the workers of a Dask client.

    What the ``partial`` holds, such as a retriever and a query, is sent once, and from worker to
    worker; it is a task of its own, since data that are scattered are lost with their worker.
    """
    held = [client.submit(_itself, argument, pure=False) for argument in function.args]
    parts = list(parts)
    arguments = ([one] * len(parts) for one in held)
    for future in client.map(function.func, *arguments, parts, pure=False):
        yield future.result()


def _itself(value: Any) -> Any:
    return value
