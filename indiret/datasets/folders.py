"""The photos of a folder, and all that is passed over in it; and where the cache lies.

Chapter: *Your own photos*.
"""

import os
from collections import defaultdict
from pathlib import Path

from indiret.images import EXTENSIONS, printable

THUMBNAILS = ("@eaDir", ".thumbnails")  # folders that network storage and desktops fill
INDEX_MARK = ".indiret-index"  # a file that makes a folder an index, which is no part of the photos


def find_images(folder: str | Path) -> list[Path]:
    """The image files of a folder and its subfolders, as `list_folder` finds them.

    Raises FileNotFoundError if the folder is missing, is a file, or holds no image.

    Examples
    --------
    >>> [path.name for path in find_images(Path(__file__).parents[1] / "data/toytown/test")][:1]
    ['chapel_tower_118388.jpg']
    """
    found, passed = list_folder(folder)
    if not found:
        other = ", ".join(f"{len(paths)} {kind}" for kind, paths in passed.items())
        raise FileNotFoundError(
            f"The folder {printable(folder)} holds no image{other and f' (but {other})'}; files "
            f"ending in {', '.join(sorted(EXTENSIONS))} are looked for, in subfolders too."
        )
    return found


def list_folder(folder: str | Path) -> tuple[list[Path], dict[str, list[Path]]]:
    """The image files of a folder and its subfolders, in the order of their paths, and the rest.

    The rest is by kind: other files by extension, hidden names, thumbnails, what is no regular
    file, folders that cannot be opened, links to folders that are listed already or hold the link.
    A folder that is an index of `indiret.index` is in neither.
    Raises FileNotFoundError if the folder is missing or a file.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for name in ("a.jpg", "b.DNG", "c.dng", "._a.jpg"):
    ...         Path(folder, name).touch()
    ...     images, rest = list_folder(folder)
    >>> [path.name for path in images], {kind: len(paths) for kind, paths in rest.items()}
    (['a.jpg'], {'hidden': 1, '.dng': 2})
    """
    folder = Path(folder)
    if not os.path.isdir(folder):
        problem = "is a file" if os.path.exists(folder) else "does not exist"
        raise FileNotFoundError(f"The folder {printable(folder)} {problem}; give one of photos.")
    found: list[Path] = []
    rest: dict[str, list[Path]] = defaultdict(list)
    seen, folders, links = set(), [folder], list[Path]()  # links come last: real names are better
    while folders or links:
        where = folders.pop() if folders else links.pop(0)
        try:
            with os.scandir(where) as entries:
                inside = sorted(entries, key=lambda entry: entry.name)
        except OSError:
            rest["folders that cannot be opened"].append(where)
            continue
        if (real := os.path.realpath(where)) in seen:
            rest["folders linked again"].append(where)
            continue
        seen.add(real)
        if any(entry.name == INDEX_MARK for entry in inside):
            continue
        for entry in inside:
            path, link = where / entry.name, entry.is_symlink()
            if entry.name in THUMBNAILS or entry.name.startswith("."):
                kind = rest["thumbnails" if entry.name in THUMBNAILS else "hidden"]
            elif os.path.isdir(path) if link else entry.is_dir():
                loop = link and Path(real).is_relative_to(os.path.realpath(path))
                kind = rest["folders linked again"] if loop else links if link else folders
            elif path.suffix.lower() not in EXTENSIONS:
                kind = rest[path.suffix.lower() or "without extension"]
            else:
                # Where a link leads nowhere, reading will say so.
                regular = (
                    os.path.isfile(path) or not os.path.exists(path) if link else entry.is_file()
                )
                kind = found if regular else rest["not regular files"]
            kind.append(path)
    return sorted(found, key=Path.as_posix), dict(rest)


def cache_folder() -> Path:
    """``INDIRET_CACHE``, or indiret in ``XDG_CACHE_HOME`` or ~/.cache: what can be made again."""
    if own := os.environ.get("INDIRET_CACHE"):
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "indiret"
