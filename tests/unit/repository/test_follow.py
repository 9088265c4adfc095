"""What is remembered of `head.stock`; without it the branch goes after that file, and the log has where it was."""

from __future__ import annotations

import os

import numpy as np
import pytest
from tests.kit.gitting import commit_data, git, make_project, read, write

from stockroom import ConflictError, StockRoom


@pytest.fixture
def behind(tmp_path):
    """A project whose branch a session has moved on while a writer staged something, and dropped it again later.

    git:    one            main
    stock:   a ---- b      main; head.stock is at a
    """
    project = make_project(tmp_path / "project")
    commit_data(project, 1, "one")
    write(project, 2, "two")
    git(project, "commit", "-q", "-a", "-m", "two")
    with StockRoom(project, enable_write=True) as writer:
        writer.data["x"][0] = np.full(100, 8)
        with StockRoom(project) as handle, handle.session() as session:
            session.data["y"] = np.full((3, 100), 5)
    return project


def branch_of(project):
    with StockRoom(project) as opened:
        return opened.branches["main"], opened.commit_id


def test_head_goes_after_what_sessions_committed(behind):
    at, head = branch_of(behind)
    assert at != head
    with StockRoom(behind) as handle:
        handle.reset()
    assert branch_of(behind) == (at, at)
    assert read(behind, "y") == 5


@pytest.mark.parametrize("content", [None, b"", b"[]", b"\xff", b"[" * 100_000, b'{"main": 7}', b'{"main": "7"}'])
def test_without_what_was_seen_git_is_believed_and_the_log_has_the_rest(behind, content):
    seen = behind / ".stockroom" / "git.seen"
    seen.unlink()
    if content is not None:
        seen.write_bytes(content)
    at, head = branch_of(behind)
    with StockRoom(behind) as handle:
        handle.reset()
    write(behind, 9, "next")
    with StockRoom(behind) as handle:
        moves = [(o.kind, o.old.hex(), o.new.hex()) for o in handle.operations() if o.kind == "git" and o.old]
    assert moves == [("git", at, head)]


def test_no_link_laid_out_in_its_place_leads_a_write_out(behind, tmp_path):
    target = tmp_path / "precious"
    target.write_text("precious")
    seen = behind / ".stockroom" / "git.seen"
    seen.unlink()
    seen.symlink_to(target)
    with StockRoom(behind) as handle:
        handle.reset()
    write(behind, 9, "next")
    assert target.read_text() == "precious"
    os.mkfifo(tmp_path / "pipe")
    seen.unlink()
    seen.symlink_to(tmp_path / "pipe")
    assert write(behind, 10, "next")


def test_what_git_did_is_not_ours_to_undo(tmp_path):
    project = make_project(tmp_path / "project")
    first = commit_data(project, 1, "one")
    git(project, "checkout", "-q", "-b", "side")
    with StockRoom(project) as handle:
        with handle.enable_write():
            pass
        assert dict(handle.branches) == {"main": first, "side": first}
        undone = handle.undo()
        assert (undone.kind, undone.ref) == ("commit", "branch/main")


def test_a_session_on_a_detached_head_says_so(tmp_path):
    project = make_project(tmp_path / "project")
    commit_data(project, 1, "one")
    git(project, "checkout", "-q", "--detach")
    with StockRoom(project) as handle, pytest.raises(ConflictError, match="detached"):
        handle.session()
