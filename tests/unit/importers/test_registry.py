import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from stockroom.errors import InvalidInputError
from stockroom.importers.numpy_files import NumpyImporter
from stockroom.importers.registry import list_sources, resolve_importer
from stockroom.importers.source import ImportSpec
from stockroom.importers.vision import VisionImporter

WORKING = """
class Audio:
    name = "audio"
    def sources(self):
        return ["audio.wav"]
    def open(self, spec):
        return []
"""


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str, str], None]:
    """Installs a package with one importer, the way pip leaves it: a module and its metadata on the path."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def install_package(module: str, code: str, entry_point: str) -> None:
        (tmp_path / f"{module}.py").write_text(code)
        metadata = tmp_path / f"{module}-1.0.dist-info"
        metadata.mkdir()
        (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n")
        (metadata / "entry_points.txt").write_text(f"[stockroom.importers]\n{entry_point}\n")
        monkeypatch.delitem(sys.modules, module, raising=False)

    return install_package


def test_built_in_sources_resolve_to_their_importers() -> None:
    assert isinstance(resolve_importer("torchvision.cifar10"), VisionImporter)
    assert isinstance(resolve_importer("numpy"), NumpyImporter)
    assert {"numpy", "torchvision.mnist", "torchvision.cifar100"} <= set(list_sources())


@pytest.mark.parametrize(
    ("asked", "near"),
    [("torchvision.cifar", "torchvision.cifar10"), ("cifar10", "torchvision.cifar10"), ("numpi", "numpy")],
)
def test_an_unknown_source_gets_near_names_and_the_list(asked: str, near: str) -> None:
    with pytest.raises(InvalidInputError, match=rf"no importer for '{asked}'; did you mean .*{near}.*Sources: "):
        resolve_importer(asked)


def test_a_package_adds_an_importer_by_its_entry_point(install: Callable[[str, str, str], None]) -> None:
    install("stock_audio", WORKING, "audio = stock_audio:Audio")
    importer = resolve_importer("audio.wav")
    assert importer.name == "audio"
    assert importer.open(ImportSpec("audio.wav")) == []
    assert "audio.wav" in list_sources()


@pytest.mark.parametrize(
    ("code", "problem"),
    [
        ("raise RuntimeError('no libaudio')", "RuntimeError: no libaudio"),
        ("import a_module_that_is_not_there", "ModuleNotFoundError"),
        ("", "AttributeError"),
        ("class Audio:\n    def __init__(self, needed): ...", "TypeError"),
        ("class Audio: ...", r"expected name, sources\(\) and open\(\)"),
    ],
)
def test_a_broken_package_is_named_and_takes_nothing_else_away(
    install: Callable[[str, str, str], None], code: str, problem: str
) -> None:
    install("stock_audio", code, "audio = stock_audio:Audio")
    with pytest.raises(InvalidInputError, match=rf"'audio' \(stock_audio:Audio\).*{problem}"):
        resolve_importer("audio.wav")
    assert "numpy" in list_sources()
    assert isinstance(resolve_importer("numpy"), NumpyImporter)


def test_a_package_that_lists_nothing_takes_nothing_away(install: Callable[[str, str, str], None]) -> None:
    install("stock_audio", WORKING.replace('return ["audio.wav"]', "raise OSError"), "audio = stock_audio:Audio")
    assert "numpy" in list_sources()


def test_a_package_cannot_take_a_built_in_name(install: Callable[[str, str, str], None]) -> None:
    install("stock_audio", WORKING, "numpy = stock_audio:Audio")
    assert isinstance(resolve_importer("numpy"), NumpyImporter)
