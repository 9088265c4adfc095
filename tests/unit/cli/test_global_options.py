"""The global options, before and after the verb, and command lines that cannot be understood."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from stockroom.cli import main
from stockroom.cli.app import GROUPS, VERBS
from stockroom.cli.failures import CommandLineError
from stockroom.cli.global_options import OptionValues
from stockroom.cli.verbs.commit import parse_author, resolve_author


def test_later_settings_stand_on_earlier_ones() -> None:
    before = OptionValues(Path("a"), quiet=True, progress=False)
    assert before.joined(OptionValues(Path("b"), json=True)) == OptionValues(
        Path("a/b"), quiet=True, json=True, progress=False
    )
    assert before.joined(OptionValues(Path("/b"))).directory == Path("/b")


@pytest.mark.parametrize("name", [*VERBS, *GROUPS, "experiment"])
def test_every_verb_explains_itself_on_stdout(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([name, "--help"]) == 0
    out, err = capsys.readouterr()
    assert out.startswith(f"Usage: stock {name}")
    assert err == ""


def test_help_lists_every_verb(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    out = capsys.readouterr().out
    assert all(f"\n  {name} " in out for name in [*VERBS, *GROUPS])


@pytest.mark.parametrize("arguments", [["--version"], ["-q", "--version"], ["--json", "--version"]])
def test_version_is_data(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 0
    out, err = capsys.readouterr()
    assert err == ""
    if "--json" in arguments:
        assert json.loads(out)["command"] == "version"
    else:
        assert out.startswith("stock ")


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["statsu"],
        ["exp", "shwo"],
        ["experiment", "--json", "shwo"],
        ["model", "lss"],
        ["status", "--nope"],
        ["log", "-n", "x"],
        ["log", "-n", "-1"],
        ["checkout"],
        ["commit"],
        ["commit", "-m", " "],
        ["commit", "-m", "x", "-F", "y"],
        ["commit", "-m", "x", "--author", "nobody"],
        ["commit", "-F", "latin1"],
        ["cat", "data/a/0", "--raw", "--json"],
        ["-C", "no/such/folder", "status"],
        ["status", "-C", "no/such/folder"],
    ],
)
@pytest.mark.parametrize("as_json", [False, True])
def test_a_wrong_command_line_is_one_line_on_stderr_and_code_2(
    arguments: list[str],
    as_json: bool,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("latin1").write_bytes(b"\xe9")
    assert main(["--json", *arguments] if as_json else arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    last_line = err.splitlines()[-1]
    assert len(err.splitlines()) == 1 or not arguments  # without a verb, the help comes first
    if "--json" in arguments or as_json:
        error = json.loads(last_line)["error"]
        assert (error["type"], error["exit_code"]) == ("UsageError", 2)
    else:
        assert last_line.startswith("stock: ")


def test_a_mistyped_verb_names_the_one_meant(capsys: pytest.CaptureFixture[str]) -> None:
    main(["chekout"])
    assert "did you mean checkout?" in capsys.readouterr().err


@pytest.mark.parametrize("group", ["exp", "experiment"])
def test_a_mistyped_verb_under_another_names_the_one_meant(group: str, capsys: pytest.CaptureFixture[str]) -> None:
    main([group, "shwo"])
    assert "'shwo'; did you mean show? stock exp --help" in capsys.readouterr().err


@pytest.mark.parametrize("group", [name for name, group in GROUPS.items() if group.default is None])
def test_a_verb_that_has_verbs_needs_one_of_them(group: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([group]) == 2
    assert capsys.readouterr() == (
        "",
        f"stock: expected a verb after stock {group}, found none; stock {group} --help lists them\n",
    )


def test_an_author_is_a_name_and_an_email() -> None:
    assert parse_author(" Ada L. <ada@example.org>") == ("Ada L.", "ada@example.org")
    for wrong in ("Ada", "<ada@example.org>", "Ada <ada", ""):
        with pytest.raises(CommandLineError, match="NAME <EMAIL>"):
            parse_author(wrong)


def test_the_environment_names_the_author_unless_the_option_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STOCKROOM_AUTHOR_NAME", "Env")
    monkeypatch.setenv("STOCKROOM_AUTHOR_EMAIL", "env@example.org")
    assert resolve_author(None) == ("Env", "env@example.org")
    assert resolve_author("Ada <ada@example.org>") == ("Ada", "ada@example.org")
    monkeypatch.delenv("STOCKROOM_AUTHOR_EMAIL")
    with pytest.raises(CommandLineError, match="together"):
        resolve_author(None)
