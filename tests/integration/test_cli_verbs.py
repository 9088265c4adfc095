"""Every verb on a real repository, through `main`: what it prints, what it changes."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stockroom import StockRoom
from stockroom.cli import main


@dataclass(frozen=True)
class Answer:
    code: int
    out: str
    err: str

    @property
    def document(self) -> dict[str, Any]:
        document = json.loads(self.out)
        assert document["version"] == 1
        return document


Command = Callable[..., Answer]


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    """Runs `stock ARGUMENTS` in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("STOCKROOM_AUTHOR_NAME", raising=False)
    monkeypatch.delenv("STOCKROOM_AUTHOR_EMAIL", raising=False)

    def run(*arguments: str) -> Answer:
        capsys.readouterr()
        code = main(list(arguments))
        return Answer(code, *capsys.readouterr())

    return run


@pytest.fixture
def filled(command: Command) -> Command:
    """The same in a repository with two commits on main: 3 images and captions, then a third caption changed."""
    assert command("init", "--name", "Ada", "--email", "ada@example.org").code == 0
    with StockRoom(enable_write=True) as writer:
        writer.data["image"] = np.arange(12, dtype="u1").reshape(3, 2, 2)
        writer.data["caption"] = {"a/b": "one", "two": "zwei", "three": "drei"}
    assert command("commit", "-m", "first").code == 0
    with StockRoom(enable_write=True) as writer:
        writer.data["caption"]["three"] = "three"
        writer.data["image"][7] = np.full((2, 2), 9, "u1")
    assert command("commit", "-m", "second\n\nwith a body").code == 0
    return command


def call_for_bytes(*arguments: str) -> bytes:
    raw = io.BytesIO()
    with contextlib.redirect_stdout(io.TextIOWrapper(raw)) as out:
        assert main(list(arguments)) == 0
        out.flush()
        return raw.getvalue()


def stage_one_change() -> None:
    with StockRoom(enable_write=True) as writer:
        writer.data["caption"]["two"] = "deux"


def test_init_says_whether_there_was_a_repository(command: Command) -> None:
    first, second = command("init", "--json"), command("init", "--json")
    assert (first.code, first.document["created"]) == (0, True)
    assert (second.code, second.document["created"]) == (0, False)
    assert "already" in command("init").err


def test_init_makes_the_folder(command: Command) -> None:
    assert command("init", "new/place").code == 0
    assert command("-C", "new/place", "status").code == 0


def test_commit_prints_the_id_of_the_new_head(filled: Command) -> None:
    stage_one_change()
    answer = filled("commit", "-m", "third")
    assert answer.out.strip() == StockRoom().commit_id
    assert "third" in answer.err
    assert "+0 -0 ~1" in answer.err


def test_commit_takes_paragraphs_a_file_and_an_author(filled: Command) -> None:
    stage_one_change()
    filled("commit", "-m", "one", "-m", "two", "--author", "Bob <bob@example.org>")
    newest = next(StockRoom().log())
    assert (newest.message, newest.author, newest.email) == ("one\n\ntwo", "Bob", "bob@example.org")
    filled("reset")
    Path("message.txt").write_text("from a file\n")
    with StockRoom(enable_write=True) as writer:
        writer.data["caption"]["two"] = "dos"
    filled("commit", "-F", "message.txt")
    newest = next(StockRoom().log())
    assert (newest.message, newest.author) == ("from a file", "Ada")


def test_commit_of_nothing_fails_and_says_so(filled: Command) -> None:
    answer = filled("commit", "-m", "x")
    assert (answer.code, answer.out) == (1, "")
    assert len(answer.err.splitlines()) == 1


def test_commit_in_json_names_what_changed(filled: Command) -> None:
    stage_one_change()
    document = filled("--json", "commit", "-m", "x").document
    assert document["id"] == StockRoom().commit_id
    assert document["changes"]["data/caption"]["changed"] == 1


def test_status_lists_staged_changes_by_column(filled: Command) -> None:
    assert "Nothing staged" in filled("status").out
    stage_one_change()
    assert "data/caption" in filled("status").out
    document = filled("status", "--json").document
    assert (document["branch"], document["clean"]) == ("main", False)
    assert document["changes"] == {"data/caption": {"kind": "changed", "added": 0, "removed": 0, "changed": 1}}


def test_log_walks_back_from_a_ref(filled: Command) -> None:
    assert [line.split()[-1] for line in filled("log", "--oneline").out.splitlines()] == ["second", "first"]
    assert filled("log", "-n", "1", "--oneline").out.count("\n") == 1
    assert "first" in filled("log", "HEAD~1").out
    assert "second" not in filled("log", "HEAD~1").out
    commits = filled("log", "--json").document["commits"]
    assert [commit["message"] for commit in commits] == ["second\n\nwith a body", "first"]
    assert commits[0]["parents"] == [commits[1]["id"]]
    assert commits[0]["author"] == "Ada"


def test_log_in_full_reads_as_git_log_does(filled: Command) -> None:
    lines = filled("log", "-n", "1").out.splitlines()
    assert lines[0].startswith("commit ")
    assert "Author: Ada <ada@example.org>" in lines
    assert "    with a body" in lines


def test_show_describes_a_commit_and_what_it_changed(filled: Command) -> None:
    assert "data/image" in filled("show").out
    document = filled("show", "HEAD~1", "--json").document
    assert document["commit"]["message"] == "first"
    assert document["changes"]["data/image"]["added"] == 3


def test_show_describes_a_column(filled: Command) -> None:
    column = filled("show", "HEAD~1:data/image", "--json").document["column"]
    assert (column["dtype"], column["shape"], column["key_type"], column["count"]) == ("uint8", [2, 2], "int", 3)
    assert "dtype: uint8" in filled("show", ":data/image").out


def test_show_describes_a_sample_as_it_was(filled: Command) -> None:
    document = filled("show", "HEAD:data/image/1", "--json").document
    assert document["summary"] == {"min": 4, "max": 7, "mean": 5.5}
    assert document["digest"] == StockRoom().data["image"].digest(1)
    assert "text: drei" in filled("show", "HEAD~1:data/caption/three").out
    assert "text: three" in filled("show", "main:data/caption/three").out


def test_ls_lists_columns_and_keys(filled: Command) -> None:
    lines = filled("ls").out.splitlines()
    assert [line.split()[0] for line in lines] == ["data/caption", "data/image"]
    assert filled("ls", "data/image").out.split() == ["0", "1", "2", "7"]
    assert filled("ls", "HEAD~1:data/image").out.split() == ["0", "1", "2"]
    assert set(filled("ls", "data/caption", "--json").document["keys"]) == {"a/b", "two", "three"}
    assert [column["name"] for column in filled("ls", "--json").document["columns"]] == ["caption", "image"]


def test_cat_prints_text_as_it_is(filled: Command) -> None:
    assert filled("cat", "HEAD:data/caption/a/b").out == "one"
    assert filled("cat", "data/caption/three", "--json").document["value"] == "three"


def test_cat_prints_an_array_as_npy_and_raw(filled: Command) -> None:
    array = np.load(io.BytesIO(call_for_bytes("cat", "data/image/1")), allow_pickle=False)
    np.testing.assert_array_equal(array, [[4, 5], [6, 7]])
    assert call_for_bytes("cat", "--raw", "data/image/7") == bytes([9, 9, 9, 9])


@pytest.mark.parametrize("address", ["data/image/99", "data/image/x", "data/nope/0", "nope:data/image/0", "image/0"])
def test_what_is_not_there_is_named_on_one_line(filled: Command, address: str) -> None:
    answer = filled("cat", address)
    assert (answer.code, answer.out) == (1, "")
    assert len(answer.err.splitlines()) == 1


def test_diff_without_arguments_is_head_against_the_stage(filled: Command) -> None:
    assert filled("diff", "--exit-code") == Answer(0, "", "")
    stage_one_change()
    answer = filled("diff", "--exit-code")
    assert answer.code == 1
    assert answer.out.splitlines() == ["data/caption: changed, +0 -0 ~1", "  ~ two"]


@pytest.mark.parametrize("sides", [["HEAD~1", "HEAD"], ["HEAD~1..HEAD"], ["HEAD~1.."], ["HEAD~1"]])
def test_diff_takes_two_sides_in_every_form(filled: Command, sides: list[str]) -> None:
    assert filled("diff", *sides, "--name-only").out.split() == ["data/caption", "data/image"]
    document = filled("diff", *sides, "--json").document["changes"]
    assert document["data/image"]["added_keys"] == [7]
    assert document["data/caption"]["changed_keys"] == ["three"]


def test_diff_stat_counts(filled: Command) -> None:
    out = filled("diff", "HEAD~1..", "--stat").out
    assert "2 columns changed: +1 -0 ~1" in out
    document = filled("diff", "HEAD..HEAD~1", "--stat", "--json").document["changes"]
    assert document["data/image"] == {"kind": "changed", "added": 0, "removed": 1, "changed": 0}


def test_branches_are_made_listed_and_deleted(filled: Command) -> None:
    assert filled("branch", "dev", "HEAD~1").code == 0
    assert filled("branch").out == "  dev\n* main\n"
    listed = filled("branch", "--list", "--json").document["branches"]
    assert [(branch["name"], branch["current"]) for branch in listed] == [("dev", False), ("main", True)]
    assert filled("branch", "-d", "dev").code == 0
    assert filled("branch").out == "* main\n"


def test_an_unmerged_branch_needs_force(filled: Command) -> None:
    filled("checkout", "-b", "dev")
    stage_one_change()
    filled("commit", "-m", "only on dev")
    filled("checkout", "main")
    refused = filled("branch", "-d", "dev")
    assert refused.code == 14
    assert len(refused.err.splitlines()) == 1
    assert filled("branch", "-D", "dev").code == 0
    assert filled("undo").code == 0
    assert "dev" in filled("branch").out


def test_tags_are_made_listed_and_deleted(filled: Command) -> None:
    assert filled("tag", "v1", "HEAD~1").code == 0
    assert filled("tag").out == "v1\n"
    assert filled("log", "v1", "--oneline").out.split()[-1] == "first"
    assert filled("tag", "-d", "v1").code == 0
    assert filled("tag", "--json").document["tags"] == []
    assert filled("tag", "-d", "v1").code == 1


def test_checkout_moves_head_and_back(filled: Command) -> None:
    assert filled("branch", "old", "HEAD~1").code == 0
    assert filled("checkout", "old").code == 0
    assert filled("cat", "data/caption/three").out == "drei"
    assert filled("checkout", "main").code == 0
    assert filled("cat", "data/caption/three").out == "three"
    assert filled("checkout", "nope").code == 1


def test_checkout_with_staged_changes_is_refused_with_the_way_out(filled: Command) -> None:
    filled("branch", "old", "HEAD~1")
    stage_one_change()
    answer = filled("checkout", "old")
    assert answer.code == 14
    assert "commit" in answer.err
    assert "reset" in answer.err
    assert filled("reset").code == 0
    assert filled("checkout", "old").code == 0


def test_reset_says_that_it_moved_a_branch_without_commits(filled: Command) -> None:
    commit_id = filled("status", "--json").document["commit"]
    while filled("undo").code == 0 and filled("status", "--json").document["commit"] is not None:
        pass
    assert "(was at no commit)" in filled("reset", "--hard", commit_id).err


def test_reset_drops_the_stage(filled: Command) -> None:
    stage_one_change()
    assert filled("reset", "--json").document["dropped"]["data/caption"]["changed"] == 1
    assert filled("status", "--json").document["clean"]
    assert "nothing" in filled("reset").err


def test_undo_takes_back_a_commit_and_the_log_of_operations_says_so(filled: Command) -> None:
    before = filled("reflog", "--json").document["operations"]
    assert [operation["kind"] for operation in before[:2]] == ["commit", "commit"]
    assert filled("undo").code == 0
    assert filled("log", "--oneline").out.split()[-1] == "first"
    after = filled("reflog", "--json").document["operations"]
    assert len(after) == len(before) + 1
    assert (after[0]["old"], after[0]["new"]) == (before[0]["new"], before[0]["old"])
    assert filled("reflog", "-n", "1").out.count("\n") == 1


def test_fsck_finds_a_flipped_byte_and_exits_with_15(filled: Command) -> None:
    with StockRoom(enable_write=True) as writer:
        writer.data["large"] = np.arange(4096, dtype="u1").reshape(2, 2048)
        writer.commit("in a pack")
    clean = filled("fsck", "--json").document
    assert (clean["ok"], clean["damage"], clean["checked"]["packs"]) == (True, [], 1)
    shards = [path for path in Path().rglob("*") if "packs" in path.parts and path.is_file()]
    largest = max(shards, key=lambda path: path.stat().st_size)
    damaged = bytearray(largest.read_bytes())
    damaged[0] ^= 1
    largest.chmod(0o644)
    largest.write_bytes(damaged)
    answer = filled("fsck")
    assert answer.code == 15
    assert len(answer.out.splitlines()) == 1
    (damage,) = filled("fsck", "--json").document["damage"]
    assert largest.parent.name in damage["where"]
    assert damage["repair"]


def test_import_numpy_commits_and_running_again_changes_nothing(command: Command) -> None:
    command("init")
    np.save("wine.npy", np.arange(30, dtype="f4").reshape(10, 3))
    first = command("import", "numpy", "wine.npy", "-m", "wine")
    assert first.code == 0
    assert first.out.strip() == StockRoom().commit_id
    np.testing.assert_array_equal(StockRoom().data["wine"][9], [27, 28, 29])
    again = command("import", "numpy", "wine.npy", "--json")
    assert again.code == 0
    assert (again.document["commit"], again.document["changes"]) == (None, {})


def test_import_can_leave_the_stage_uncommitted(command: Command) -> None:
    command("init")
    np.save("wine.npy", np.zeros((4, 3)))
    assert command("import", "numpy", "wine.npy", "--no-commit").code == 0
    assert command("status", "--json").document["changes"]["data/wine"]["added"] == 4


def test_a_failed_import_leaves_no_trace(command: Command) -> None:
    command("init")
    np.save("good.npy", np.zeros((4, 3)))
    np.save("torn.npy", np.zeros((4, 3)))
    Path("torn.npy").write_bytes(Path("torn.npy").read_bytes()[:-8])
    answer = command("import", "numpy", "good.npy", "torn.npy")
    assert answer.code in {1, 15}
    assert len(answer.err.splitlines()) == 1
    assert command("status", "--json").document["clean"]


def test_an_import_cut_short_leaves_no_trace(command: Command) -> None:
    command("init")
    images = b"\x00\x00\x08\x03" + b"".join(n.to_bytes(4, "big") for n in (10, 2, 2)) + bytes(36)
    labels = b"\x00\x00\x08\x01" + (10).to_bytes(4, "big") + bytes(10)
    for kind, content in (("images-idx3", images), ("labels-idx1", labels)):
        for split in ("train", "t10k"):
            Path(f"{split}-{kind}-ubyte.gz").write_bytes(gzip.compress(content))
    answer = command("import", "torchvision.mnist", "--root", ".")
    assert answer.code in {1, 15}
    assert "train-images" in answer.err
    assert command("status", "--json").document["clean"]


def test_an_unknown_source_names_those_that_exist(command: Command) -> None:
    command("init")
    answer = command("import", "torchvision.minst")
    assert answer.code == 1
    assert "torchvision.mnist" in answer.err


def test_quiet_keeps_data_and_drops_talk(filled: Command) -> None:
    stage_one_change()
    answer = filled("-q", "commit", "-m", "x")
    assert answer.out.strip() == StockRoom().commit_id
    assert answer.err == ""


def test_verbose_shows_the_traceback_of_an_error(filled: Command) -> None:
    answer = filled("checkout", "nope", "-v")
    assert answer.code == 1
    assert "Traceback" in answer.err
    assert answer.err.splitlines()[-1].startswith("stock: ")
