"""Draw regions of interest on photos, and accept or reject proposed ones, in a notebook.

Every change is saved at once (`indiret.datasets.RegionFile`), so that work of weeks can be stopped
and taken up at any photo. In a page without a kernel a few photos can be tried; nothing is kept.

Chapter: *Your own photos*.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Sequence
from typing import Any

from indiret.datasets import PhotoRegions, Region, RegionFile, RetrievalDataset, check_shape
from indiret.figures import jpeg, shrink_picture
from indiret.images import ImageError, Picture
from indiret.widgets.base import PageWidget, module_source, traitlets

_LONG_SIDE = 1120  # pixels of a photo that is shown; twice what the widget draws at most
_PAGE_SIDE = 480  # in a page
_MOST_REGIONS = 500  # of one photo
_PAGE_NOTICE = "Try it: draw, accept, reject. A page keeps nothing; a live notebook saves."


class Annotator(PageWidget):
    """Photo after photo: draw boxes and polygons, accept or reject what was proposed.

    By mouse, finger, or keys alone, which are listed below the photo.

    It goes through the photos of these names, in this order (all of the data set if left out), and
    on where it was left, if the file of regions is there.
    ValueError if there is no photo, one is unknown, or the file is no region file.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from indiret.datasets import load_dataset
    >>> town = load_dataset("toytown", split="validation")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     annotator = Annotator(town, Path(folder, "regions.json"))
    ...     annotator.save_regions([Region.from_box((10, 20, 200, 150))])
    ...     annotator.progress
    {'done': 1, 'total': 142}
    """

    _esm = module_source("annotator_regions", "annotator")
    kind = "annotator"
    view = traitlets.Dict().tag(sync=True)  # what is said of the photo shown
    picture = traitlets.Bytes().tag(sync=True)  # its JPEG
    progress = traitlets.Dict().tag(sync=True)
    message = traitlets.Unicode().tag(sync=True)  # what went wrong
    notice = traitlets.Unicode().tag(sync=True)

    def __init__(
        self,
        dataset: RetrievalDataset,
        path: str | os.PathLike[str],
        names: Sequence[str] | None = None,
    ) -> None:
        self._dataset, self._file = dataset, RegionFile(path)
        self._names = list(dataset.images if names is None else names)
        if not self._names:
            raise ValueError("there is no photo to annotate; give one or more names.")
        for name in self._names:
            dataset.path(name)
        self._shown = 0
        super().__init__()
        self.on_msg(self._on_message)
        self.show_photo(self._next_not_done(0))

    @property
    def photos(self) -> dict[str, PhotoRegions]:
        """What the file holds, by name."""
        return self._file.photos

    def show_photo(self, number: int) -> None:
        """Show a photo by its number, from 0; ValueError if there is no such photo."""
        if number not in range(len(self._names)):
            most = len(self._names) - 1
            raise ValueError(f"photo {number} does not exist; give a number from 0 to {most}.")
        view, picture = self._view(number, _LONG_SIDE)
        self._shown += 1
        with self.hold_sync():
            self.picture, self.progress = picture, self._progress()
            self.view = view | {"shown": self._shown}

    def save_regions(self, regions: Sequence[Region], nothing: bool = False) -> None:
        """Replace the regions of the photo shown, and save.

        Corners outside the photo are moved to its edge; ``nothing``: somebody looked, and there is
        nothing to mark. ValueError if a region is hardly in the photo, or somebody else changed
        the file.
        """
        self._save(self.view["number"], regions, nothing)
        self.show_photo(self.view["number"])

    def _save(self, number: int, regions: Sequence[Region], nothing: bool) -> None:
        if len(regions) > _MOST_REGIONS:
            raise ValueError(f"{len(regions)} regions are too many; {_MOST_REGIONS} is the most.")
        shape = self._shape(self._names[number])
        clipped = [region.within(shape) for region in regions]
        name = self._names[number]
        photo = self._file.photo(name, shape, self._dataset.file_name(name))
        before = photo.regions, photo.nothing
        photo.regions, photo.nothing = clipped, nothing
        try:
            self._file.save()
        except (ValueError, OSError):
            photo.regions, photo.nothing = before
            raise
        self.progress = self._progress()

    def _on_message(self, _: Any, message: dict[str, Any], buffers: Any) -> None:
        """What the page asks for: ``open`` a photo, the ``next`` not done, or ``save`` regions."""
        try:
            self.message = ""
            if message["action"] == "save":
                regions = [Region(**region) for region in message["regions"]]
                self._save(_number(message["number"]), regions, message["nothing"] is True)
            elif message["action"] == "open":
                self.show_photo(_number(message["number"]))
            elif message["action"] == "next":
                self.show_photo(self._next_not_done(self.view["number"] + 1))
        except (KeyError, TypeError, ValueError, IndexError, OSError) as error:
            failed = "Not saved" if message.get("action") == "save" else "That cannot be done"
            self.message = f"{failed}: {error}"
            self.show_photo(self.view["number"])  # as it was

    def to_html(self, photos: int = 3) -> str:
        """A piece of HTML in which a few photos, from the one shown on, can be tried."""
        number = self.view["number"]
        views: list[dict[str, Any]] = []
        for place in range(number, min(number + photos, len(self._names))):
            view, picture = self._view(place, _PAGE_SIDE)
            if view["size"]:
                encoded = base64.b64encode(picture).decode()
                views.append(view | {"number": len(views), "jpeg": encoded})
        if not views:
            return "<p>None of these photos can be shown.</p>"
        state = {"photos": views, "number": 0, "message": "", "notice": _PAGE_NOTICE}
        return self._inlined(state)

    def _view(self, number: int, long_side: int) -> tuple[dict[str, Any], bytes]:
        name = self._names[number]
        view: dict[str, Any] = {"number": number, "name": name, "size": None, "problem": ""}
        view |= {"regions": [], "nothing": False, "landmarks": self._landmarks(name)}
        try:
            picture = self._dataset.read(name)
            photo = self.photos.get(name) or PhotoRegions(_size(picture))
            check_shape(self._file.path, name, photo, _size(picture))
        except (ImageError, OSError, ValueError) as error:
            return view | {"problem": str(error)}, b""
        regions = [vars(region) | {"points": list(region.points)} for region in photo.regions]
        view |= {"size": _size(picture), "regions": regions, "nothing": photo.nothing}
        return view, jpeg(shrink_picture(picture, long_side))

    def _shape(self, name: str) -> tuple[int, int]:
        if self.view["name"] == name and self.view["size"]:
            return self.view["size"]
        return _size(self._dataset.read(name))

    def _landmarks(self, name: str) -> list[str]:
        """What the photo may show."""
        queries = self._dataset.queries
        shown = {q.landmark for q in queries if name in q.positives | q.junk | {q.image}}
        return sorted(shown) or [""]

    def _progress(self) -> dict[str, int]:
        done = sum(name in self.photos and self.photos[name].done for name in self._names)
        return {"done": done, "total": len(self._names)}

    def _next_not_done(self, start: int) -> int:
        """From here on and round; the place itself, or the first, if all are done."""
        places = [*range(start, len(self._names)), *range(start)]
        todo = (n for n in places if not self.photos.get(self._names[n], PhotoRegions((1, 1))).done)
        return next(todo, places[0] if start < len(self._names) else 0)


def _size(picture: Picture) -> tuple[int, int]:
    return picture.shape[0], picture.shape[1]


def _number(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise ValueError(f"{value!r} is not the number of a photo.")
    return value
