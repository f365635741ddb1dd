"""Groups of photos of one thing: each photo asks for the others, and whoever answers joins it.

Chapter: *From pairs to collections*.
"""

import numpy as np
from tqdm import tqdm

from indiret.images import ImageError
from indiret.index.collection import Collection

_SAME = 0.85  # probability from which a pair shows one thing: one wrong pair joins two groups


def find_duplicates(collection: Collection, probability: float = _SAME) -> list[list[str]]:
    """Names of files in groups of two or more, large groups first.

    Two files are of one group if they are copies, if one finds the other with ``probability`` or
    more, or if a chain of such pairs joins them. Raises ValueError if the collection's retriever
    gives no probabilities.

    Examples
    --------
    >>> import shutil, tempfile
    >>> from pathlib import Path
    >>> from indiret.datasets import load_dataset
    >>> town, folder = load_dataset("toytown", split="validation"), Path(tempfile.mkdtemp())
    >>> for number, path in enumerate([*town.images.values()][:2]):
    ...     copies = [shutil.copy(path, folder / f"{number}{copy}.jpg") for copy in "ab"]
    >>> with Collection.open(folder, out=folder / "index") as collection:
    ...     changes = collection.update()
    ...     find_duplicates(collection, probability=1.1)
    [['0a.jpg', '0b.jpg'], ['1a.jpg', '1b.jpg']]
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    if collection.retriever.probability(np.zeros(1)) is None:
        raise ValueError("this method gives no probabilities; choose one that does: plane-net.")
    photos = collection.photos()
    names = [name for copies in photos for name in copies]
    places = {name: place for place, copies in enumerate(photos) for name in copies}
    pairs: list[tuple[int, int]] = []
    for copies in tqdm(photos, desc="comparing", unit="photo", disable=None):
        try:
            hits = collection.search(collection.folder / copies[0], top=len(names))
        except (ImageError, OSError):  # gone since the update
            continue
        found = {places[hit.name] for hit in hits if (hit.probability or 0) >= probability}
        pairs += [(places[copies[0]], other) for other in found]
    rows, columns = np.array(pairs, dtype=np.intp).reshape(-1, 2).T
    graph = coo_array((np.ones(len(pairs)), (rows, columns)), shape=(len(photos),) * 2)
    labels = connected_components(graph, directed=False)[1]
    groups: dict[int, list[str]] = {}
    for label, copies in zip(labels.tolist(), photos, strict=True):
        groups.setdefault(label, []).extend(copies)
    several = [sorted(group) for group in groups.values() if len(group) > 1]
    return sorted(several, key=lambda group: (-len(group), group))
