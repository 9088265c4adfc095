"""Several work trees of one git repository share one `.stockroom`; each has its own HEAD, stage and lease."""

from __future__ import annotations

import pickle
import subprocess
import sys

import numpy as np
import pytest
from tests.kit.gitting import (
    ENVIRONMENT,
    commit_data,
    data_files,
    git,
    make_project,
    read,
    run_stock,
    stock,
    stock_json,
    write,
)

from stockroom import ConflictError, LockedError, RepositoryNotFoundError, StockRoom, make_torch_dataset


@pytest.fixture
def project(tmp_path):
    """
    one --- two  main, in `project`
     |
    side, in `linked one`
    """
    folder = make_project(tmp_path / "project")
    commit_data(folder, 1, "one")
    commit_data(folder, 2, "two")
    git(folder, "worktree", "add", "-q", "-b", "side", tmp_path / "linked one", "main~1")
    return folder


@pytest.fixture
def linked(project, tmp_path):
    return tmp_path / "linked one"


def test_each_work_tree_reads_and_writes_at_its_own_head(project, linked):
    before = data_files(project)
    assert (read(project), read(linked)) == (2, 1)
    with StockRoom(linked) as opened:
        assert (opened.branch, opened.path) == ("side", linked)
        one = opened.commit_id
    third = write(linked, 3, "three")
    assert (read(project), read(linked)) == (2, 3)
    with StockRoom(project) as opened:
        assert opened.branches["side"] == third
        assert next(opened.log("side")).parents == (one,)
        assert next(opened.log("side")).metadata["git_branch"] == "side"
    assert {path: found for path, found in data_files(project).items() if path in before} == before
    assert git(linked, "status", "--porcelain", "--untracked-files=all") == "M head.stock"
    assert sorted(path.name for path in (linked / ".stockroom").iterdir() if path.name != "git.seen") == [
        ".gitignore",
        "writer.lock",
    ]


def test_stages_are_apart_and_writers_do_not_wait_for_each_other(project, linked):
    with StockRoom(project, enable_write=True) as ours, StockRoom(linked, enable_write=True, timeout_s=0) as theirs:
        ours.data["x"][0] = np.full(100, 8)
        theirs.data["x"][0] = np.full(100, 9)
        with pytest.raises(LockedError):
            StockRoom(linked, enable_write=True, timeout_s=0)
    for folder, value in ((project, 8), (linked, 9)):
        assert not stock_json(folder, "status")["clean"]
        with StockRoom(folder, enable_write=True) as writer:
            assert writer.data["x"][0][0] == value
    stock(linked, "reset")
    assert stock_json(linked, "status")["clean"]
    stock(project, "commit", "-m", "staged here")
    assert (read(project), read(linked)) == (8, 1)


def test_a_stage_stays_with_its_work_tree(project, linked):
    with StockRoom(linked, enable_write=True) as writer:
        writer.data["x"][0] = np.full(100, 9)
    git(linked, "checkout", "-q", "--detach", "main")
    with pytest.raises(ConflictError, match="staged changes are based on"):
        StockRoom(linked, enable_write=True)
    write(project, 3, "three")
    git(linked, "checkout", "-q", "side")
    stock(linked, "commit", "-m", "kept")
    assert read(linked) == 9


def test_a_work_tree_is_found_from_inside_it_and_by_its_workers(project, linked, tmp_path):
    inside = linked / "src"
    inside.mkdir()
    assert stock_json(inside, "status")["branch"] == "side"
    with StockRoom(linked) as opened:
        pickled = pickle.dumps(make_torch_dataset([opened.data["x"]]))
    program = "import pickle, sys; print(int(pickle.loads(sys.stdin.buffer.read())[0][0][0]))"
    done = subprocess.run(
        [sys.executable, "-c", program], input=pickled, capture_output=True, env=ENVIRONMENT, timeout=120
    )
    assert done.stdout.strip() == b"1", done.stderr


def test_init_in_a_linked_work_tree_finds_what_is_there(project, linked):
    again = run_stock(linked, "init")
    assert (again.returncode, "already" in again.stderr) == (0, True)
    assert read(linked) == 1
    assert f"uses the data in {project}" in stock(linked, "git", "status")


def test_a_work_tree_from_before_there_was_a_repository_can_begin_one_with_it(tmp_path):
    folder = tmp_path / "project"
    git(tmp_path, "init", "-q", "-b", "main", folder)
    git(folder, "commit", "-q", "--allow-empty", "-m", "empty")
    StockRoom.init(folder).close()
    commit_data(folder, 1, "one")
    early = tmp_path / "early"
    git(folder, "worktree", "add", "-q", "-b", "early", early, "main~1")
    with pytest.raises(RepositoryNotFoundError):
        StockRoom(early)
    stock(early, "init")
    assert commit_data(early, 5, "five")
    assert (read(folder), read(early)) == (1, 5)
    git(folder, "checkout", "-q", "--detach", "main~1")
    with pytest.raises(RepositoryNotFoundError, match="git checkout"):
        StockRoom(folder)


def test_a_linked_work_tree_may_hold_the_state_for_all(tmp_path):
    """Without a main work tree, as with a bare repository, the first one with a `.stockroom` has it for all."""
    git(tmp_path, "init", "-q", "--bare", "-b", "main", "bare.git")
    seed = make_project(tmp_path / "seed")
    (seed / "code").write_text("x")
    git(seed, "add", "code")
    git(seed, "commit", "-q", "-m", "code")
    git(seed, "push", "-q", tmp_path / "bare.git", "main")
    git(tmp_path / "bare.git", "worktree", "add", "-q", tmp_path / "a", "main")
    StockRoom.init(tmp_path / "a").close()
    commit_data(tmp_path / "a", 1, "one")
    git(tmp_path / "bare.git", "worktree", "add", "-q", "-b", "side", tmp_path / "b", "main")
    assert read(tmp_path / "b") == 1
    write(tmp_path / "b", 2, "two")
    assert (read(tmp_path / "a"), read(tmp_path / "b")) == (1, 2)


def test_a_removed_work_tree_leaves_the_rest_alone(project, linked):
    write(linked, 3, "three")
    git(linked, "commit", "-q", "-a", "-m", "three")
    git(project, "worktree", "remove", linked)
    git(project, "checkout", "-q", "side")
    assert read(project) == 3
    with StockRoom(project) as opened:
        assert opened.verify().ok
