"""`indiret.datasets.folders`: what is found in a folder, and what is passed over."""

import os

import pytest

from indiret.datasets import find_images, list_folder


def test_a_folder_is_listed_once_and_what_is_passed_over_is_named(tmp_path):
    names = "b/2.JPG b/1.png a.webp .cache/x.jpg b/.x.jpg b/._2.JPG @eaDir/b/2.JPG note.txt README"
    names += " .thumbnails/1.png c.DNG d.dng ../beside/z.jpg"
    for name in names.split():
        (tmp_path / "photos" / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / "photos" / name).touch()
    photos, beside = tmp_path / "photos", tmp_path / "beside"
    for link, target in (
        ("loop", photos), ("up", tmp_path), ("again", photos / "b"), ("other", beside),
        ("same", beside), ("self", photos / "self"), ("gone.jpg", photos / "gone"),
    ):  # fmt: skip
        (photos / link).symlink_to(target)
    (beside / "back").symlink_to(photos)
    os.mkfifo(photos / "pipe.jpg")
    found, rest = list_folder(photos)
    assert found == find_images(photos)
    assert [path.relative_to(photos).as_posix() for path in found] == [
        "a.webp", "b/1.png", "b/2.JPG", "gone.jpg", "other/z.jpg",
    ]  # fmt: skip
    assert {kind: sorted(path.name for path in paths) for kind, paths in rest.items()} == {
        "hidden": ["._2.JPG", ".cache", ".x.jpg"],
        "thumbnails": [".thumbnails", "@eaDir"],
        ".txt": ["note.txt"],
        "without extension": ["README", "self"],
        ".dng": ["c.DNG", "d.dng"],
        "not regular files": ["pipe.jpg"],
        "folders linked again": ["again", "back", "loop", "same", "up"],
    }


def test_find_images_names_what_is_wrong(tmp_path):
    (tmp_path / "a.txt").touch()
    for name, words in (("", "no image"), ("none", "does not exist"), ("a.txt", "is a file")):
        with pytest.raises(FileNotFoundError, match=words):
            find_images(tmp_path / name)
