"""HEAD, the file: what it may say, and how a move that was cut off is finished."""

from __future__ import annotations

import fcntl
import os

import pytest

from stockroom import (
    FormatVersionError,
    HeadConflictError,
    LockedError,
    MalformedRecordError,
    RefNotFoundError,
    RepositoryNotFoundError,
    StockRoom,
    StockroomError,
)
from stockroom.digest import CommitId
from stockroom.refs import changes
from stockroom.repository.head import Head, HeadFile, parse_head
from stockroom.repository.repository import Repository

COMMIT = "5c" * 32


@pytest.mark.parametrize("branch", [None, "main", "feature/ä"])
@pytest.mark.parametrize("commit", [None, CommitId(bytes.fromhex(COMMIT))])
def test_a_head_is_parsed_back_from_its_text(branch, commit):
    head = Head(branch, commit)
    assert parse_head(head.format(), where="head") == head


def test_line_ends_that_git_has_rewritten_do_no_harm():
    head = Head("main", CommitId(bytes.fromhex(COMMIT)))
    assert parse_head(head.format().replace("\n", "\r\n"), where="head") == head


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n",
        "stockroom head 1\n",
        "stockroom head 1\nbranch main\ncommit -",
        "stockroom head 1\nbranch main\ncommit -\n\n",
        "stockroom head 1\nbranch main\ncommit abc\n",
        f"stockroom head 1\nbranch main\ncommit {COMMIT.upper()}\n",
        f"stockroom head 1\nbranch main\ncommit {COMMIT[:-2]}\n",
        f"stockroom head 1\nbranch main\ncommit {COMMIT[:2]} {COMMIT[2:]}\n",
        f"stockroom head 1\nbranch \ncommit {COMMIT}\n",
        f"stockroom head 1\ncommit {COMMIT}\nbranch main\n",
        "\0" * 4096,
        "\ufffd" * 100,
    ],
)
def test_any_other_text_is_refused_with_what_to_do(text):
    with pytest.raises(MalformedRecordError, match=r"^somewhere: .*stock checkout"):
        parse_head(text, where="somewhere")


@pytest.mark.parametrize(
    ("text", "theirs"),
    [
        (f"<<<<<<< ours\nstockroom head 1\nbranch main\ncommit {COMMIT}\n=======\n>>>>>>> theirs\n", "COMMIT"),
        (
            f"stockroom head 1\nbranch main\n<<<<<<< ours\ncommit -\n=======\ncommit {COMMIT}\n>>>>>>> theirs\n",
            COMMIT,
        ),
    ],
)
def test_a_conflict_of_git_is_no_damage_and_says_what_to_do(text, theirs):
    with pytest.raises(HeadConflictError, match=f"^somewhere: git left a conflict .*stock merge {theirs}`") as raised:
        parse_head(text, where="somewhere")
    assert raised.value.where == "somewhere"


def test_the_head_of_a_newer_stockroom_is_told_from_damage():
    with pytest.raises(FormatVersionError, match="upgrade"):
        parse_head(f"stockroom head 2\nbranch main\ncommit {COMMIT}\n", where="head")


@pytest.fixture
def two(stock):
    """A repository with two commits; their ids, oldest first."""
    for number in (1, 2):
        with stock.enable_write(f"number {number}") as writer:
            writer.data["x"] = [number]
    return stock, [commit.id for commit in stock.log()][::-1]


def write_head(stock, text):
    (stock.path / "head.stock").write_text(text)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("garbage", MalformedRecordError),
        ("<<<<<<< HEAD\nstockroom head 1\n", MalformedRecordError),
        (f"stockroom head 9\nbranch main\ncommit {COMMIT}\n", FormatVersionError),
        (f"stockroom head 1\nbranch main\ncommit {COMMIT}\n", RefNotFoundError),
    ],
)
def test_a_damaged_head_is_an_error_that_names_the_file_and_harms_no_other_name(two, text, error):
    stock, ids = two
    write_head(stock, text)
    for options in ({}, {"enable_write": True}, {"ref": "HEAD"}):
        with pytest.raises(error, match=r"head\.stock"):
            StockRoom(stock.path, **options)
    for ref in ("main", "main~1", ids[0]):
        with StockRoom(stock.path, ref=ref) as reader:
            assert reader.data["x", 0] in (1, 2)
            report = reader.verify()
            assert "HEAD" in [item.where for item in (*report.damage, *report.unchecked)]  # a newer format is no damage
    write_head(stock, "stockroom head 1\nbranch main\ncommit -\n")  # the way out that messages name
    with StockRoom(stock.path) as reader:
        reader.checkout("main")
        assert reader.commit_id == ids[1]


def test_a_missing_head_says_what_to_run(two):
    stock, _ = two
    (stock.path / "head.stock").unlink()
    with pytest.raises(RepositoryNotFoundError, match="git checkout"):
        StockRoom(stock.path)


def test_a_repository_of_a_newer_format_is_refused(two):
    stock, _ = two
    (stock.path / ".stockroom" / "format").write_text("stockroom repository 2\n")
    for open_it in (StockRoom, StockRoom.init):
        with pytest.raises(FormatVersionError, match="upgrade"):
            open_it(stock.path)


# -- moves cut off


def cut_off(path, change, where):
    """Run `change` on a writer in a child that dies before the step `where` of moving HEAD; None lets it finish."""
    pid = os.fork()
    if pid == 0:
        try:
            if where is not None:
                setattr(HeadFile, where, lambda *_: os._exit(9))
            with StockRoom(path, enable_write=True) as writer:
                change(writer)
        finally:
            os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == (0 if where is None else 9)


def write_three(writer):
    writer.data["x"] = [3]
    writer.commit("number 3")


@pytest.mark.parametrize("opened_by", ["reader", "writer"])
@pytest.mark.parametrize(("where", "messages"), [("prepare", 2), ("complete", 3), (None, 3)])
def test_a_commit_cut_off_at_any_step_happened_or_did_not(two, where, messages, opened_by):
    stock, _ = two
    cut_off(stock.path, write_three, where)
    with StockRoom(stock.path, enable_write=opened_by == "writer") as opened:
        assert len(list(opened.log())) == messages
        assert opened.data["x", 0] == messages
        assert opened.commit_id == opened.branches["main"]
        assert opened.commit_id in (stock.path / "head.stock").read_text()
        assert opened.verify().ok
    with stock.enable_write("after") as writer:
        writer.data["x"] = [9]
    assert len(list(stock.log())) == messages + 1


@pytest.mark.parametrize(("where", "count"), [("prepare", 2), ("complete", 1), (None, 1)])
def test_an_undo_cut_off_at_any_step_happened_or_did_not(two, where, count):
    r"""
    number 1---number 2---after     main, where undo did not happen
            \
             after                  main, where it did
    """
    stock, ids = two
    cut_off(stock.path, StockRoom.undo, where)
    with StockRoom(stock.path) as opened:
        assert opened.commit_id == ids[count - 1] == opened.branches["main"]
    with stock.enable_write("after") as writer:
        writer.data["x"] = [9]
    assert len(list(stock.log())) == count + 1


def test_the_undo_of_the_only_commit_cut_off_is_finished_too(stock):
    with stock.enable_write("only") as writer:
        writer.data["x"] = [1]
    cut_off(stock.path, StockRoom.undo, "complete")
    with StockRoom(stock.path) as opened:
        assert (opened.branch, opened.commit_id, list(opened.data)) == ("main", None, [])


@pytest.mark.parametrize("where", ["prepare", "complete"])
def test_a_checkout_cut_off_leaves_head_where_it_was(two, where):
    stock, ids = two
    stock.create_branch("old", at="HEAD~1")
    cut_off(stock.path, lambda writer: writer.checkout("old"), where)
    with StockRoom(stock.path, enable_write=True) as opened:
        assert (opened.branch, opened.commit_id) == ("main", ids[1])
        opened.data["x"] = [3]
        opened.commit("number 3")
    stock.refresh()
    assert (stock.branch, stock.data["x", 0]) == ("main", 3)


def test_a_living_writers_half_done_move_is_seen_but_not_finished_by_others(two):
    stock, ids = two
    cut_off(stock.path, write_three, "complete")
    before = (stock.path / "head.stock").read_text()
    lock = os.open(stock.path / ".stockroom" / "writer.lock", os.O_RDWR)
    fcntl.flock(lock, fcntl.LOCK_EX)
    with StockRoom(stock.path) as reader:
        assert reader.data["x", 0] == 3
    assert (stock.path / "head.stock").read_text() == before
    with pytest.raises(LockedError):
        StockRoom(stock.path, enable_write=True, timeout_s=0)
    os.close(lock)
    StockRoom(stock.path).close()
    assert ids[1] not in (stock.path / "head.stock").read_text()


@pytest.mark.parametrize("pending", ["", "garbage", "stockroom head 7\nbranch main\ncommit -\n", "-", "same"])
def test_a_pending_head_that_did_not_take_effect_is_ignored(two, pending):
    stock, ids = two
    head = (stock.path / "head.stock").read_text()
    texts = {"same": head, "-": f"stockroom head 1\nbranch main\ncommit {ids[0]}\n"}
    (stock.path / ".stockroom" / "head.pending").write_text(texts.get(pending, pending))
    for writes in (False, True):
        with StockRoom(stock.path, enable_write=writes) as opened:
            assert opened.commit_id == ids[1]
    with stock.enable_write("after") as writer:
        writer.data["x"] = [9]
    assert stock.data["x", 0] == 9


def test_a_commit_that_is_refused_leaves_no_pending_head(two):
    stock, _ = two
    with StockRoom(stock.path, enable_write=True) as writer:
        writer.data["x"] = [5]
        repository = Repository.open(stock.path)
        tip = repository.refs.find_branch("main")
        repository.refs.apply(changes.delete_branch("main", at=tip))  # as an older program might
        with pytest.raises(StockroomError, match="checkout -b"):
            writer.commit("refused")
        repository.refs.apply(changes.create_branch("main", at=tip))
        repository.close()
        assert not (stock.path / ".stockroom" / "head.pending").exists()
        writer.commit("taken")
    assert stock.verify().ok
