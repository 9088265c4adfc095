"""The tie to git, with real git: what it pins is what is read, and what is written follows its branches."""

from __future__ import annotations

import subprocess
import sys
from datetime import timedelta

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
from tests.kit.limits import files_left

from stockroom import (
    ConflictError,
    FormatVersionError,
    InvalidNameError,
    RefChangedError,
    RefNotFoundError,
    RepositoryNotFoundError,
    StockRoom,
    UnreadableError,
)
from stockroom.repository.git.history import read_git_roots
from stockroom.repository.upkeep.roots import iter_heads, list_heads


@pytest.fixture
def project(tmp_path):
    return make_project(tmp_path / "project")


@pytest.fixture
def two(project):
    """A project with two commits of each kind, on main; the ids of ours, oldest first.

    git:    one --- two  main
    stock:   a  ---  b   main
    """
    return project, commit_data(project, 1, "one"), commit_data(project, 2, "two")


def parents_of(folder, ref="HEAD"):
    with StockRoom(folder) as opened:
        return next(opened.log(ref, 1)).parents


# -- A14: what git checks out is what is read


def test_git_checkout_brings_the_data_back_and_touches_no_data_file(two):
    project, first, second = two
    before = data_files(project)
    git(project, "checkout", "-q", "main~1")
    assert read(project) == 1
    with StockRoom(project) as reader:
        assert (reader.commit_id, reader.branch) == (first, None)
    git(project, "checkout", "-q", "main")
    assert read(project) == 2
    with StockRoom(project) as reader:
        assert (reader.commit_id, reader.branch) == (second, "main")
    assert data_files(project) == before


def test_git_reset_hard_brings_the_data_back(two):
    project, first, _ = two
    before = data_files(project)
    git(project, "reset", "-q", "--hard", "HEAD~1")
    assert read(project) == 1
    with StockRoom(project) as reader:
        assert (reader.commit_id, reader.branch) == (first, "main")
    assert data_files(project) == before


def test_git_stash_takes_an_uncommitted_move_away_and_pop_brings_it_back(two):
    project, _, second = two
    third = write(project, 3, "three")
    git(project, "stash")
    assert read(project) == 2
    git(project, "stash", "pop")
    assert read(project) == 3
    with StockRoom(project) as reader:
        assert reader.commit_id == third
    assert parents_of(project) == (second,)


def test_git_bisect_finds_the_commit_where_the_data_went_bad(project):
    for value in range(1, 9):
        commit_data(project, value, f"value {value}")
    check = project.parent / "check.py"
    check.write_text("import sys; from stockroom import StockRoom; sys.exit(int(StockRoom().data['x'][0][0]) >= 6)")
    git(project, "bisect", "start", "HEAD", "HEAD~7")
    found = git(project, "bisect", "run", sys.executable, check)
    assert f"{git(project, 'rev-parse', 'main~2')} is the first bad commit" in found
    git(project, "bisect", "reset")
    assert read(project) == 8


# -- A15: what is written follows


def test_a_write_from_an_old_git_commit_follows_that_commit(two):
    project, first, second = two
    git(project, "checkout", "-q", "-b", "side", "main~1")
    third = write(project, 3, "three")
    assert parents_of(project) == (first,)
    with StockRoom(project) as reader:
        assert [commit.message for commit in reader.log()] == ["three", "one"]
        assert reader.branch == "side"
        assert dict(reader.branches) == {"main": second, "side": third}
    assert read(project) == 3
    git(project, "commit", "-q", "-a", "-m", "three")
    git(project, "checkout", "-q", "main")
    assert read(project) == 2
    with StockRoom(project) as reader:
        assert dict(reader.branches) == {"main": second, "side": third}


def test_after_git_reset_the_branch_moves_to_head_and_the_log_keeps_where_it_was(two):
    project, first, second = two
    git(project, "reset", "-q", "--hard", "HEAD~1")
    third = write(project, 3, "three")
    assert parents_of(project) == (first,)
    with StockRoom(project) as reader:
        assert reader.branches["main"] == third
        kinds = [(o.kind, o.ref, o.old and o.old.hex(), o.new and o.new.hex()) for o in reader.operations()]
    assert kinds[:2] == [("commit", "branch/main", first, third), ("git", "branch/main", second, first)]


def test_a_detached_head_reads_and_refuses_to_commit_with_the_way_out(two):
    project, first, _ = two
    git(project, "checkout", "-q", "--detach", "main~1")
    assert read(project) == 1
    with StockRoom(project, enable_write=True) as writer:
        writer.data["x"][0] = np.full(100, 7)
        with pytest.raises(ConflictError, match="git switch -c NAME"):
            writer.commit("nowhere")
        git(project, "switch", "-q", "-c", "rescue")
        rescued = writer.commit("rescued")
    with StockRoom(project) as reader:
        assert (reader.branch, reader.branches["rescue"]) == ("rescue", rescued)
    assert parents_of(project) == (first,)
    refused = run_stock(project, "-C", project, "status")
    assert refused.returncode == 0


def test_a_write_block_on_a_detached_head_is_refused_before_it_writes(two):
    project, _, _ = two
    git(project, "checkout", "-q", "--detach", "main~1")
    with pytest.raises(ConflictError, match="git switch -c NAME"):
        write(project, 7, "nowhere")
    with StockRoom(project) as reader:
        assert reader.status().clean


def test_a_write_block_whose_head_git_detaches_keeps_what_it_wrote_on_the_stage(two):
    project, first, _ = two
    git(project, "reset", "-q", "--hard", "main~1")

    def act() -> None:
        with StockRoom(project) as handle, handle.enable_write():
            handle.data["x"][0] = np.full(100, 7)
            git(project, "checkout", "-q", "--detach")

    with pytest.raises(ConflictError, match="kept on the stage"):
        act()
    git(project, "switch", "-q", "-c", "rescue")
    stock(project, "commit", "-m", "rescued")
    assert read(project) == 7
    assert parents_of(project) == (first,)


def test_without_the_tie_a_repository_inside_git_stands_by_itself(project):
    write(project, 1, "one")
    git(project, "checkout", "-q", "-b", "elsewhere")
    write(project, 2, "two")
    with StockRoom(project) as reader:
        assert reader.branch == "main"
        reader.checkout("mine", create=True)
        assert reader.branch == "mine"
        assert not any(key.startswith("git_") for commit in reader.log() for key in commit.metadata)
    git(project, "add", "head.stock")
    with StockRoom(project) as reader:
        assert reader.branch == "elsewhere"


# -- stage


def test_a_stage_left_behind_by_git_checkout_is_kept_and_says_so(two):
    project, _, second = two
    with StockRoom(project, enable_write=True) as writer:
        writer.data["x"][0] = np.full(100, 8)
    git(project, "checkout", "-q", "-b", "side", "main~1")
    assert read(project) == 1
    for call in (lambda: StockRoom(project, enable_write=True), lambda: write(project, 5, "no")):
        with pytest.raises(ConflictError, match=rf"staged changes are based on {second}.*stock reset"):
            call()
    refused = run_stock(project, "commit", "-m", "no")
    assert refused.returncode == 14
    assert f"Staged on {second[:12]}, but HEAD has moved" in stock(project, "status")
    assert stock_json(project, "status")["staged_on"] == second
    git(project, "checkout", "-q", "main")
    with StockRoom(project, enable_write=True) as writer:
        assert writer.data["x"][0][0] == 8
        writer.commit("kept")
    assert read(project) == 8


def test_a_head_that_git_moves_under_a_writer_is_not_overwritten(two):
    project, first, second = two
    with StockRoom(project, enable_write=True) as writer:
        writer.data["x"][0] = np.full(100, 8)
        git(project, "checkout", "-q", "-b", "side", "main~1")
        with pytest.raises(RefChangedError, match="git moved"):
            writer.commit("no")
    with StockRoom(project) as reader:
        assert reader.commit_id == first
        assert reader.branches == {"main": second}
    git(project, "checkout", "-q", "main")
    assert stock(project, "commit", "-m", "kept")
    assert read(project) == 8


def test_a_write_block_that_git_moves_head_under_keeps_what_it_wrote_on_the_stage(two):
    project, _, _ = two
    with StockRoom(project) as handle, pytest.raises(RefChangedError), handle.enable_write("no"):  # noqa: PT012
        handle.data["x"][0] = np.full(100, 8)
        git(project, "checkout", "-q", "-b", "side", "main~1")
    git(project, "checkout", "-q", "main")
    stock(project, "commit", "-m", "kept")
    assert read(project) == 8


# -- checkout by stock


def test_stock_checkout_leaves_branches_to_git_and_names_its_command(two):
    project, first, _ = two
    git(project, "branch", "side", "main~1")
    with StockRoom(project) as handle:
        handle.create_branch("old", at="HEAD~1")
        handle.checkout("main")
        for name, create, command in [("old", False, "git switch old"), ("new", True, "git switch -c new")]:
            with pytest.raises(ConflictError, match=command):
                handle.checkout(name, create=create)
        with pytest.raises(RefNotFoundError):
            handle.checkout("odl")
        handle.reset_to("old")
        assert handle.commit_id == first
    refused = run_stock(project, "checkout", "-b", "new")
    assert refused.returncode == 14
    assert "git switch -c new" in refused.stderr
    assert git(project, "status", "--porcelain") == "M head.stock"


# -- metadata


def test_a_commit_records_what_git_had_checked_out(two):
    project, _, _ = two
    with StockRoom(project) as reader:
        second, first = reader.log()
    assert not any(key.startswith("git_") for key in first.metadata)  # head.stock was not tracked yet
    assert second.metadata == {
        "git_branch": "main",
        "git_commit": git(project, "rev-parse", "HEAD~1"),
        "git_dirty": False,
    }
    (project / "train.py").write_text("a = 1\n")
    git(project, "add", "train.py")
    write(project, 3, "three")
    with StockRoom(project) as reader:
        third = next(reader.log())
    assert third.metadata["git_dirty"] is True
    with StockRoom(project, enable_write=True) as writer:
        writer.data["x"][0] = np.full(100, 8)
        writer.commit("mine", git_dirty="my own word")
        assert next(writer.log()).metadata["git_dirty"] == "my own word"


# -- A16, and a colleague's clone


@pytest.fixture
def shared(two, tmp_path):
    """The project pushed to a remote of each kind: `code.git` and `data`."""
    project, _, _ = two
    git(tmp_path, "init", "-q", "--bare", "-b", "main", "code.git")
    with StockRoom(project) as opened:
        opened.add_remote("origin", str(tmp_path / "data"))
        opened.push()
    git(project, "remote", "add", "origin", tmp_path / "code.git")
    git(project, "add", "-A")
    git(project, "commit", "-q", "-m", "where the data is")
    git(project, "push", "-q", "-u", "origin", "main")
    return project


@pytest.mark.parametrize("inside", [False, True], ids=["outside git", "inside git"])
def test_init_twice_says_so_and_changes_nothing(tmp_path, inside):
    if inside:
        git(tmp_path, "init", "-q", "-b", "trunk")
    made = run_stock(tmp_path, "init").stderr
    assert "created a repository" in made
    assert ("git add head.stock" in made) == inside
    files = {path: path.read_bytes() for path in tmp_path.rglob("*.stock")}
    again = run_stock(tmp_path, "init")
    assert (again.returncode, "already" in again.stderr) == (0, True)
    assert files == {path: path.read_bytes() for path in tmp_path.rglob("*.stock")}
    with StockRoom(tmp_path) as opened:
        assert opened.branch == ("trunk" if inside else "main")
    if inside:
        assert git(tmp_path, "status", "--porcelain", "--untracked-files=all") == "?? head.stock"


def test_git_never_sees_the_state_of_a_repository_or_clone(shared, tmp_path):
    assert git(shared, "ls-files") == "head.stock\nremote.stock"
    assert git(shared, "status", "--porcelain", "--ignored") == "!! .stockroom/"
    inner = shared / "inner"
    stock(shared, "clone", "--metadata-only", tmp_path / "data", inner)
    assert git(shared, "status", "--porcelain", "--untracked-files=all").split() == [
        "??", "inner/head.stock", "??", "inner/remote.stock",
    ]  # fmt: skip


def test_a_git_clone_without_its_data_says_what_to_run_and_that_works(shared, tmp_path):
    colleague = tmp_path / "colleague"
    git(tmp_path, "clone", "-q", tmp_path / "code.git", colleague)
    inside = colleague / "src"
    inside.mkdir()
    for folder in (colleague, inside):
        for call in (lambda at=folder: StockRoom(at), lambda: StockRoom.init(colleague)):
            with pytest.raises(RepositoryNotFoundError, match="run `stock clone --here`"):
                call()
        refused = run_stock(folder, "status")
        assert (refused.returncode, "stock clone --here" in refused.stderr) == (10, True)
    head = (colleague / "head.stock").read_bytes()
    done = run_stock(inside, "clone", "--here", "--metadata-only")
    assert done.returncode == 0, done.stderr
    assert f"cloning from {tmp_path / 'data'}" in done.stderr
    assert (colleague / "head.stock").read_bytes() == head
    assert read(colleague) == 2
    with StockRoom(colleague) as opened:
        assert opened.branch == "main"
        assert opened.branches == {"main": opened.commit_id}
    assert git(colleague, "status", "--porcelain") == ""
    again = run_stock(colleague, "clone", "--here")
    assert (again.returncode, "already a repository" in again.stderr) == (1, True)
    git(colleague, "checkout", "-q", "main~2")
    assert read(colleague) == 1


def test_clone_here_on_a_commit_that_nobody_pushed_says_so_and_leaves_no_trace(shared, tmp_path):
    write(shared, 3, "three")
    git(shared, "commit", "-q", "-a", "-m", "three")
    git(shared, "push", "-q")
    colleague = tmp_path / "colleague"
    git(tmp_path, "clone", "-q", tmp_path / "code.git", colleague)
    refused = run_stock(colleague, "clone", "--here")
    assert refused.returncode == 1
    assert "have its author run" in refused.stderr
    assert sorted(path.name for path in colleague.iterdir()) == [".git", "head.stock", "remote.stock"]
    stock(shared, "push")
    assert stock_json(colleague, "clone", "--here")["branch"] == "main"
    assert read(colleague) == 3


def test_clone_here_needs_a_head_and_a_remote(shared, tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    assert run_stock(empty, "clone", "--here").returncode == 10
    colleague = tmp_path / "colleague"
    git(tmp_path, "clone", "-q", tmp_path / "code.git", colleague)
    (colleague / "remote.stock").unlink()
    refused = run_stock(colleague, "clone", "--here")
    assert (refused.returncode, "give the URL" in refused.stderr) == (1, True)
    with pytest.raises(RepositoryNotFoundError, match="stock clone --here URL"):
        StockRoom(colleague)
    assert run_stock(colleague, "clone", "--here", "--ref", "main").returncode == 2
    assert run_stock(colleague, "clone").returncode == 2
    stock(colleague, "clone", "--here", tmp_path / "data")
    assert read(colleague) == 2
    assert git(colleague, "status", "--porcelain") == ""


def test_after_git_pull_what_head_names_is_fetched(shared, tmp_path):
    colleague = tmp_path / "colleague"
    git(tmp_path, "clone", "-q", tmp_path / "code.git", colleague)
    stock(colleague, "clone", "--here")
    for value, command in [(3, "fetch"), (4, "pull")]:
        new = write(shared, value, "more")
        git(shared, "commit", "-q", "-a", "-m", "more")
        stock(shared, "push")
        git(shared, "push", "-q")
        git(colleague, "pull", "-q")
        with pytest.raises(RefNotFoundError, match="stock fetch"):
            StockRoom(colleague)
        stock(colleague, command)
        assert read(colleague) == value
        assert git(colleague, "status", "--porcelain") == ""
    with StockRoom(colleague) as opened:
        assert opened.branches["main"] == new
    assert write(colleague, 5, "mine")
    stock(colleague, "push")


def test_a_hostile_remote_file_is_refused_and_not_repeated(shared, tmp_path):
    colleague = tmp_path / "colleague"
    git(tmp_path, "clone", "-q", tmp_path / "code.git", colleague)
    text = "stockroom remote 1\nurl https://user:secret@example.org/x\nendpoint -\nregion -\n"
    (colleague / "remote.stock").write_text(text)
    refused = run_stock(colleague, "clone", "--here")
    assert refused.returncode == 15, refused.stderr
    assert len(refused.stderr.splitlines()) == 1
    assert "secret" not in refused.stderr
    assert not (colleague / ".stockroom").exists()
    (shared / "remote.stock").write_text(text)
    assert read(shared) == 2  # opening asks nothing of it


def test_the_remote_file_follows_the_remote_called_origin(shared, tmp_path):
    def said():
        return (shared / "remote.stock").read_text().splitlines()[1:]

    assert said() == [f"url {tmp_path / 'data'}", "endpoint -", "region -"]
    stock(shared, "remote", "add", "other", "s3://bucket/x")
    stock(shared, "remote", "set-url", "origin", "s3://bucket/y", "--region", "eu-west-1")
    assert said() == ["url s3://bucket/y", "endpoint -", "region eu-west-1"]
    stock(shared, "remote", "remove", "origin")
    assert not (shared / "remote.stock").exists()


# -- what git's history says


def test_the_log_shows_which_git_commit_carries_each_commit(two):
    project, first, second = two
    third = write(project, 3, "not in git yet")
    logged = stock_json(project, "log")["commits"]
    carriers = {commit["id"]: commit["git"] for commit in logged}
    assert carriers == {
        first: git(project, "rev-parse", "HEAD~1"),
        second: git(project, "rev-parse", "HEAD"),
        third: None,
    }
    text = stock(project, "log")
    assert text.count("\nGit:    ") == 2
    assert f"Git:    {carriers[first][:12]}\n" in text
    git(project, "commit", "-q", "-a", "-m", "three")
    git(project, "revert", "--no-edit", "HEAD")
    with StockRoom(project) as opened:
        found = opened.list_git_commits()
    assert (found[second], found[third]) == (carriers[second], git(project, "rev-parse", "HEAD~1"))


def test_without_the_tie_the_log_does_not_ask_git(project, tmp_path):
    StockRoom.init(tmp_path / "alone").close()
    for path in (project, tmp_path / "alone"):
        write(path, 1, "one")
        assert [commit["git"] for commit in stock_json(path, "log")["commits"]] == [None]


def test_every_commit_in_any_corner_of_gits_history_is_a_root(two, tmp_path):
    """
    one --- two --- four  main, reset to two: in the reflog only
     |        stash: five;  index: six;  work tree: seven, which is HEAD's business
    three  side, deleted
    """
    project, first, second = two
    git(project, "checkout", "-q", "-b", "side", "main~1")
    third = commit_data(project, 3, "three")
    git(project, "checkout", "-q", "main")
    git(project, "branch", "-q", "-D", "side")
    fourth = commit_data(project, 4, "four")
    git(project, "reset", "-q", "--hard", "HEAD~1")
    fifth = write(project, 5, "five")
    git(project, "stash")
    sixth = write(project, 6, "six")
    git(project, "add", "head.stock")
    seventh = write(project, 7, "seven")
    (project / "copy").write_bytes((project / "head.stock").read_bytes())
    git(project, "add", "copy")
    git(project, "worktree", "add", "-q", tmp_path / "linked", "main~1")
    eighth = "8" * 64
    (tmp_path / "linked" / "head.stock").write_text(f"<<<<<<< conflict\ncommit {eighth}\n")
    git(tmp_path / "linked", "add", "head.stock")
    found = {commit.hex() for commit in read_git_roots(project)}
    assert found == {first, second, third, fourth, fifth, sixth, eighth}
    assert seventh not in found
    assert read_git_roots(tmp_path) == frozenset()


def test_roots_are_found_whatever_the_folder_is_called(tmp_path):
    git(tmp_path, "init", "-q", "-b", "main", "outer")
    folder = tmp_path / "outer" / "-a b" / "ünï [*]"
    folder.mkdir(parents=True)
    StockRoom.init(folder).close()
    first = commit_data(folder, 1, "one")
    second = commit_data(folder, 2, "two")
    assert {commit.hex() for commit in read_git_roots(folder)} == {first, second}
    assert [commit["git"] for commit in stock_json(folder, "log")["commits"]] == [
        git(folder, "rev-parse", name) for name in ("HEAD", "HEAD~1")
    ]
    with StockRoom(folder) as opened:
        assert next(opened.log()).metadata["git_dirty"] is False


def test_gc_keeps_what_only_gits_history_pins(two):
    project, _, second = two
    git(project, "checkout", "-q", "-b", "side", "main~1")
    third = commit_data(project, 3, "three")
    lost = write(project, 4, "never in git")
    git(project, "checkout", "-q", "-f", "main")
    with StockRoom(project) as opened:
        opened.delete_branch("side", force=True)
        for _ in range(2):  # what is marked in one round goes in the next
            opened.gc(grace=timedelta(0))
    with StockRoom(project) as opened:
        assert opened.verify().ok
        with pytest.raises(RefNotFoundError):
            next(opened.log(lost))
        assert next(opened.log(third)).message == "three"
    git(project, "checkout", "-q", "side")
    assert read(project) == 3
    assert {commit.hex() for commit in read_git_roots(project)} >= {second, third}


def test_fsck_checks_what_only_gits_history_or_another_work_tree_leads_to(two, tmp_path):
    project, _, _ = two
    git(project, "checkout", "-q", "-b", "side", "main~1")
    third = commit_data(project, 3, "three")
    git(project, "checkout", "-q", "-f", "main")
    git(project, "worktree", "add", "-q", "--detach", tmp_path / "linked", "side")
    with StockRoom(project) as opened:
        opened.delete_branch("side", force=True)
        assert opened.verify().ok
        repository = opened._repository
        named = {name for name, commit in iter_heads(repository) if commit.hex() == third}
        assert named == {"git's history", f"HEAD of {tmp_path / 'linked'}"}
        with files_left(0), pytest.raises(UnreadableError):
            list_heads(repository)
        lost = repository.refs.get_commit(bytes.fromhex(third)).tree
        repository.env.update(lambda txn: txn.delete("objects", lost))
    with StockRoom(project) as opened:
        damage = opened.verify().damage
    assert any(f"HEAD of {tmp_path / 'linked'}" in needed for item in damage for needed in item.needed_by), damage


def test_a_head_in_conflict_in_another_work_tree_keeps_the_commits_it_names(two, tmp_path):
    project, first, second = two
    git(project, "worktree", "add", "-q", "--detach", tmp_path / "linked", "main~1")
    third = write(project, 3, "not in git")
    (tmp_path / "linked/head.stock").write_text(
        f"<<<<<<< ours\ncommit {first}\n=======\ncommit {third}\n>>>>>>> theirs\n"
    )
    with StockRoom(project) as opened:
        assert {bytes.fromhex(commit) for commit in (first, second, third)} <= list_heads(opened._repository)
        (tmp_path / "linked/head.stock").write_text(f"stockroom head 99\nbranch -\ncommit {first}\n")
        with pytest.raises(FormatVersionError):  # what it has checked out is unknown, so nothing may go
            opened.gc(grace=timedelta(0))


# -- sessions


def test_sessions_commit_on_gits_branch_from_the_commit_in_head(two):
    project, first, second = two
    git(project, "checkout", "-q", "-b", "side", "main~1")
    with StockRoom(project) as handle:
        with handle.session() as one:
            one.data["y"] = np.full((3, 100), 5)
        handle.refresh()
        assert (handle.branch, handle.data["y"][0][0]) == ("side", 5)
        assert parents_of(project) == (first,)
        assert handle.branches["main"] == second
        assert next(handle.log()).metadata["git_branch"] == "side"
    git(project, "stash")
    with StockRoom(project) as handle, handle.session() as two_:
        two_.data["z"] = np.full((3, 100), 6)
    assert parents_of(project) == (first,)


def test_what_sessions_commit_beside_a_writer_is_not_taken_for_a_move_of_gits(two):
    project, _, second = two
    with StockRoom(project, enable_write=True) as writer:
        writer.data["x"][0] = np.full(100, 8)
        with StockRoom(project) as handle:
            for column in ("y", "z"):
                with handle.session() as session:
                    session.data[column] = np.full((3, 100), 5)
        assert writer.data["x"][0][0] == 8
        writer.flush()
    with StockRoom(project) as reader:  # what is staged stays where it was begun, and HEAD with it
        assert reader.commit_id == second
    stock(project, "commit", "-m", "on top")
    with StockRoom(project) as reader:
        assert [commit.message.split()[0] for commit in reader.log()] == ["on", "Update", "Update", "two", "one"]
        assert (reader.data["x"][0][0], reader.data["y"][0][0], reader.data["z"][0][0]) == (8, 5, 5)
        assert not any(operation.kind == "git" for operation in reader.operations())


def test_head_goes_along_with_sessions_once_a_writer_that_staged_nothing_is_gone(two):
    project, _, _ = two
    with StockRoom(project, enable_write=True), StockRoom(project) as handle, handle.session() as session:
        session.data["y"] = np.full((3, 100), 5)
    assert read(project, "y") == 5
    with StockRoom(project) as reader:
        assert reader.commit_id == reader.branches["main"]


def test_a_session_whose_branch_git_has_left_meanwhile_is_found_there_again(two):
    project, _, _ = two
    with StockRoom(project) as handle, handle.session() as session:
        session.data["y"] = np.full((3, 100), 5)
        git(project, "checkout", "-q", "-b", "side")
        write(project, 3, "on side")
        git(project, "commit", "-q", "-a", "-m", "on side")
    with StockRoom(project) as reader:
        assert "y" not in reader.data
    git(project, "checkout", "-q", "main")
    with StockRoom(project) as reader, reader.enable_write("next"):
        assert reader.data["y"][0][0] == 5


# -- damage


@pytest.mark.parametrize(
    "text",
    [
        "",
        "garbage",
        "stockroom head 1\nbranch main\ncommit xyz\n",
        "<<<<<<< ours\n",
        "\0" * 9999,
    ],
)
def test_a_hostile_head_is_an_error_of_one_line_and_moves_nothing(two, text):
    project, _, second = two
    (project / "head.stock").write_text(text)
    git(project, "commit", "-q", "-a", "-m", "hostile")
    for words in (["status"], ["commit", "-m", "x"], ["git", "status"]):
        refused = run_stock(project, *words)
        assert (refused.returncode, len(refused.stderr.splitlines())) == (15, 1), refused.stderr
    with StockRoom(project, ref=second) as opened:
        assert opened.branches == {"main": second}
        assert len(opened.list_git_commits()) == 2
    git(project, "reset", "-q", "--hard", "HEAD~1")
    assert read(project) == 2


def test_a_branch_that_git_allows_and_we_do_not_is_read_and_refused_when_written_to(two):
    project, _, second = two
    git(project, "checkout", "-q", "-b", "Main")
    assert read(project) == 2
    with pytest.raises(InvalidNameError, match="only in case"):
        write(project, 3, "no")
    git(project, "checkout", "-q", "-b", "x" * 210)
    assert read(project) == 2
    with StockRoom(project) as opened:
        assert opened.branch == "x" * 210
    with pytest.raises(InvalidNameError, match="200 bytes"):
        write(project, 3, "no")
    with StockRoom(project) as opened:
        assert opened.branches == {"main": second}


def test_a_commit_killed_before_head_moved_is_finished_on_gits_branch(two):
    project, first, _ = two
    git(project, "checkout", "-q", "-b", "side", "main~1")
    program = (
        "import os, sys; from stockroom import StockRoom; from stockroom.repository.head import HeadFile\n"
        "HeadFile.complete = lambda self: os._exit(9)\n"
        "with StockRoom(sys.argv[1], enable_write=True) as writer:\n"
        "    writer.data['x'][0] = writer.data['x'][0] + 6\n"
        "    writer.commit('killed')\n"
    )
    killed = subprocess.run([sys.executable, "-c", program, project], env=ENVIRONMENT, timeout=120)
    assert killed.returncode == 9
    assert "branch main" in (project / "head.stock").read_text()
    assert read(project) == 7
    assert parents_of(project) == (first,)
    assert "branch side" in (project / "head.stock").read_text()
