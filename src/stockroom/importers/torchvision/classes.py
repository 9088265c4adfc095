"""`stock import torchvision.<class>`: any torchvision data set, through its own class, sample by sample.

Owns how such a class is asked for its splits. Imports torchvision only on demand.
"""

from __future__ import annotations

import importlib
import inspect
from functools import partial
from pathlib import Path
from typing import Any, Final

from stockroom.errors import InvalidInputError
from stockroom.importers.column_attrs import keep_attrs
from stockroom.importers.left_out import LeftOut
from stockroom.importers.pickle_guard import refuse_pickled_code
from stockroom.importers.source import ImportSpec, TableSource
from stockroom.shelves.data.dataset_rows import iter_batches
from stockroom.shelves.data.table import ColumnPlan

_KNOWN: Final = """
    Caltech101 Caltech256 Carla_Stereo CelebA Cityscapes CLEVR_Classification Coco_Captions Coco_Detection Country211
    CRE_Stereo DTD EMNIST ETH3D_Stereo Euro_SAT FakeData Falling_Things_Stereo FER2013
    FGVC_Aircraft Flickr30k Flickr8k Flowers102 Food101 GTSRB Imagenette
    Image_Net INaturalist Kinetics Kitti KMNIST LFW_Pairs LFW_People LSUN MovingMNIST Omniglot Oxford_IIIT_Pet PCAM
    Photo_Tour Places365 QMNIST Rendered_SST2 SBDataset SBU SEMEION Stanford_Cars STL10 SUN397 SVHN UCF101 USPS
    Flying_Chairs Flying_Things3D HD1K HMDB51 InStereo2k Kitti2012_Stereo Kitti2015_Stereo Kitti_Flow
    Middlebury2014_Stereo SceneFlow_Stereo Sintel Sintel_Stereo VOC_Detection VOC_Segmentation Wider_Face
"""

CLASSES: Final = {name.lower(): name.replace("_", "") for name in _KNOWN.split()}
"""Source after `torchvision.` -> name of torchvision's class, in any case."""

_SPLIT_PARAMETERS: Final = ("split", "image_set", "mode")


def open_class(name: str, spec: ImportSpec) -> list[TableSource]:
    """Return the table of each split, or of the one that `spec` names, with columns such as `svhn-train-image`."""
    make = _load_class(name)
    parameters = _list_parameters(make)
    arguments: dict[str, Any] = {"download": True} if spec.download and "download" in parameters else {}
    if "root" in parameters:
        arguments["root"] = str(spec.root or Path())
    sources = []
    for split, split_arguments in _list_splits(make, name, parameters, spec.split):
        dataset = _make_set(make, name, arguments | split_arguments, spec)
        sources.append(_describe(dataset, "-".join(filter(None, (name, split))) + "-"))
    return sources


def _describe(dataset: Any, prefix: str) -> TableSource:
    rows = _Rows(dataset)
    names = _choose_names(rows[0] if len(rows) else None)
    classes = getattr(dataset, "classes", None)
    plans, left_out = [], LeftOut()
    if isinstance(classes, list) and all(isinstance(each, str) for each in classes):
        attrs = keep_attrs({"classes": classes}, f"column {prefix}label", left_out)
        plans = [ColumnPlan(f"{prefix}label", attrs=attrs)]
    batches = partial(iter_batches, rows, names, prefix=prefix)
    return TableSource(prefix + names[0], plans, len(rows), batches, left_out=left_out)


class _Rows:
    """The samples of a data set by number, up to its length. Errors name the sample that cannot be read."""

    def __init__(self, dataset: Any) -> None:
        self._dataset = dataset

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, index: int) -> Any:
        if index >= len(self):
            raise IndexError(index)
        try:
            with refuse_pickled_code():
                return self._dataset[index]
        except Exception as error:  # third-party code
            raise InvalidInputError(
                f"{type(self._dataset).__name__}: sample {index} cannot be read: {type(error).__name__}: {error}"
            ) from error


def _choose_names(sample: Any) -> list[str]:
    """Return names for the parts of a sample: an image and its label, or its target if that is not a number."""
    if not isinstance(sample, tuple | list):
        return ["image"]
    if len(sample) == 2:
        return ["image", "label" if isinstance(sample[1], int) else "target"]
    return ["image", *(f"target{number}" for number in range(1, len(sample)))]


def _load_class(name: str) -> Any:
    try:
        datasets = importlib.import_module("torchvision.datasets")
    except (ImportError, RuntimeError) as error:  # RuntimeError: it was built for another torch
        raise InvalidInputError(
            f"torchvision.{name} needs torchvision, which cannot be imported ({error}); install the version that "
            "matches your torch: `pip install torchvision`"
        ) from error
    wanted = CLASSES[name].lower()
    for each in dir(datasets):
        if each.lower() == wanted and inspect.isclass(getattr(datasets, each)):
            return getattr(datasets, each)
    raise InvalidInputError(f"torchvision.{name}: the installed torchvision has no such data set; install a newer one")


def _list_parameters(make: Any) -> dict[str, inspect.Parameter]:
    """Return the parameters of a class, with those of its base classes as far as it passes them on."""
    parameters: dict[str, inspect.Parameter] = {}
    for each in make.__mro__:
        if "__init__" in vars(each):
            own = inspect.signature(each.__init__).parameters
            parameters = {**own, **parameters}
            if not any(p.kind is inspect.Parameter.VAR_KEYWORD for p in own.values()):
                break
    return parameters


def _list_splits(
    make: Any, name: str, parameters: dict[str, inspect.Parameter], split: str | None
) -> list[tuple[str, dict[str, Any]]]:
    """Return the name of each split to import, and the arguments with which the class makes it."""
    key = next((each for each in _SPLIT_PARAMETERS if each in parameters), None)
    chosen = ""
    arguments: dict[str, Any] = {}
    if key is not None:
        chosen = split or _choose_default(parameters[key], make, name)
        arguments = {key: chosen}
    if "train" not in parameters:
        return [(chosen, arguments)]
    sides = ["train", "test"] if key is not None or split is None else [split]
    if not {"train", "test"}.issuperset(sides):
        raise InvalidInputError(f"torchvision.{name}: expected --split train or test, found {split!r}")
    return [("-".join(filter(None, (chosen, side))), arguments | {"train": side == "train"}) for side in sides]


def _choose_default(parameter: inspect.Parameter, make: Any, name: str) -> str:
    if isinstance(parameter.default, str):
        return parameter.default
    known = getattr(make, "splits", ())
    hint = f" ({', '.join(map(str, known))})" if known else ""
    raise InvalidInputError(f"torchvision.{name}: expected --split to name the part to import{hint}, found none")


def _make_set(make: Any, name: str, arguments: dict[str, Any], spec: ImportSpec) -> Any:
    try:
        with refuse_pickled_code():  # a few of the classes unpickle files of the folder
            return make(**arguments)
    except Exception as error:  # third-party code
        hint = "" if spec.download else "; name the folder with --root, or download it with --download"
        raise InvalidInputError(
            f"torchvision.{name}: cannot be opened: {type(error).__name__}: {error}{hint}"
        ) from error
