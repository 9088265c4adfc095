"""The images below a folder, and everything else there, which is counted."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from stockroom.importers.image_tree import list_images
from stockroom.importers.left_out import LeftOut


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def look(folder: Path) -> tuple[list[str], list[str]]:
    left_out = LeftOut()
    return list_images(folder, left_out), sorted(left_out.list_lines())


def test_hidden_folders_and_files_are_neither_classes_nor_images(tmp_path: Path) -> None:
    touch(tmp_path, "cat/1.png", "cat/._1.png", "cat/.ipynb_checkpoints/1-checkpoint.png", "dog/1.PNG", "dog/Thumbs.db")
    touch(tmp_path, ".ipynb_checkpoints/x.png", "__MACOSX/cat/._1.png", ".DS_Store")
    assert look(tmp_path) == (
        ["cat/1.png", "dog/1.PNG"],
        [
            ".DS_Store: hidden file",
            ".ipynb_checkpoints: hidden folder",
            "__MACOSX: hidden folder",
            "cat/._1.png: hidden file",
            "cat/.ipynb_checkpoints: hidden folder",
            "dog/Thumbs.db: hidden file",
        ],
    )


def test_files_of_other_kinds_and_folders_without_images_are_counted(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.jfif", "a/2.jpe", "a/3.TIF", "a/4.gif", "a/labels", "b/notes.txt", "c/d/e.avif", "README.md")
    (tmp_path / "empty").mkdir()
    os.mkfifo(tmp_path / "a" / "pipe.png")
    assert look(tmp_path) == (
        ["a/1.jfif", "a/2.jpe"],
        [
            "README.md: .md",
            "a/3.TIF: .tif",
            "a/4.gif: .gif",
            "a/labels: extensionless file",
            "a/pipe.png: special file",
            "b/notes.txt: .txt",
            "b: imageless folder",
            "c/d/e.avif: .avif",
            "c: imageless folder",
            "empty: imageless folder",
        ],
    )


def test_linked_classes_and_images_are_followed_as_torchvision_follows_them(tmp_path: Path) -> None:
    touch(tmp_path / "far", "1.png", "deep/2.png")
    touch(tmp_path / "set", "cat/1.png")
    (tmp_path / "set" / "dog").symlink_to(tmp_path / "far")
    (tmp_path / "set" / "hound").symlink_to("dog")
    (tmp_path / "set" / "cat" / "2.png").symlink_to(tmp_path / "far" / "1.png")
    (tmp_path / "set" / "cat" / "lost.png").symlink_to(tmp_path / "nowhere")
    (tmp_path / "set" / "cat" / "loop.png").symlink_to("loop.png")
    images, left_out = look(tmp_path / "set")
    assert images == [
        "cat/1.png",
        "cat/2.png",
        "cat/loop.png",
        "cat/lost.png",  # a dead link: the import reports it as broken
        *(f"{name}/{path}" for name in ("dog", "hound") for path in ("1.png", "deep/2.png")),
    ]
    assert left_out == []


@pytest.mark.parametrize("target", ["..", ".", "b"])
def test_a_class_contains_each_folder_once(tmp_path: Path, target: str) -> None:
    touch(tmp_path, "a/b/1.png", "a/b/c/2.png")
    (tmp_path / "a" / "again").symlink_to(target)
    assert look(tmp_path) == (["a/b/1.png", "a/b/c/2.png"], ["a/again: repeated linked folder"])


def test_links_that_branch_at_every_level_are_no_bomb(tmp_path: Path) -> None:
    for level in range(30):
        (tmp_path / "far" / f"{level}").mkdir(parents=True)
        for name in ("x", "y"):
            (tmp_path / "far" / f"{level}" / name).symlink_to(tmp_path / "far" / f"{level + 1}")
    touch(tmp_path / "far" / "30", "1.png")
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "a").symlink_to(tmp_path / "far" / "0")
    images, left_out = look(tmp_path / "set")
    assert len(images) == 1
    assert len(left_out) == 30
