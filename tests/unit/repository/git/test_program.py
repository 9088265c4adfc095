"""Running git in a folder from elsewhere: no program runs that the folder's settings name."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.kit.gitting import git, make_project, run_stock, try_git, write

from stockroom import GitError
from stockroom.repository.git.history import read_carriers, read_git_roots
from stockroom.repository.git.program import run_git, silence_filters
from stockroom.repository.git.tie import find_tie, read_git_position
from stockroom.repository.git.work_tree import find_work_tree


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A tied repository with a file `code` and a commit of git's."""
    project = make_project(tmp_path / "project")
    write(project, 1, "one")
    (project / "code").write_text("as committed\n")
    git(project, "add", "-A")
    git(project, "commit", "-q", "-m", "one")
    return project


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    return tmp_path / "ran"


def touch(path: Path) -> None:
    """Make git compare the file's content: its time and inode differ from those in the index."""
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content)
    os.utime(path, (1, 1))


def filter_by_config(project: Path, command: str) -> None:
    git(project, "config", "filter.x.clean", command)
    git(project, "config", "filter.x.required", "true")
    (project / ".git/info/attributes").write_text("code filter=x\n")


def filter_by_process(project: Path, command: str) -> None:
    git(project, "config", 'filter.A b.é="].process', command)
    (project / ".git/info/attributes").write_bytes('code "filter=A b.é=\\"]"\n'.encode())
    filter_by_config(project, command)


def filter_by_include(project: Path, command: str) -> None:
    (project / "settings").write_text(f'[filter "x"]\n\tclean = {command}\n')
    git(project, "config", "include.path", "../settings")
    (project / ".gitattributes").write_text("code filter=x\n")


def filter_by_work_tree(project: Path, command: str) -> None:
    git(project, "config", "extensions.worktreeConfig", "true")
    git(project, "config", "--worktree", "filter.x.clean", command)
    (project / ".gitattributes").write_text("code filter=x\n")


@pytest.mark.parametrize(
    "plant", [filter_by_config, filter_by_process, filter_by_include, filter_by_work_tree], ids=lambda f: f.__name__
)
def test_no_filter_of_a_folder_runs_when_the_state_of_git_is_read(
    project: Path, mark: Path, plant: Callable[[Path, str], None]
) -> None:
    plant(project, f"touch '{mark}'")
    touch(project / "code")
    assert not read_git_position(find_tie(project)).is_dirty
    (project / "code").write_text("of other length than before\n")
    assert read_git_position(find_tie(project)).is_dirty
    write(project, 2, "two")
    assert not mark.exists()
    (project / "code").write_text("as committed\n")
    try_git(project, "status")
    assert mark.exists(), "git itself would have run it: the test means something"


def test_a_commit_in_a_foreign_folder_runs_no_filter_in_it(project: Path, mark: Path) -> None:
    filter_by_config(project, f"touch '{mark}'")
    touch(project / "code")
    (project / "table.csv").write_text("a\n1\n")
    for words in (
        ["import", "csv", "table.csv", "--no-commit"],
        ["status"],
        ["commit", "-m", "two"],
        ["git", "status"],
    ):
        done = run_stock(project, *words)
        assert done.returncode == 0, done.stderr
    assert not mark.exists()


def test_the_users_own_filters_run_programs_that_a_folder_names_so_they_do_not_run_either(
    project: Path, mark: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own").write_text(f"[filter \"lfs\"]\n\tclean = touch '{mark}'\n\trequired = true\n")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "own"))
    (project / ".gitattributes").write_text("code filter=lfs\n")
    touch(project / "code")
    assert not read_git_position(find_tie(project)).is_dirty
    assert not mark.exists()


def test_a_filter_that_is_added_later_does_not_run_either(project: Path, mark: Path) -> None:
    assert not read_git_position(find_tie(project)).is_dirty
    filter_by_config(project, f"touch '{mark}'")
    touch(project / "code")
    assert not read_git_position(find_tie(project)).is_dirty
    assert not mark.exists()


def test_settings_from_the_environment_are_kept(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
    monkeypatch.setenv("GIT_CONFIG_KEY_0", "filter.own.clean")
    monkeypatch.setenv("GIT_CONFIG_VALUE_0", "cat")
    silenced = silence_filters(find_work_tree(project))
    assert silenced["filter.own.clean"] == ""
    assert run_git(project, "config", "filter.own.clean") == b"cat\n"
    assert run_git(project, "config", "filter.own.clean", settings=silenced) == b"\n"


@pytest.fixture
def submodule(project: Path, tmp_path: Path) -> Path:
    """A submodule with a file that looks modified."""
    other = tmp_path / "other"
    git(tmp_path, "init", "-q", other)
    (other / "file").write_text("text\n")
    git(other, "add", "-A")
    git(other, "commit", "-q", "-m", "first")
    git(project, "-c", "protocol.file.allow=always", "submodule", "add", "-q", other, "module")
    git(project, "commit", "-q", "-m", "module")
    touch(project / "module/file")
    return project / "module"


def test_nothing_runs_in_a_submodule(project: Path, submodule: Path, mark: Path) -> None:
    for key in ("core.fsmonitor", "filter.x.clean", "diff.external", "diff.x.textconv"):
        git(submodule, "config", key, f"touch '{mark}'; false")
    (project / ".git/modules/module/info/attributes").write_text("* filter=x diff=x\n")
    git(project, "config", "diff.submodule", "diff")
    git(project, "config", "submodule.module.ignore", "none")
    assert not read_git_position(find_tie(project)).is_dirty
    (submodule / "file").write_text("changed\n")
    assert not read_git_position(find_tie(project)).is_dirty
    write(project, 2, "two")
    read_carriers(find_tie(project))
    read_git_roots(project)
    assert not mark.exists()
    try_git(project, "status")
    assert mark.exists(), "git itself would have run it: the test means something"


def test_a_submodule_at_another_commit_is_a_change(project: Path, submodule: Path) -> None:
    (submodule / "file").write_text("changed\n")
    git(submodule, "commit", "-q", "-am", "second")
    assert read_git_position(find_tie(project)).is_dirty


def test_a_head_stock_that_was_a_submodule_once_runs_nothing_in_it(project: Path, submodule: Path, mark: Path) -> None:
    commits = []
    for text in ("one", "two"):
        (submodule / "file").write_text(text)
        git(submodule, "commit", "-q", "-am", text)
        commits.append(git(submodule, "rev-parse", "HEAD"))
    named = (project / "head.stock").read_bytes()
    for commit in commits:
        git(project, "update-index", "--add", "--cacheinfo", f"160000,{commit},head.stock")
        git(project, "commit", "-q", "-m", "a submodule")
    git(project, "update-index", "--cacheinfo", f"100644,{git(project, 'hash-object', '-w', 'head.stock')},head.stock")
    git(project, "commit", "-q", "-m", "a file")
    assert (project / "head.stock").read_bytes() == named
    git(project, "config", "diff.submodule", "diff")
    git(project, "config", "diff.external", f"touch '{mark}'; false")
    assert read_carriers(find_tie(project))
    assert read_git_roots(project)
    assert not mark.exists()


def test_hooks_of_a_folder_do_not_run(project: Path, mark: Path) -> None:
    hooks = project / "own hooks"
    hooks.mkdir()
    for name in ("post-index-change", "reference-transaction", "fsmonitor-watchman", "pre-auto-gc"):
        (hooks / name).write_text(f"#!/bin/sh\ntouch '{mark}'\n")
        (hooks / name).chmod(0o755)
    git(project, "config", "core.hooksPath", hooks)
    assert not read_git_position(find_tie(project)).is_dirty
    run_git(project, "update-index", "--refresh", "--force-write-index")
    assert not mark.exists()
    assert run_git(project, "rev-parse", "--git-path", "hooks").decode() == f"{hooks}\n"


def test_a_folder_that_is_a_bare_repository_beside_a_broken_git_folder_is_not_asked(tmp_path: Path, mark: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    git(folder, "init", "-q", "--bare", ".")
    git(folder, "config", "core.bare", "false")
    git(folder, "config", "core.worktree", ".")
    git(folder, "config", "filter.x.clean", f"touch '{mark}'")
    (folder / "info/attributes").write_text("file filter=x\n")
    (folder / "file").write_text("text\n")
    (folder / ".git").mkdir()
    (folder / ".git/HEAD").write_text("ref: refs/heads/main\n")
    assert find_work_tree(folder) is not None
    with pytest.raises(GitError, match="git status failed"):
        run_git(folder, "status", "--porcelain")
    assert not mark.exists()


def test_a_broken_git_folder_does_not_lead_git_to_the_repository_above(project: Path) -> None:
    (project / "sub/.git").mkdir(parents=True)
    (project / "sub/.git/HEAD").write_text("ref: refs/heads/main\n")
    with pytest.raises(GitError):
        run_git(project / "sub", "status", "--porcelain")
