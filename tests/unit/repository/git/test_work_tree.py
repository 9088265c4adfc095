"""Reading git's own files: what real git writes is understood, and nothing else is believed."""

from __future__ import annotations

import os
import random
import struct

import pytest
from tests.kit.gitting import git, make_project, read, write

from stockroom import GitError, StockRoom
from stockroom.repository.git.index import is_tracked, search_index
from stockroom.repository.git.program import run_git
from stockroom.repository.git.tie import find_tie, read_git_position
from stockroom.repository.git.work_tree import find_work_tree

NAMES = ["head.stock", "a/head.stock", "-dash", "with space", "ünï", "z/last"]


@pytest.fixture
def repository(tmp_path):
    """A git repository with one commit of awkwardly named files."""
    folder = tmp_path / "repository"
    git(tmp_path, "init", "-q", "-b", "main", folder)
    for name in NAMES:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(name)
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", "files")
    return folder


# -- work trees


def test_a_work_tree_is_found_from_any_folder_in_it(repository):
    (repository / "deep" / "down").mkdir(parents=True)
    for folder in (repository, repository / "a", repository / "deep" / "down"):
        found = find_work_tree(folder)
        assert (found.root, found.git_dir, found.common_dir) == (repository,) + (repository / ".git",) * 2
        assert found.name is None
    assert find_work_tree(repository.parent) is None


@pytest.mark.parametrize("branch", ["main", "feature/ä", "-x", "a@b", "refs/heads/x"])
def test_the_branch_is_the_one_git_is_on(repository, branch):
    git(repository, "symbolic-ref", "HEAD", f"refs/heads/{branch}")
    assert find_work_tree(repository).find_branch() == branch
    git(repository, "symbolic-ref", "HEAD", "refs/heads/main")
    git(repository, "checkout", "-q", "--detach")
    assert find_work_tree(repository).find_branch() is None


def test_a_head_that_is_a_link_is_understood(repository):
    (repository / ".git" / "HEAD").unlink()
    (repository / ".git" / "HEAD").symlink_to("refs/heads/main")
    assert find_work_tree(repository).find_branch() == "main"


def test_a_linked_work_tree_knows_its_repository_and_its_name(repository, tmp_path):
    linked = tmp_path / "a linked one"
    git(repository, "worktree", "add", "-q", "-b", "side", linked)
    found = find_work_tree(linked / "a")
    assert (found.root, found.common_dir, found.name) == (linked, repository / ".git", "a linked one".replace(" ", "-"))
    assert found.find_branch() == "side"
    assert list(found.iter_roots()) == [repository, linked]
    assert list(find_work_tree(repository).iter_roots()) == [repository, linked]


def test_a_submodule_is_a_work_tree_of_its_own(repository, tmp_path):
    outer = tmp_path / "outer"
    git(tmp_path, "init", "-q", "-b", "trunk", outer)
    git(outer, "-c", "protocol.file.allow=always", "submodule", "add", "-q", repository, "inner")
    found = find_work_tree(outer / "inner")
    assert (found.root, found.name, found.find_branch()) == (outer / "inner", None, "main")
    assert is_tracked(found, "head.stock")


def test_a_folder_that_claims_another_repositorys_work_tree_is_not_believed(repository, tmp_path):
    linked, thief = tmp_path / "linked", tmp_path / "thief"
    git(repository, "worktree", "add", "-q", linked)
    thief.mkdir()
    (thief / ".git").write_bytes((linked / ".git").read_bytes())
    assert find_work_tree(thief) is None
    forged = tmp_path / "forged"
    forged.mkdir()
    (forged / "HEAD").write_text("ref: refs/heads/main\n")
    (forged / "commondir").write_text(f"{repository / '.git'}\n")
    (forged / "gitdir").write_text(f"{thief / '.git'}\n")
    (thief / ".git").write_text(f"gitdir: {forged}\n")
    assert find_work_tree(thief) is None


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"gitdir:",
        b"gitdir: \n",
        b"gitdir: nowhere\n",
        b"gitdir: a\0b\n",
        b"gitdir: .\ngitdir: ..\n",
        b"\xff\xfe" * 100,
        b"gitdir: " + b"a/" * 10_000,
        b"ref: refs/heads/main\n",
    ],
)
def test_a_git_file_that_makes_no_sense_is_no_git_at_all(tmp_path, content):
    StockRoom.init(tmp_path / "repo").close()
    write(tmp_path / "repo", 1, "one")
    (tmp_path / "repo" / ".git").write_bytes(content)
    assert find_work_tree(tmp_path / "repo") is None
    assert read(tmp_path / "repo") == 1
    assert write(tmp_path / "repo", 2, "two")


@pytest.mark.parametrize(
    "content", [b"", b"garbage", b"ref: refs/heads/" + b"x" * 10_000, b"\xff" * 50, b"ref:\n", None]
)
def test_a_git_folder_with_a_head_that_makes_no_sense_keeps_nobody_from_reading(tmp_path, content):
    project = make_project(tmp_path / "project")
    write(project, 1, "one")
    git(project, "add", "-A")
    head = project / ".git" / "HEAD"
    head.unlink()
    if content is None:
        os.mkfifo(head)  # whoever opens it waits for ever
    else:
        head.write_bytes(content)
    assert read(project) == 1
    with StockRoom(project) as opened:
        assert opened.branch == "main"


# -- the index


@pytest.mark.parametrize("version", [2, 3, 4])
@pytest.mark.parametrize("algorithm", ["sha1", "sha256"])
def test_the_index_of_any_version_says_what_is_tracked(tmp_path, version, algorithm):
    folder = tmp_path / "repository"
    git(tmp_path, "init", "-q", f"--object-format={algorithm}", folder)
    for number in range(300):
        (folder / f"folder {number % 7}").mkdir(exist_ok=True)
        (folder / f"folder {number % 7}" / f"{number}").write_text(str(number))
    (folder / "head.stock").write_text("x")
    git(folder, "add", "-A")
    git(folder, "rm", "-q", "--cached", "folder 3/3")
    git(folder, "update-index", "--index-version", version)
    if version == 3:
        git(folder, "update-index", "--skip-worktree", "folder 1/1")  # takes a flag of that version
    work_tree = find_work_tree(folder)
    tracked = set(git(folder, "ls-files", "-z").split("\0")) - {""}
    assert len(tracked) == 300
    for name in tracked:
        assert is_tracked(work_tree, name) is True
    for name in ("folder 3/3", "head.stoc", "head.stockx", "ead.stock", "folder 1", "", "x/head.stock"):
        assert is_tracked(work_tree, name) is False


def test_long_names_are_compared_whole(tmp_path):
    git(tmp_path, "init", "-q")
    for name in ("d" * 200 + "/" + "e" * 250, "/".join(["f" * 250] * 16)):
        git(tmp_path, "update-index", "--add", "--cacheinfo", f"100644,{'1' * 40},{name}")
        for version in (2, 4):
            git(tmp_path, "update-index", "--index-version", version)
            assert is_tracked(find_work_tree(tmp_path), name) is True
            assert is_tracked(find_work_tree(tmp_path), name[:-1]) is False


def test_a_change_of_the_index_is_seen(repository):
    work_tree = find_work_tree(repository)
    assert is_tracked(work_tree, "new") is False
    (repository / "new").write_text("new")
    git(repository, "add", "new")
    assert is_tracked(work_tree, "new") is True
    git(repository, "rm", "-q", "--cached", "new")
    assert is_tracked(work_tree, "new") is False


def test_a_split_index_is_left_to_git(repository):
    git(repository, "update-index", "--split-index")
    assert is_tracked(find_work_tree(repository), "head.stock") is None
    assert find_tie(repository).branch == "main"
    assert find_tie(repository / "a").locate("head.stock") == "a/head.stock"
    git(repository, "rm", "-q", "--cached", "head.stock")
    assert find_tie(repository) is None


def test_damaged_indexes_are_told_from_sound_ones_or_do_no_harm(repository):
    for version in (2, 4):
        git(repository, "update-index", "--index-version", version)
        sound = (repository / ".git" / "index").read_bytes()
        assert search_index(sound, b"head.stock", digest_nbytes=20) is True
        assert search_index(sound, b"nope", digest_nbytes=20) is False
        for end in range(0, len(sound), 7):
            assert search_index(sound[:end], b"nope", digest_nbytes=20) is not True
        rng = random.Random(5)
        for _ in range(2000):
            damaged = bytearray(sound)
            for _ in range(rng.randint(1, 4)):
                damaged[rng.randrange(len(damaged))] = rng.randrange(256)
            search_index(bytes(damaged), b"nope", digest_nbytes=20)
    for count in (0, 1, 2**32 - 1):
        assert search_index(struct.pack(">4sII", b"DIRC", 2, count), b"x", digest_nbytes=20) is None
    assert search_index(struct.pack(">4sII", b"DIRC", 5, 0) + bytes(20), b"x", digest_nbytes=20) is None


# -- the program


def test_git_is_run_in_its_folder_whatever_it_inherits(repository, tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))
    monkeypatch.setenv("GIT_WORK_TREE", str(tmp_path))
    monkeypatch.setenv("GIT_INDEX_FILE", str(tmp_path / "index"))
    assert run_git(repository, "ls-files", "--", "head.stock") == b"head.stock\n"
    with pytest.raises(GitError, match="git rev-parse failed"):
        run_git(repository, "rev-parse", "--verify", "no-such-ref")


def test_without_the_program_git_everything_but_gits_state_works(tmp_path, monkeypatch):
    project = make_project(tmp_path / "project")
    write(project, 1, "one")
    git(project, "add", "-A")
    git(project, "commit", "-q", "-m", "one")
    git(project, "checkout", "-q", "-b", "side")
    monkeypatch.setenv("PATH", str(tmp_path))
    write(project, 2, "two")
    with StockRoom(project) as opened:
        assert opened.branch == "side"
        assert next(opened.log()).metadata == {"git_branch": "side"}
        with pytest.raises(GitError, match="install it"):
            opened.list_git_commits()


def test_what_a_repositorys_own_settings_name_is_not_run_to_open_or_look(tmp_path):
    project = make_project(tmp_path / "project")
    write(project, 1, "one")
    git(project, "add", "-A")
    marker = tmp_path / "was-run"
    git(project, "config", "core.fsmonitor", f"touch '{marker}'; false")
    git(project, "config", "diff.external", f"touch '{marker}'; false")
    with StockRoom(project) as opened:
        assert opened.branch == "main"
        opened.status()
    write(project, 2, "two")
    with StockRoom(project) as opened:
        opened.list_git_commits()
    assert not marker.exists()


def test_the_state_of_git_leaves_out_our_own_files(tmp_path):
    project = make_project(tmp_path / "project")
    write(project, 1, "one")
    (project / "remote.stock").write_text("x")
    (project / "train -x.py").write_text("x")
    git(project, "add", "-A")
    assert read_git_position(find_tie(project)).commit is None
    git(project, "commit", "-q", "-m", "one")
    commit = git(project, "rev-parse", "HEAD")
    for name, is_dirty in [("head.stock", False), ("remote.stock", False), ("untracked", False), ("train -x.py", True)]:
        (project / name).write_text("changed")
        state = read_git_position(find_tie(project))
        assert (state.commit, state.is_dirty) == (commit, is_dirty), name
