"""What `stock git install` adds to git: merges of `head.stock`, and pushes that leave nobody without the data."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from tests.kit.gitting import commit_data, git, make_project, read, run_stock, stock, stock_json, try_git, write

from stockroom import StockRoom


@pytest.fixture(params=["project", "-an odd 'name' 100%"], ids=["plain", "odd"])
def project(request, tmp_path):
    """A project with column x at 1 and y at 1 in one commit, and the merge driver installed.

    The odd one is not at git's top either, but in a folder that begins with a dash.
    """
    if request.param == "project":
        folder = make_project(tmp_path / "project")
    else:
        folder = tmp_path / "outer" / request.param
        git(tmp_path, "init", "-q", "-b", "main", "outer")
        folder.mkdir()
        StockRoom.init(folder, name="Ada", email="ada@example.org").close()
    with StockRoom(folder) as handle, handle.enable_write("first"):
        handle.data["x"] = np.full((3, 100), 1)
        handle.data["y"] = np.full((3, 100), 1)
    stock(folder, "git", "install")
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", "first")
    return folder


def diverge(project, ours=("x", 2), theirs=("y", 3)):
    r"""Commits on main and on side that change a column each; their ids.

    first --- ours    main
         \
          theirs      side
    """
    git(project, "checkout", "-q", "-b", "side")
    second = commit_data(project, theirs[1], "theirs", column=theirs[0])
    git(project, "checkout", "-q", "main")
    return commit_data(project, ours[1], "ours", column=ours[0]), second


def log_of(project, n=1):
    with StockRoom(project) as opened:
        return list(opened.log(n=n))


def test_installing_names_the_remote_file_only_if_there_is_one(tmp_path):
    folder = make_project(tmp_path / "alone")
    assert "remote.stock" not in run_stock(folder, "git", "install").stderr
    stock(folder, "remote", "add", "origin", tmp_path / "remote")
    (folder / "remote.stock").unlink(missing_ok=True)
    assert "remote.stock names the remote" in run_stock(folder, "git", "install").stderr


# -- merging


def test_git_merge_merges_the_data_with_both_parents(project):
    ours, theirs = diverge(project)
    with StockRoom(project) as opened:
        branches = dict(opened.branches)
    git(project, "merge", "-q", "--no-edit", "side")
    assert (read(project, "x"), read(project, "y")) == (2, 3)
    (merge,) = log_of(project)
    assert merge.parents == (ours, theirs)
    assert git(project, "status", "--porcelain") == ""
    with StockRoom(project) as opened:
        assert dict(opened.branches) == branches  # git alone has moved anything
        assert opened.verify().ok
    assert write(project, 9, "next", column="z")
    assert log_of(project)[0].parents == (merge.id,)


def test_a_merge_that_is_a_fast_forward_for_us_makes_no_commit(project):
    git(project, "checkout", "-q", "-b", "side")
    (project / "code").write_text("side")
    theirs = commit_data(project, 2, "theirs")
    git(project, "checkout", "-q", "main")
    (project / "other").write_text("main")
    git(project, "add", "-A")
    git(project, "commit", "-q", "-m", "code only")
    git(project, "merge", "-q", "--no-edit", "side")
    assert log_of(project)[0].id == theirs


def test_a_conflict_leaves_marks_and_the_way_out_works(project):
    ours, theirs = diverge(project, ("x", 2), ("x", 3))
    refused = try_git(project, "merge", "--no-edit", "side")
    assert refused.returncode == 1
    assert f"stock merge {theirs}" in refused.stderr
    text = (project / "head.stock").read_text()
    assert all(mark in text for mark in ("<<<<<<< ours", "=======", ">>>>>>> theirs", ours, theirs))
    looked = run_stock(project, "status")
    assert (looked.returncode, "git checkout --ours" in looked.stderr) == (14, True)
    git(project, "checkout", "--ours", "--", "head.stock")
    stock(project, "merge", theirs, "--strategy", "theirs")
    git(project, "add", "head.stock")
    git(project, "commit", "-q", "--no-edit")
    assert read(project) == 3
    assert log_of(project)[0].parents == (ours, theirs)


def test_a_merge_that_is_given_up_leaves_everything_as_it_was(project):
    ours, _ = diverge(project, ("x", 2), ("x", 3))
    assert try_git(project, "merge", "side").returncode == 1
    git(project, "merge", "--abort")
    assert log_of(project)[0].id == ours
    assert read(project) == 2


def test_git_rebase_puts_the_data_on_top(project):
    ours, _ = diverge(project)
    git(project, "checkout", "-q", "side")
    commit_data(project, 4, "theirs again", column="y")
    git(project, "rebase", "-q", "main")
    assert (read(project, "x"), read(project, "y")) == (2, 4)
    git(project, "checkout", "-q", "side~1")
    assert (read(project, "x"), read(project, "y")) == (2, 3)
    git(project, "checkout", "-q", "side~2")
    assert log_of(project)[0].id == ours


def test_git_cherry_pick_brings_only_what_the_commit_changed(project):
    r"""
    first --- ours                   main
         \
          y is 3 --- z is 4           side
    """
    ours, _ = diverge(project)
    git(project, "checkout", "-q", "side")
    commit_data(project, 4, "z", column="z")
    git(project, "checkout", "-q", "main")
    git(project, "cherry-pick", "side")
    assert (read(project, "x"), read(project, "y"), read(project, "z")) == (2, 1, 4)
    assert log_of(project)[0].parents == (ours,)


def test_git_revert_takes_back_only_what_the_commit_changed(project):
    commit_data(project, 2, "x is 2", column="x")
    last = commit_data(project, 3, "y is 3", column="y")
    git(project, "revert", "--no-edit", "HEAD~1")
    assert (read(project, "x"), read(project, "y")) == (1, 3)
    assert log_of(project)[0].parents == (last,)


def test_histories_with_nothing_in_common_are_left_to_a_person(project):
    git(project, "checkout", "-q", "--orphan", "alone")
    (project / "head.stock").unlink()
    StockRoom.init(project).close()
    commit_data(project, 5, "alone")
    assert len(log_of(project, 5)) == 1
    refused = try_git(project, "merge", "--allow-unrelated-histories", "main")
    assert refused.returncode == 1
    assert "share no history" in refused.stderr
    assert "<<<<<<< " in (project / "head.stock").read_text()


def test_git_pull_of_diverged_work_fetches_ours_by_itself(tmp_path):
    project = make_project(tmp_path / "project")
    commit_data(project, 1, "first")
    with StockRoom(project) as opened:
        opened.add_remote("origin", str(tmp_path / "data"))
        opened.push()
    git(tmp_path, "init", "-q", "--bare", "-b", "main", "code.git")
    git(project, "remote", "add", "origin", tmp_path / "code.git")
    stock(project, "git", "install", "--hooks", "--summary")
    git(project, "add", "-A")
    git(project, "commit", "-q", "-m", "set up")
    git(project, "push", "-q", "-u", "origin", "main")
    colleague = tmp_path / "colleague"
    git(tmp_path, "clone", "-q", tmp_path / "code.git", colleague)
    stock(colleague, "clone", "--here", "--metadata-only")
    stock(colleague, "git", "install", "--hooks")
    assert git(colleague, "status", "--porcelain") == ""

    theirs = commit_data(colleague, 7, "labels", column="label")
    pushed = try_git(colleague, "push")
    assert pushed.returncode == 0
    assert "pushed to origin first: main" in pushed.stderr
    ours = commit_data(project, 2, "more x")
    refused = try_git(project, "push")
    assert refused.returncode == 1
    git(project, "pull", "-q", "--no-rebase", "--no-edit")
    assert (read(project), read(project, "label")) == (2, 7)
    assert log_of(project)[0].parents == (ours, theirs)
    git(project, "push", "-q")
    git(colleague, "pull", "-q")
    stock(colleague, "fetch")
    assert (read(colleague), read(colleague, "label")) == (2, 7)


# -- hooks


@pytest.fixture
def hooked(tmp_path):
    """A project on main with both hooks, and remotes of both kinds; nothing is pushed."""
    project = make_project(tmp_path / "project")
    commit_data(project, 1, "first")
    git(tmp_path, "init", "-q", "--bare", "-b", "main", "code.git")
    git(project, "remote", "add", "origin", tmp_path / "code.git")
    stock(project, "git", "install", "--hooks", "--summary")
    return project


def heads_of(tmp_path):
    return try_git(tmp_path / "code.git", "for-each-ref", "--format=%(refname)").stdout.split()


def test_a_push_without_a_remote_for_the_data_is_refused(hooked, tmp_path):
    refused = try_git(hooked, "push", "-q", "origin", "main")
    assert refused.returncode == 1
    assert "stock remote add origin URL" in refused.stderr
    assert heads_of(tmp_path) == []
    git(hooked, "push", "-q", "--no-verify", "origin", "main")
    assert heads_of(tmp_path) == ["refs/heads/main"]


def test_a_push_brings_every_branch_and_every_pinned_commit_first(hooked, tmp_path):
    stock(hooked, "remote", "add", "origin", tmp_path / "data")
    second = commit_data(hooked, 2, "second")
    git(hooked, "checkout", "-q", "-b", "side", "main~1")
    third = commit_data(hooked, 3, "third")
    git(hooked, "push", "-q", "origin", "main", "side:refs/heads/elsewhere")
    with StockRoom.clone(str(tmp_path / "data"), tmp_path / "copy") as copy:
        assert dict(copy.remote_branches) == {"origin/main": second, "origin/elsewhere": third}
    git(hooked, "push", "-q", "origin", "--delete", "elsewhere")
    assert "everything up-to-date" in try_git(hooked, "push", "origin", "main").stderr.lower()


def test_a_pinned_commit_that_no_branch_leads_to_is_refused_with_the_way_out(hooked, tmp_path):
    stock(hooked, "remote", "add", "origin", tmp_path / "data")
    lost = commit_data(hooked, 2, "to be dropped by us, kept by git")
    git(hooked, "checkout", "HEAD~1", "--", "head.stock")
    commit_data(hooked, 3, "from the first again")
    refused = try_git(hooked, "push", "origin", "main")
    assert refused.returncode == 1
    assert f"stock tag NAME {lost[:12]}" in refused.stderr
    assert heads_of(tmp_path) == []
    stock(hooked, "tag", "kept", lost[:12])
    stock(hooked, "push", "origin", "kept")
    git(hooked, "push", "-q", "origin", "main")


def test_a_push_that_would_drop_others_commits_is_refused(hooked, tmp_path):
    stock(hooked, "remote", "add", "origin", tmp_path / "data")
    git(hooked, "push", "-q", "origin", "main")
    with StockRoom.clone(str(tmp_path / "data"), tmp_path / "other") as other:
        with other.enable_write("others"):
            other.data["label"] = [1, 2, 3]
        other.push()
    commit_data(hooked, 2, "ours")
    refused = try_git(hooked, "push", "origin", "main")
    assert refused.returncode == 1
    assert "stock pull" in refused.stderr
    stock(hooked, "pull")
    git(hooked, "commit", "-q", "-a", "-m", "merged")
    git(hooked, "push", "-q", "origin", "main")


def test_a_push_of_code_alone_asks_nothing_of_the_data(hooked, tmp_path):
    git(hooked, "push", "-q", "--no-verify", "-u", "origin", "main")
    (hooked / "code").write_text("x")
    git(hooked, "add", "code")
    git(hooked, "commit", "-q", "-m", "code")
    (hooked / ".stockroom").rename(tmp_path / "away")
    git(hooked, "push", "-q")
    (hooked / "head.stock").write_text("stockroom head 1\nbranch main\ncommit " + "5" * 64 + "\n")
    git(hooked, "commit", "-q", "-a", "-m", "data that is not here")
    refused = try_git(hooked, "push", "-q")
    assert (refused.returncode, "stock clone --here" in refused.stderr) == (1, True)


def test_after_a_checkout_a_line_says_where_the_data_is(hooked):
    second = commit_data(hooked, 2, "second")
    done = try_git(hooked, "checkout", "-q", "main~1")
    assert done.returncode == 0
    assert "first (was" in done.stderr
    done = try_git(hooked, "checkout", "-q", "main")
    assert f"head.stock is at {second[:12]} second" in done.stderr
    assert "head.stock" not in try_git(hooked, "checkout", "-q", "-b", "same").stderr
    (hooked / ".stockroom").rename(hooked.parent / "away")
    assert try_git(hooked, "checkout", "-q", "main~1").returncode == 0


# -- installing


def snapshot(project):
    """Everything of git's that installing might change."""
    files = [project / ".gitattributes", project / "remote.stock", *sorted((project / ".git" / "hooks").iterdir())]
    return {path.name: path.read_bytes() for path in files if path.exists()} | {
        "config": git(project, "config", "--local", "--list")
    }


def test_uninstall_takes_back_all_that_install_did(tmp_path):
    project = make_project(tmp_path / "project")
    (project / ".gitattributes").write_bytes(b"*.png binary\r\n*.txt text")
    git(project, "config", "merge.other.driver", "true")
    before = snapshot(project)
    planned = stock(project, "git", "install", "--hooks", "--summary", "--dry-run")
    assert snapshot(project) == before
    assert len(planned.splitlines()) == 6
    assert stock(project, "git", "install", "--hooks", "--summary") == planned
    assert (project / ".gitattributes").read_bytes() == (b"*.png binary\r\n*.txt text\n/head.stock merge=stockroom\n")
    assert stock_json(project, "git", "install", "--hooks", "--summary")["steps"] == []
    installed = stock_json(project, "git", "status")["installed"]
    assert installed == {"merge_driver": True, "pre_push": True, "post_checkout": True}
    taken_back = stock(project, "git", "uninstall", "--dry-run")
    assert stock(project, "git", "uninstall") == taken_back
    after = snapshot(project)
    assert after.pop(".gitattributes") == b"*.png binary\r\n*.txt text\n"
    before.pop(".gitattributes")
    assert after == before
    assert stock(project, "git", "uninstall") == ""


def test_hooks_of_others_are_kept_and_say_which_line_to_add(tmp_path):
    project = make_project(tmp_path / "project")
    hook = project / ".git" / "hooks" / "pre-push"
    hook.write_text("#!/bin/sh\nexit 0\n")
    before = snapshot(project)
    refused = run_stock(project, "git", "install", "--hooks")
    assert refused.returncode == 14
    assert "git hook pre-push" in refused.stderr
    assert snapshot(project) == before
    stock(project, "git", "install")
    assert hook.read_text() == "#!/bin/sh\nexit 0\n"
    stock(project, "git", "uninstall")
    assert hook.exists()
    hook.unlink()
    git(project, "config", "core.hooksPath", tmp_path / "shared hooks")
    refused = run_stock(project, "git", "install", "--hooks")
    assert (refused.returncode, "core.hooksPath" in refused.stderr) == (14, True)


def test_attributes_that_are_no_plain_file_are_left_alone(tmp_path):
    project = make_project(tmp_path / "project")
    (project / ".gitattributes").symlink_to(tmp_path / "elsewhere")
    refused = run_stock(project, "git", "install")
    assert (refused.returncode, "regular file" in refused.stderr) == (14, True)
    assert not (tmp_path / "elsewhere").exists()


def test_two_repositories_in_one_of_gits_share_what_is_installed(tmp_path):
    git(tmp_path, "init", "-q", "-b", "main")
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        StockRoom.init(tmp_path / name).close()
        commit_data(tmp_path / name, 1, name)
        stock(tmp_path / name, "git", "install", "--hooks")
    stock(tmp_path / "a", "git", "uninstall")
    assert stock_json(tmp_path / "a", "git", "status")["installed"]["merge_driver"] is False
    assert stock_json(tmp_path / "b", "git", "status")["installed"] == {
        "merge_driver": True,
        "pre_push": True,
        "post_checkout": False,
    }
    stock(tmp_path / "b", "git", "uninstall")
    assert not (tmp_path / ".git" / "hooks" / "pre-push").exists()
    assert "stockroom" not in git(tmp_path, "config", "--local", "--list")


def test_modules_in_the_work_tree_are_not_run_by_what_is_installed(tmp_path):
    project = make_project(tmp_path / "project")
    commit_data(project, 1, "first")
    stock(project, "git", "install", "--summary")
    (project / "stockroom").mkdir()
    (project / "stockroom" / "__init__.py").write_text("raise SystemExit('run')")
    (project / "json.py").write_text("raise SystemExit('run')")
    commit_data(project, 2, "second")
    done = try_git(project, "checkout", "-q", "HEAD~1")
    assert "head.stock is at" in done.stderr


def test_an_interpreter_that_is_gone_is_said_so(tmp_path):
    project = make_project(tmp_path / "project")
    commit_data(project, 1, "first")
    stock(project, "git", "install", "--hooks")
    hook = project / ".git" / "hooks" / "pre-push"
    hook.write_text(hook.read_text().replace(sys.executable, "/no/such/python"))
    git(tmp_path, "init", "-q", "--bare", "code.git")
    refused = try_git(project, "push", tmp_path / "code.git", "main")
    assert (refused.returncode, "is gone" in refused.stderr) == (1, True)


# -- status


def test_status_explains_the_tie_in_words_and_as_json(tmp_path):
    alone = tmp_path / "alone"
    StockRoom.init(alone).close()
    assert "not tied to git" in stock(alone, "git", "status")
    assert stock_json(alone, "git", "status")["work_tree"] is None
    project = make_project(tmp_path / "project")
    assert "git add head.stock" in stock(project, "git", "status")
    first = commit_data(project, 1, "first")
    told = stock_json(project, "git", "status")
    assert (told["tied"], told["branch"], told["head"], told["committed"]) == (True, "main", first, first)
    assert (told["branch_place"], told["here"], told["staged"], told["remote"]) == ("same", True, False, None)
    second = write(project, 2, "second")
    assert f"Git's last commit has {first[:12]}" in stock(project, "git", "status")
    git(project, "checkout", "-q", "-f", "-b", "side")
    assert "does not exist yet" in stock(project, "git", "status")
    git(project, "checkout", "-q", "main")
    assert stock_json(project, "git", "status")["branch_place"] == "ahead"
    git(project, "checkout", "-q", "--detach")
    assert "git switch -c NAME" in stock(project, "git", "status")
    head = project / "head.stock"
    head.write_text(head.read_text().replace(first, "7" * 64))
    told = stock_json(project, "git", "status")
    assert (told["here"], told["head"], second != first) == (False, "7" * 64, True)
    assert "stock fetch" in stock(project, "git", "status")
