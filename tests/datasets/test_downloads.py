"""`indiret.datasets.downloads`: a server that stalls, truncates and lies, and hostile archives."""

import gzip
import hashlib
import io
import os
import pickle
import socketserver
import tarfile
import threading
import time
from http.server import BaseHTTPRequestHandler

import pytest
from PIL import Image

from indiret.cli import main
from indiret.datasets import downloads
from indiret.datasets.downloads import (
    SOURCES,
    Source,
    dataset_info,
    download,
    fetch_dataset,
    unpack,
    verify_dataset,
)
from tests.datasets.test_groundtruth import small_truth, stand_ins

BODY = bytes(range(256)) * 4000  # 1,024,000 bytes


class Handler(BaseHTTPRequestHandler):
    """Serves `server.files`; how it misbehaves is the first part of the path."""

    def log_message(self, *arguments):
        pass

    def do_GET(self):
        _, how, name = self.path.split("/", 2)
        self.server.asked.append(self.headers.get("Range"))
        body = self.server.files[name]
        times = len(self.server.asked)
        if how == "circle":
            self.send_response(302)
            self.send_header("Location", self.path)
            self.end_headers()
            return
        if how == "drips-header":
            for sign in b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100:
                self.wfile.write(bytes([sign]))
                time.sleep(0.05)
            return
        if how == "404" or (how == "busy" and times < 3):
            self.send_error(503 if how == "busy" else 404)
            return
        start = 0
        if self.headers.get("Range") and how != "rangeless":
            start = int(self.headers["Range"].removeprefix("bytes=").removesuffix("-"))
        if start and start >= len(body):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(body)}")
            self.end_headers()
            return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        rest = body[start:]
        claimed = len(rest) + {"claims_less": -1000, "claims_more": 1000}.get(how, 0)
        if how not in ("endless", "silent"):
            self.send_header("Content-Length", str(claimed))
        self.end_headers()
        if how in ("truncates", "stalls"):  # a third of the file at a time
            self.wfile.write(rest[:350_000])
            self.wfile.flush()
            if how == "stalls" and len(rest) > 350_000:
                time.sleep(1)
        elif how == "endless":
            try:
                while True:
                    self.wfile.write(BODY)
            except OSError:
                pass
        elif how == "drips":
            for at in range(100):
                self.wfile.write(rest[at : at + 1])
                time.sleep(0.05)
        elif how != "empty":
            self.wfile.write(rest)


class Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True

    def handle_error(self, request, address):
        pass  # a client that hangs up is what some tests are about


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(downloads, "TIMEOUT", 0.4)
    monkeypatch.setattr(downloads, "PAUSE", 0)
    monkeypatch.setattr(downloads, "FREE", 0)
    with Server(("127.0.0.1", 0), Handler) as running:
        running.files, running.asked = {"a.tgz": BODY}, []
        running.address = f"http://127.0.0.1:{running.server_address[1]}"
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield running
        running.shutdown()


def source(server, how, **known):
    return Source(f"{server.address}/{how}/a.tgz", "images", ".jpg", **known)


MD5 = "md5:" + hashlib.md5(BODY).hexdigest()


@pytest.mark.parametrize("how", ["well", "truncates", "stalls", "busy", "silent", "claims_more"])
@pytest.mark.parametrize("known", [{}, {"checksum": MD5}], ids=["unknown", "known"])
def test_comes_whole(server, tmp_path, how, known):
    download(source(server, how, **known), tmp_path / "in" / "a.tgz")
    assert (tmp_path / "in" / "a.tgz").read_bytes() == BODY
    assert os.listdir(tmp_path / "in") == ["a.tgz"]
    if how in ("truncates", "stalls"):
        assert server.asked == [None, "bytes=350000-", "bytes=700000-"]


@pytest.mark.parametrize("how", ["well", "rangeless"])
@pytest.mark.parametrize("came", [1, 500_000, len(BODY), len(BODY) + 1])
def test_goes_on_after_a_kill(server, tmp_path, how, came):
    """A part that is longer than the file is dropped."""
    (tmp_path / "a.tgz.part").write_bytes((BODY + b"x")[:came])
    download(source(server, how, checksum=MD5), tmp_path / "a.tgz")
    assert (tmp_path / "a.tgz").read_bytes() == BODY
    assert server.asked[0] == f"bytes={came}-"


@pytest.mark.parametrize(
    ("how", "known", "kind", "words"),
    [
        ("404", {}, OSError, "the server says 404"),
        ("circle", {}, OSError, "the server says 302 .* infinite loop"),
        ("drips", {}, OSError, r"could not be fetched \(it brings less than 1000 bytes a second"),
        ("drips-header", {}, OSError, r"\(its header does not come within 0.4 seconds\)"),
        ("empty", {}, OSError, r"could not be fetched \(it broke off after 0 of 1,024,000"),
        ("claims_more", {"size": len(BODY)}, ValueError, "offers 1,025,000 bytes where at most"),
        ("claims_less", {"size": len(BODY)}, ValueError, "offers 1,023,000 bytes"),
        ("claims_less", {"checksum": MD5}, ValueError, "has the md5 .* instead of .* removed"),
        ("well", {"size": 5}, ValueError, "offers 1,024,000 bytes where at most 5"),
        ("silent", {"size": 2_000_000}, ValueError, "has 1,024,000 bytes instead of 2,000,000"),
        ("endless", {"size": len(BODY)}, ValueError, "brings more than 1,024,000 bytes"),
        ("well", {"checksum": "sha256:00"}, ValueError, "has the sha256 .* instead of 00"),
    ],
)
def test_refuses(server, tmp_path, monkeypatch, how, known, kind, words):
    monkeypatch.setattr(downloads, "ATTEMPTS", 2)
    with pytest.raises(kind, match=words) as caught:
        download(source(server, how, **known), tmp_path / "a.tgz")
    assert "\n" not in str(caught.value) and not (tmp_path / "a.tgz").exists()
    if kind is ValueError:
        assert os.listdir(tmp_path) == []


def test_a_full_disk_is_told_before_and_then_nobody_answers(server, tmp_path, monkeypatch):
    monkeypatch.setattr(downloads, "FREE", 10**18)
    with pytest.raises(OSError, match="GB free, too little"):
        download(source(server, "well"), tmp_path / "a.tgz")
    assert not server.asked
    server.shutdown()
    server.server_close()
    monkeypatch.setattr(downloads, "FREE", 0)
    with pytest.raises(OSError, match=r"could not be fetched .* 0 bytes that came are kept"):
        download(source(server, "well"), tmp_path / "a.tgz")


def member(name, content=b"x", **fields):
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for field, value in fields.items():
        setattr(info, field, value)
    return info, io.BytesIO(content)


def archive(path, *members):
    with tarfile.open(path, "w:gz") as file:
        for info, content in members:
            file.addfile(info, content)
    return path


def test_unpacks_side_by_side(tmp_path):
    path = archive(
        tmp_path / "a.tgz",
        (member("paris", type=tarfile.DIRTYPE, content=b"")),
        member("paris/eiffel/a.jpg", b"one", mode=0o4777),
        member("./b.jpg", b"two"),
        member("paris/._b.jpg", b"from a Mac"),
        member("readme.txt", b"text"),
    )
    unpack(path, tmp_path / "images", ".jpg")
    found = {file.name: file.read_bytes() for file in (tmp_path / "images").iterdir()}
    assert found == {"a.jpg": b"one", "b.jpg": b"two"}
    assert sorted(os.listdir(tmp_path)) == ["a.tgz", "images"]
    assert not (tmp_path / "images" / "a.jpg").stat().st_mode & 0o7111
    unpack(path, tmp_path / "images", ".jpg")  # a second time is no harm


LINK = {"linkname": "/etc/passwd", "content": b""}
HOSTILE = [
    ([member("/tmp/evil.jpg")], "leads outside"),
    ([member("a/../../evil.jpg")], "leads outside"),
    ([member("..\\evil.jpg")], "leads outside"),
    ([member("a.jpg", type=tarfile.SYMTYPE, **LINK)], "is a link or a device"),
    ([member("a.jpg", type=tarfile.LNKTYPE, **LINK)], "is a link or a device"),
    ([member("a.jpg", type=tarfile.FIFOTYPE, content=b"")], "is a link or a device"),
    ([member("a.jpg", type=tarfile.CHRTYPE, content=b"")], "is a link or a device"),
    ([member("x/a.jpg"), member("y/a.jpg")], "holds 'a.jpg' twice"),
    ([member("a.jpg", bytes(3000))], "too many or too large"),
    ([member(f"{n}.jpg", bytes(900)) for n in range(4)], "too many or too large"),
    ([member(f"{n}.jpg", b"") for n in range(11)], "too many or too large"),
    ([member(f"{n}", b"", type=tarfile.DIRTYPE) for n in range(11)], "too many or too large"),
    ([member("a" * 5000 + ".jpg")], "asks for 5120 bytes at once"),
]


@pytest.mark.parametrize(("members", "words"), HOSTILE)
def test_hostile_archives_put_nothing_in_place(tmp_path, monkeypatch, members, words):
    limits = {"MAX_MEMBER": 2048, "MAX_MEMBERS": 10, "MAX_UNPACKED": 3000, "MAX_RATIO": 10**6}
    for name, value in limits.items():
        monkeypatch.setattr(downloads, name, value)
    inside = tmp_path / "in" / "root"
    inside.mkdir(parents=True)
    path = archive(inside / "a.tgz", member("good.jpg"), *members)
    with pytest.raises(ValueError, match=words) as caught:
        unpack(path, inside / "images", ".jpg")
    assert "was not unpacked" in str(caught.value)
    assert [file for file in tmp_path.rglob("*") if file.is_file()] == [path]


def test_broken_archives_and_bombs(tmp_path, monkeypatch):
    monkeypatch.setattr(downloads, "MAX_MEMBER", 100_000)
    whole = archive(tmp_path / "a.tgz", member("a.jpg", os.urandom(50_000))).read_bytes()
    swapped = bytearray(whole)
    swapped[-6] ^= 1  # in the CRC
    plain, zeros = gzip.compress(b"not a tar archive" * 100), gzip.compress(bytes(10**7))
    name = member("././@LongLink", b"a" * 100, type=tarfile.GNUTYPE_LONGNAME)[0].tobuf()
    nested = gzip.compress((name + b"a" * 512) * 3000)
    broken = (b"", b"text", plain, whole[:30_000], bytes(swapped), whole[:-4])
    for content in (*broken, zeros, whole + zeros, nested):
        (tmp_path / "b.tgz").write_bytes(content)
        with pytest.raises(ValueError, match=r"b\.tgz was not unpacked"):
            unpack(tmp_path / "b.tgz", tmp_path / "images", ".jpg")
        assert sorted(os.listdir(tmp_path)) == ["a.tgz", "b.tgz"]


@pytest.fixture
def published(server, tmp_path, monkeypatch):
    """A small roxford5k on the server: two photos and a pickle of the right counts."""
    photo = io.BytesIO()
    Image.new("RGB", (80, 60)).save(photo, "JPEG")
    names = ["query_000000", "town_000000"]
    archive(tmp_path / "made.tgz", *(member(f"{n}.jpg", photo.getvalue()) for n in names))
    server.files["photos.tgz"] = (tmp_path / "made.tgz").read_bytes()
    server.files["gnd_roxford5k.pkl"] = pickle.dumps(small_truth())
    sources = (
        Source(f"{server.address}/truncates/photos.tgz", "images", ".jpg"),
        Source(f"{server.address}/truncates/gnd_roxford5k.pkl", "."),
    )
    monkeypatch.setitem(downloads.SOURCES, "roxford5k", sources)
    return tmp_path / "root"


def test_fetch_from_the_command(published, server, capsys):
    assert main(["data", "fetch", "roxford5k", "--root", str(published)]) == 0
    out = capsys.readouterr().out
    assert "Flickr's terms" in out and "blurred" in out and "no checksum published" in out
    assert sorted(os.listdir(published / "images")) == ["query_000000.jpg", "town_000000.jpg"]
    asked = len(server.asked)
    fetch_dataset("roxford5k", published)
    assert len(server.asked) == asked  # nothing is fetched twice

    assert main(["data", "verify", "roxford5k", "--root", str(published)]) == 2
    captured = capsys.readouterr()
    assert "There are 1 photos instead of 4,993." in captured.err
    assert "town_000001: named in" in captured.err and "all_souls_2: its photo" in captured.err
    assert "indiret: " in captured.err.splitlines()[-1]


@pytest.mark.parametrize("name", ["photos.tgz", "gnd_roxford5k.pkl"])
def test_what_is_broken_is_fetched_anew(published, server, name):
    whole = server.files[name]
    server.files[name] = whole[:-20]
    with pytest.raises(ValueError, match=rf"{name} (was|is) not .*call again to fetch it anew"):
        fetch_dataset("roxford5k", published)
    server.files[name] = whole
    fetch_dataset("roxford5k", published)
    truth = published / "gnd_roxford5k.pkl"
    for spoil in (lambda: truth.write_bytes(b""), truth.unlink):
        spoil()
        fetch_dataset("roxford5k", published)
        assert truth.read_bytes() == server.files["gnd_roxford5k.pkl"]
    assert len(os.listdir(published / "images")) == 2


def test_of_two_fetches_at_once_one_waits(published, server, capsys):
    threads = [threading.Thread(target=fetch_dataset, args=("roxford5k", published)) for _ in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    said = capsys.readouterr().err
    assert said.count("waiting") == 1 and f"{published}: process {os.getpid()} on " in said
    assert len(os.listdir(published / "images")) == 2
    assert server.asked.count(None) == 2  # once for each file


@pytest.mark.parametrize("name", ["gnd_roxford5k.pkl", "images/query_000000.jpg"])
def test_nothing_is_overwritten(published, name):
    (published / "images").mkdir(parents=True)
    (published / name).write_bytes(b"mine")
    with pytest.raises(ValueError, match=f"{name} is there already with other content"):
        fetch_dataset("roxford5k", published)
    assert (published / name).read_bytes() == b"mine"


def test_descriptions(capsys):
    assert main(["data", "info", "oxford5k"]) == 0
    assert capsys.readouterr().out == dataset_info("oxford5k") + "\n"
    for name in SOURCES:
        for words in ("Flickr", "withdrawn", "https://www.robots.ox.ac.uk", "Disk: "):
            assert words in dataset_info(name)
    with pytest.raises(ValueError, match=f"choose one of {', '.join(SOURCES)}"):
        dataset_info("oxford")


def test_verify_decodes_every_photo_and_knows_the_answers(tmp_path):
    truth = small_truth("oxford5k")
    stand_ins(tmp_path / "images", truth["imlist"], size=(80, 60))
    (tmp_path / "gnd_oxford5k.pkl").write_bytes(pickle.dumps(truth))
    photo = tmp_path / "images" / "town_000900.jpg"
    whole = photo.read_bytes()
    photo.unlink()
    photo.write_bytes(whole[:-30])
    problems = verify_dataset("oxford5k", tmp_path).problems
    assert len(problems) == 2
    assert "not those of the published ground truth" in problems[0]
    assert "town_000900.jpg is truncated" in problems[1]
