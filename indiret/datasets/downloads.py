"""Fetch the Oxford and Paris benchmarks, and verify what is there.

A download goes on where it broke off and takes its name only when whole; an archive is looked
through before any of its files is put in place, and nothing that exists is overwritten.

Chapter: *Reproducing the tables*.
"""

import filecmp
import gzip
import hashlib
import http.client
import shutil
import socket
import tarfile
import threading
import time
import urllib.error
import urllib.request
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from tqdm import tqdm

from indiret.datasets.dataset import RetrievalDataset, why_gone
from indiret.datasets.files import (
    MAX_DOWNLOAD,
    MAX_MEMBER,
    MAX_MEMBERS,
    MAX_RATIO,
    MAX_UNPACKED,
    reason,
)
from indiret.datasets.groundtruth import BENCHMARKS, TABLES
from indiret.datasets.loaders import load_dataset
from indiret.datasets.pickles import read_plain_pickle
from indiret.datasets.writing import hold_lock
from indiret.images import read_image

TIMEOUT = 60  # seconds without a byte, after which a connection counts as broken
SLOWEST = 1000  # bytes a second; a connection that brings less for that long is broken, too
ATTEMPTS = 5  # connections in a row that bring nothing before we give up
PAUSE = 2.0  # seconds before the second of them; then doubled each time
CHUNK = 1 << 20
FREE = 10**9  # bytes to be left on the disk
# What tarfile and gzip raise on a broken archive; RecursionError: a header upon a header upon ...
BROKEN = (tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError, RecursionError)


class ArchiveError(ValueError):
    """An archive that is broken or hostile; fetched anew, it may be whole."""


class Source(NamedTuple):
    """One file that a publisher offers; None where no public source gives size or checksum."""

    url: str
    into: str  # the folder for it, or for what an archive holds
    suffix: str | None = None  # of the files wanted from an archive; None: the file itself
    size: int | None = None  # bytes
    checksum: str | None = None  # md5:... or sha256:...

    @property
    def file(self) -> str:
        return self.url.rpartition("/")[2]


SOURCES = {
    name: tuple(Source(**source) for source in table["sources"])
    for name, table in TABLES["benchmarks"].items()
}


def dataset_info(name: str) -> str:
    """What a benchmark is, where it comes from, what it needs, and under which terms.

    Examples
    --------
    >>> print(dataset_info("roxford5k").splitlines()[0])
    roxford5k: 4,993 photos to search, 70 queries of 11 landmarks that are no part of them
    """
    sources, benchmark = _sources(name), BENCHMARKS[name]
    outside = " that are no part of them" if benchmark.revisited else ", each its own first answer"
    lines = [
        f"{name}: {benchmark.photos:,} photos to search, {len(benchmark.landmarks)} queries of "
        f"{len(set(benchmark.landmarks))} landmarks{outside}"
    ]
    if benchmark.corrupt:
        lines.append(f"{len(benchmark.corrupt)} more photos are corrupt and left out")
    for source in sources:
        size = f"{source.size:,} bytes" if source.size else "size not published"
        lines.append(f"{source.url}\n  {size}, {source.checksum or 'no checksum published'}")
    lines.append("Disk: about 5 GB, of which 2.5 GB are archives that may be deleted afterwards")
    return "\n".join((*lines, *TABLES["notes"]))


def fetch_dataset(name: str, root: Path) -> None:
    """Fill ``root`` with a benchmark; archives are kept in ``root/downloads``.

    Raises ValueError if a file or an archive is not what it should be, and OSError if the server
    cannot be reached or the disk is full: called again, it goes on.
    """
    sources, downloads = _sources(name), root / "downloads"
    with hold_lock(downloads / ".lock", str(root)):
        for source in sources:
            _fetch(source, root, downloads / source.file)


def _fetch(source: Source, root: Path, kept: Path) -> None:
    done, target = kept.with_name(source.file + ".done"), root / source.into
    if not source.suffix:
        target /= source.file
    if done.exists() and target.exists() and (source.suffix or _is_whole(target)):
        return
    if done.exists() and not source.suffix:  # broken since then, and ours
        target.unlink(missing_ok=True)
    if not kept.exists():
        download(source, kept)
    try:
        if source.suffix:
            unpack(kept, target, source.suffix)
        elif _is_whole(kept):
            _put(kept, target)
        else:
            raise ArchiveError(f"{kept} is not a whole pickle.")
    except ArchiveError as error:
        kept.unlink()
        raise ArchiveError(f"{error} It was removed; call again to fetch it anew.") from error
    done.touch()


def _is_whole(path: Path) -> bool:
    try:
        read_plain_pickle(path)
    except ValueError:
        return False
    return True


def download(source: Source, target: Path) -> None:
    """Download one file, whole or not at all, going on from ``<target>.part`` if there is one."""
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(target.name + ".part")
    free = shutil.disk_usage(target.parent).free
    if free < (source.size or 0) + FREE:
        raise OSError(f"{target.parent} has {free / 1e9:.1f} GB free, too little for {source.url}.")
    _receive_all(source, part)
    problem = None
    if source.size and part.stat().st_size != source.size:
        problem = f"has {part.stat().st_size:,} bytes instead of {source.size:,}"
    elif source.checksum:
        kind, _, expected = source.checksum.partition(":")
        with open(part, "rb") as file:
            found = hashlib.file_digest(file, kind).hexdigest()
        problem = f"has the {kind} {found} instead of {expected}" if found != expected else None
    if problem:
        part.unlink()
        raise ValueError(f"{source.url} {problem}, and was removed; it may have been replaced.")
    part.replace(target)


def _receive_all(source: Source, part: Path) -> None:
    """Fill the part, with a new connection wherever one breaks off."""
    failures = 0
    with tqdm(total=source.size, desc=source.file, unit="B", unit_scale=True, disable=None) as bar:
        while True:
            before = part.stat().st_size if part.exists() else 0
            bar.update(before - bar.n)
            try:
                for size in _receive(source, part, before):
                    bar.update(size)
                break
            except urllib.error.HTTPError as error:
                error.close()
                if error.code == 416:  # nothing follows: the part is whole, or of another file
                    if error.headers.get("Content-Range", "").endswith(f"/{before}"):
                        break
                    part.unlink(missing_ok=True)
                elif error.code < 500 and error.code not in (408, 429):
                    answer = " ".join(f"{error.code} {error.reason}".split())
                    raise OSError(f"{source.url}: the server says {answer}.") from error
                problem = str(error)
            except (OSError, http.client.HTTPException) as error:
                problem = str(error) or type(error).__name__
            came = part.stat().st_size if part.exists() else 0
            failures = 0 if came - before > SLOWEST * TIMEOUT else failures + 1
            if failures == ATTEMPTS:
                raise OSError(
                    f"{source.url} could not be fetched ({problem}); the {came:,} bytes that came "
                    "are kept, so call again to go on."
                )
            time.sleep(PAUSE * 2**failures / 2)


class _WithinTime(http.client.HTTPConnection):
    """A connection whose header comes within `TIMEOUT`, however slowly the server drips it."""

    def getresponse(self) -> http.client.HTTPResponse:
        late = threading.Event()

        def hang_up(connection: socket.socket) -> None:
            late.set()
            with suppress(OSError):  # it is closed already
                connection.shutdown(socket.SHUT_RDWR)

        timer = threading.Timer(TIMEOUT, hang_up, [self.sock])
        timer.start()
        try:
            return super().getresponse()
        finally:
            timer.cancel()
            if late.is_set():
                raise ConnectionError(f"its header does not come within {TIMEOUT} seconds")


class _SecureWithinTime(_WithinTime, http.client.HTTPSConnection):
    """The same of ``https``."""


class _Handler(urllib.request.HTTPHandler, urllib.request.HTTPSHandler):
    def http_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_WithinTime, request)

    def https_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_SecureWithinTime, request)


def _receive(source: Source, part: Path, have: int) -> Iterator[int]:
    """Append what the server sends to the part, yielding the size of each chunk."""
    headers = {"User-Agent": "indiret"} | ({"Range": f"bytes={have}-"} if have else {})
    request = urllib.request.Request(source.url, headers=headers)
    opener = urllib.request.build_opener(_Handler)
    with opener.open(request, timeout=TIMEOUT) as response:
        if have and response.status != 206:  # the server starts anew
            have = 0
        length = response.headers.get("Content-Length")
        total = have + int(length) if length and length.isdecimal() else None
        limit = source.size or MAX_DOWNLOAD
        if (source.size and total not in (None, source.size)) or (total or 0) > limit:
            part.unlink(missing_ok=True)
            raise ValueError(
                f"{source.url}: the server offers {total:,} bytes where at most {limit:,} were "
                "expected; the file may have been replaced."
            )
        with open(part, "ab" if have else "wb") as file:
            since, before = time.monotonic(), have
            while chunk := response.read1(CHUNK):  # not read: it loses what came before a stall
                have += len(chunk)
                if (now := time.monotonic()) > since + TIMEOUT:
                    if have - before < SLOWEST * TIMEOUT:
                        raise ConnectionError(f"it brings less than {SLOWEST} bytes a second")
                    since, before = now, have
                if have > limit:
                    file.close()
                    part.unlink()
                    raise ValueError(f"{source.url} brings more than {limit:,} bytes.")
                file.write(chunk)
                yield len(chunk)
    if total is not None and have < total:
        raise ConnectionError(f"it broke off after {have:,} of {total:,} bytes")


class _CarefulGzip(gzip.GzipFile):
    """Never more than `MAX_MEMBER` bytes at once or `MAX_RATIO` times the archive in all."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._most = MAX_RATIO * path.stat().st_size + MAX_MEMBER

    def read(self, size: int | None = -1) -> bytes:
        if size is None or not 0 <= size <= MAX_MEMBER:
            raise ValueError(f"it asks for {size} bytes at once")
        if self.tell() > self._most:
            raise ValueError(f"it unpacks to more than {MAX_RATIO} times its size")
        return super().read(size)


def unpack(archive: Path, folder: Path, suffix: str) -> None:
    """Put the files of a ``.tgz`` into a folder, side by side, once all of them are checked.

    Only the contents of files with this suffix are taken; folders, rights and owners are our own.
    Raises ArchiveError, and puts nothing in place, if it is broken, holds a link or a device, a
    name that leads outside, one name twice, or too many or too large files.
    """
    staging = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    try:
        try:
            with _CarefulGzip(archive) as stream:
                with tarfile.open(fileobj=stream, mode="r:") as members:
                    _stage(members, staging, suffix)
                while stream.read(CHUNK):  # to the end, where gzip compares its CRC
                    pass
        except (*BROKEN, ValueError) as error:
            raise ArchiveError(f"{archive} was not unpacked: {reason(error)}.") from error
        for path in sorted(staging.iterdir()):
            _put(path, folder / path.name)
    finally:
        shutil.rmtree(staging)


def _stage(members: tarfile.TarFile, staging: Path, suffix: str) -> None:
    total = 0
    for number, member in enumerate(tqdm(members, desc="unpacking", unit="file", disable=None)):
        path = PurePosixPath(member.name)
        total += member.size
        if path.is_absolute() or ".." in path.parts or "\\" in member.name:
            raise ValueError(f"the name {member.name!r} in it leads outside")
        if number >= MAX_MEMBERS or total > MAX_UNPACKED or member.size > MAX_MEMBER:
            raise ValueError(f"at {member.name!r} it holds too many or too large files")
        if member.isdir():
            continue
        if not member.isreg():
            raise ValueError(f"{member.name!r} in it is a link or a device, not a file")
        if path.suffix != suffix or path.name.startswith("."):
            continue
        if (staging / path.name).exists():
            raise ValueError(f"it holds {path.name!r} twice")
        source = members.extractfile(member)
        assert source is not None  # since it is a file
        with source, open(staging / path.name, "xb") as file:
            shutil.copyfileobj(source, file)


def _put(path: Path, target: Path) -> None:
    """Move a file to its place, unless another one is there."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if not target.exists():
        path.rename(target)
    elif not filecmp.cmp(path, target, shallow=False):
        raise ValueError(f"{target} is there already with other content; move it away.")


class Verification(NamedTuple):
    """What a folder holds of a benchmark, and a sentence for everything that is wrong."""

    photos: int
    queries: int
    problems: tuple[str, ...]


def verify_dataset(name: str, root: Path) -> Verification:
    """Compare a folder with a benchmark at full size: counts, answers, and every photo decoded."""
    _sources(name)
    dataset, benchmark = load_dataset(name, root), BENCHMARKS[name]
    problems = [f"{what}: {why}" for what, why in dataset.skipped if what not in benchmark.corrupt]
    for what, found, expected in (
        ("photos", len(dataset.images), benchmark.photos),
        ("queries", len(dataset.queries), len(benchmark.landmarks)),
        ("landmarks", len(dataset.landmarks), len(set(benchmark.landmarks))),
    ):
        if found != expected:
            problems.append(f"There are {found:,} {what} instead of {expected:,}.")
    if not problems and answers_digest(dataset) != TABLES["benchmarks"][name]["answers"]:
        problems.append("The answers of the queries are not those of the published ground truth.")
    photos = {**dataset.images, **dataset.query_images}
    paths = tqdm(photos.values(), desc="decoding", unit="photo", disable=None)
    problems += why_gone(paths, read_image).values()
    return Verification(len(dataset.images), len(dataset.queries), tuple(problems))


def answers_digest(dataset: RetrievalDataset) -> str:
    """A SHA-256 of the queries' photos and answers, the same from texts and from a pickle.

    An original pickle does not part answers into good and ok, so that only their union counts.
    """
    lines = []
    for query in dataset.queries:
        kinds = (query.good, query.ok) if dataset.revisited else (query.positives,)
        answers = [sorted(names) for names in (*kinds, query.junk)]
        lines.append(f"{query.landmark} {query.image} {answers}")
    return hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()


def _sources(name: str) -> tuple[Source, ...]:
    if name not in SOURCES:
        raise ValueError(f"{name!r} cannot be fetched; choose one of {', '.join(SOURCES)}.")
    return SOURCES[name]
