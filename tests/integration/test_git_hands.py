"""What hands that know git type does here what it does there: a table of command lines, compared with real git.

A row is a sequence of commands, divided by `;`, that begins on the history in tests/kit/hands.py. `write a 7` stages
the value 7 as column and as file `data/a`; `{remote}` is the place of a new remote. Compared are which commands
succeed, what they print, which refs there are and where they are, the branch, the order of the log, what is staged, and
all staged values.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.kit.hands import GitWorld, StockWorld, build, copy_world, try_row

ROWS = [
    # checkout
    "checkout -b x",
    "checkout -b x HEAD~1",
    "checkout -b x v1 ; checkout -b y dev",
    "checkout -b main",
    "checkout -b x nope",
    "checkout -B dev",
    "checkout -B dev HEAD~1",
    "checkout dev ; checkout -",
    "checkout dev ; checkout - ; checkout -",
    "checkout v1 ; checkout -",
    "checkout v1 ; checkout dev ; checkout -",
    "checkout dev ; checkout topic ; checkout @{{-1}}",
    "checkout -",
    "checkout --detach",
    "checkout --detach dev ; checkout -",
    "checkout nope",
    "branch same ; write a 7 ; checkout same",
    "write a 7 ; checkout -b x",
    "write a 7 ; checkout -b x HEAD ; commit -m 7",
    "write a 7 ; checkout main",
    "checkout dev ; merge -m m - ; log --oneline",
    # branch
    "branch",
    "branch x HEAD~1 ; branch",
    "branch dev",
    "branch -f dev HEAD~1",
    "branch -f new HEAD~1",
    "branch -f main HEAD~1",
    "branch -m trunk ; branch",
    "branch -m dev side",
    "branch -m dev topic",
    "branch -M dev topic",
    "branch -M dev main",
    "branch -m nope x",
    "write a 7 ; branch -m trunk ; commit -m 7",
    "branch --merged",
    "branch --merged topic",
    "branch --no-merged",
    "branch --no-merged dev",
    "branch --contains dev",
    "branch --contains v1",
    "branch --show-current",
    "branch -l d*",
    "branch x ; branch y ; branch -d x y",
    "branch -d dev",
    "branch -D dev topic",
    "branch -d main",
    # tag
    "tag v2 ; tag",
    "tag v1",
    "tag -f v1",
    "tag -f v1 dev ; tag -f v9",
    "tag old1 ; tag -l v*",
    "tag x ; tag -d x v1",
    "tag -d nope",
    # log
    "log",
    "log --oneline",
    "log -1",
    "log -2 --oneline",
    "log -n 1 dev",
    "log -n2 topic",
    "log v1..main",
    "log main..dev --oneline",
    "log dev..topic",
    "log dev...main",
    "log topic ^dev",
    "log ..dev",
    "log --all --oneline",
    "log --all --author Bob",
    "log --author=Ada topic",
    "log --grep 5",
    "log topic --merges",
    "log topic --no-merges",
    "log topic --first-parent",
    "log --reverse",
    "log --skip 1 -n 1",
    "log topic -- data/a",
    "log topic -- data/c",
    "log --oneline topic -- data/c data/d",
    "log topic dev -- data",
    "log main -- data/c",
    "log --name-only topic",
    "log --stat --oneline",
    "log -p -1",
    "log -p topic -- data/c",
    "log data/a",
    "log nope",
    "log --since 2000-01-01",
    "log --until 2000-01-01",
    "log --all --graph --oneline",
    "log --graph --oneline topic -3",
    "log --topo-order v1..topic --oneline",
    # commit
    "write a 7 ; commit -m 7 ; log --oneline",
    "write a 7 ; commit -am 7",
    "commit -m 7",
    "commit --allow-empty -m 7",
    "write a 7 ; commit --amend -m 7",
    "write a 7 ; commit --amend --no-edit",
    "commit --amend -m renamed ; log --oneline",
    "checkout topic ; write a 7 ; commit --amend --no-edit ; log --oneline",
    "write d 40 ; rm --cached data/d ; commit --amend -m x",
    # diff and status
    "diff --cached --name-status",
    "write a 7 ; write z 50 ; rm --cached data/b ; diff --cached --name-status",
    "write a 7 ; diff --staged --name-only",
    "write a 7 ; diff --cached --name-only HEAD~1",
    "diff --name-status v1 dev",
    "diff --name-status v1..topic",
    "diff --name-status main...dev",
    "diff --name-only v1 topic -- data/c",
    "diff --exit-code v1 dev",
    "status --porcelain",
    "write a 7 ; write z 50 ; rm --cached data/b ; status --porcelain",
    # reset
    "write a 7 ; write b 21 ; reset -- data/a",
    "write a 7 ; write b 21 ; reset HEAD data/a",
    "write a 7 ; reset data/a",
    "write z 50 ; reset -- data/z",
    "rm --cached data/a ; reset -- data/a",
    "write a 7 ; reset --hard",
    "write a 7 ; reset --hard HEAD~1",
    "reset --soft HEAD~1",
    "write a 7 ; reset --soft v1 ; commit -m 7",
    "reset --hard nope",
    # rm and mv
    "rm data/a",
    "rm data/a data/b ; commit -m 7",
    "rm data",
    "rm -r data",
    "rm nope",
    "rm --ignore-unmatch nope",
    "rm -n data/a",
    "write a 7 ; rm data/a",
    "write a 7 ; rm -f data/a",
    "write z 50 ; rm data/z",
    "mv data/a data/z",
    "mv data/a data/z ; commit -m 7",
    "mv data/a data/b",
    "mv -f data/a data/b",
    "mv nope data/z",
    "write z 50 ; mv data/z data/y",
    # stash
    "stash",
    "write a 7 ; stash ; stash list",
    "write a 7 ; stash push -m mine ; stash list",
    "write a 7 ; stash -m mine ; stash list",
    "write a 7 ; stash ; stash pop --index",
    "write a 7 ; stash ; write b 21 ; commit -m 7 ; stash apply --index ; stash list",
    "write a 7 ; stash ; checkout -q dev ; stash drop ; stash list",
    "write a 7 ; stash -m one ; write a 8 ; stash -m two ; stash list ; stash drop stash@{{1}} ; stash list",
    "write a 7 ; stash -m one ; write a 8 ; stash -m two ; stash pop --index stash@{{1}} ; stash list",
    "write a 7 ; stash ; write a 9 ; commit -m 7 ; stash pop --index ; stash list",
    "write a 7 ; stash ; stash clear ; stash list",
    "write a 7 ; write b 21 ; stash push -- data/a ; stash list",
    "stash pop",
    "stash drop",
    "stash list",
    # merge, revert, cherry-pick
    "merge dev -m m ; log --oneline",
    "merge --no-edit dev",
    "merge --ff-only topic",
    "revert --no-edit HEAD ; log --oneline",
    "revert --no-edit HEAD~1",
    "revert -n HEAD",
    "checkout topic ; revert --no-edit HEAD",
    "checkout topic ; revert --no-edit -m 1 HEAD ; log --oneline",
    "checkout topic ; revert --no-edit -m 2 HEAD",
    "checkout topic ; revert --no-edit -m 3 HEAD",
    "revert -m 2 --no-edit HEAD",
    "cherry-pick dev~1 ; log --oneline",
    "cherry-pick -n dev~1",
    "cherry-pick -m 1 topic ; log --oneline",
    "cherry-pick topic",
    # remotes
    "remote add origin {remote} ; push origin main ; branch -r",
    "remote add origin {remote} ; push origin dev ; fetch ; branch -a",
    "remote add origin {remote} ; push origin main ; reset --hard HEAD~1 ; merge origin/main",
    "remote add origin {remote} ; push origin topic ; log --oneline origin/topic ; log main..origin/topic --oneline",
]


@pytest.fixture(scope="module")
def worlds(tmp_path_factory: pytest.TempPathFactory) -> list[GitWorld | StockWorld]:
    folder = tmp_path_factory.mktemp("worlds")
    made: list[GitWorld | StockWorld] = [GitWorld(folder / "git" / "here"), StockWorld(folder / "stock" / "here")]
    for world in made:
        world.make()
        build(world)
    return made


@pytest.mark.parametrize("row", ROWS, ids=ROWS)
def test_the_same_words_do_the_same_as_git(row: str, worlds: list[GitWorld | StockWorld], tmp_path: Path) -> None:
    git, stock = (
        copy_world(world, tmp_path / name / "here") for world, name in zip(worlds, ("git", "stock"), strict=True)
    )
    assert try_row(stock, row) == try_row(git, row)
