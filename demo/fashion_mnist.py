"""The main job on real images: import, commit, train from the commit and keep what came of it, relabel, share.

Run by `nox -s demo`, or `python demo/fashion_mnist.py [--quick] [--keep DIR]`. Prints each command and what it said,
then what every step took and wrote. Owns no part of the product: whatever it does, a user can do.
"""

from __future__ import annotations

import argparse
import os
import shlex
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from real_data import ImageMaterial, images_or_fallback
from stockroom import StockRoom, make_torch_dataset

BATCH_SIZE = 64
QUICK_BATCHES = 200
FULL_SAMPLES = 20_000  # below this one epoch teaches too little, so a small data set gets several
SUSPECTS_AMONG = 10_000
SUSPECTS = 60
LAZY_SAMPLES = 5_000
BUCKET = "stock"


def main() -> None:
    """Run the demo in a temporary folder, or in the one to keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help=f"train on {QUICK_BATCHES} batches only")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="make the repository in DIR, new or empty")
    options = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(1)  # one for each worker beside it is more than two cores have
    if options.keep is None:
        with tempfile.TemporaryDirectory(prefix="stockroom-demo-") as folder:
            Demo(Path(folder), images_or_fallback(tell), quick=options.quick).run()
        return
    options.keep.mkdir(parents=True, exist_ok=True)
    if any(options.keep.iterdir()):
        parser.error(f"{options.keep} is not empty: give a new folder")
    Demo(options.keep, images_or_fallback(tell), quick=options.quick).run()
    tell(f"\nThe repository is in {options.keep}")


@dataclass
class Demo:
    """One run in `folder` with `material`; `steps` are those done so far."""

    folder: Path
    material: ImageMaterial
    quick: bool
    steps: list[Step] = field(default_factory=list)

    def run(self) -> None:
        """Every step, then the table."""
        with self.step("init"):
            self.stock("init", "--name", "Ada", "--email", "ada@example.org")
        with self.step("import and commit"):
            self.stock("import", self.material.source, "--root", str(self.material.folder))
        self.stock("ls")
        with StockRoom(self.folder) as stock:
            model = self.train_and_evaluate(stock)
            self.fine_tune(stock, model)
            self.compare_runs()
            self.load_back(stock, model)
            self.relabel(stock, find_suspects(model, stock, prefix=self.prefix))
            self.show_history()
            self.go_back_and_forth(stock)
        with tempfile.TemporaryDirectory(prefix="stockroom-demo-clone-") as folder, start_s3() as endpoint:
            self.share(endpoint, Path(folder, "clone"))
        self.print_table()

    @property
    def prefix(self) -> str:
        """What the names of the columns begin with."""
        return self.material.source.partition(".")[2]

    def train_and_evaluate(self, stock: StockRoom) -> nn.Module:
        """A small CNN trained on the committed images, kept with its hyperparameters and curves in one commit."""
        images = stock.data[f"{self.prefix}-train-image"]
        heading(f"Train a small CNN on {len(images):,} images of commit {str(stock.commit_id)[:12]}, 2 workers")
        run = Run(make_model(side=images.shape[0]), max_lr=3e-3, epochs=max(1, FULL_SAMPLES // len(images)))
        loaders = {split: make_loader(stock, self.prefix, split) for split in ("train", "test")}
        with stock.enable_write("Train the CNN"):
            with self.step(f"train {'1 epoch' if run.epochs == 1 else f'{run.epochs} epochs'}", reads_only=True):
                seen = run.train(loaders["train"], stock, quick=self.quick)
            with self.step("evaluate", reads_only=True):
                accuracy = evaluate(run.model, loaders["test"])
            run.keep(stock, accuracy)
            started = time.perf_counter()
        tell(f"trained on {seen:,} samples in {self.steps[-2].seconds:.1f} s")
        tell(f"test accuracy: {accuracy:.1%}; committed in {time.perf_counter() - started:.3f} s")
        self.stock("show")
        return run.model

    def fine_tune(self, stock: StockRoom, model: nn.Module) -> None:
        """Train only the last layers further, and keep that: the frozen ones are stored already."""
        heading("Fine-tune the two dense layers with the convolutions frozen, on a branch")
        stock.checkout("fine-tune", create=True)
        for layer in model:
            if isinstance(layer, nn.Conv2d):
                layer.requires_grad_(False)
        loaders = {split: make_loader(stock, self.prefix, split) for split in ("train", "test")}
        run = Run(model, max_lr=5e-4, epochs=1)
        with stock.enable_write("Fine-tune the head"):
            run.train(loaders["train"], stock, quick=True, goes_on=True)
            accuracy = evaluate(model, loaders["test"])
            with self.step("keep the second checkpoint"):
                run.keep(stock, accuracy)
                stock.flush()
        tell(f"test accuracy: {accuracy:.1%}")

    def compare_runs(self) -> None:
        """What the two checkpoints share, and what came of either run."""
        self.stock("model", "show", "cnn", lines=11)
        self.stock("model", "diff", "main:cnn", "fine-tune:cnn", lines=7)
        self.stock("exp", "show", "main", "fine-tune", "--only-changed")
        self.stock("exp", "plot", "loss", "fine-tune")

    def load_back(self, stock: StockRoom, model: nn.Module) -> None:
        """Load both checkpoints into a fresh model: the later one must be as it was in memory, bit for bit."""
        heading("Load both checkpoints back")
        weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        side = stock.data[f"{self.prefix}-train-image"].shape[0]
        loader = make_loader(stock, self.prefix, "test")
        for branch in ("main", "fine-tune"):
            stock.checkout(branch)
            fresh = make_model(side=side)
            with self.step(f"load the checkpoint of {branch}", reads_only=True):
                fresh.load_state_dict(stock.model["cnn"]["model"])
            accuracy, kept = evaluate(fresh, loader), stock.experiment["accuracy"]
            if accuracy != kept:
                sys.exit(f"the checkpoint of {branch} reaches {accuracy}, and reached {kept} when it was kept")
            tell(f"on {branch:10} the loaded model reaches {accuracy:.1%}, as it did")
        if any(not torch.equal(tensor, weights[name]) for name, tensor in fresh.state_dict().items()):
            sys.exit("the loaded weights are not those that were kept")
        stock.checkout("main")

    def relabel(self, stock: StockRoom, suspects: dict[int, int]) -> None:
        """Give the `suspects` (key -> class) their new labels on a branch of their own."""
        heading(f"On a branch, relabel {len(suspects)} samples whose labels the model is surest to doubt")
        with self.step("make and check out a branch"):
            stock.checkout("relabel", create=True)
        with self.step(f"relabel {len(suspects)} and commit"), stock.enable_write("Relabel what the model doubts"):
            stock.data[f"{self.prefix}-train-label"].update(suspects)
        key, label = next(iter(suspects.items()))
        tell(f"sample {key} is now a {class_names(stock, self.prefix)[label]}; committed {str(stock.commit_id)[:12]}")

    def show_history(self) -> None:
        """The log, and what differs between the branches."""
        self.stock("log", "--oneline")
        self.stock("log", "-n", "1")
        with self.step("diff of the branches"):
            self.stock("diff", "main", "relabel", "--stat")
        self.stock("diff", "main", "relabel", lines=6)

    def go_back_and_forth(self, stock: StockRoom) -> None:
        """Check out either branch in turn and read the labels that differ."""
        heading("Check out back and forth; of all files only head.stock changes")
        name = f"{self.prefix}-train-label"
        changed = list(stock.diff("main", "relabel")[f"data/{name}"].changed)[:8]
        labels: dict[str, list[int]] = {}
        for branch in ("main", "relabel", "main"):
            with self.step(f"check out {branch}"):
                stock.checkout(branch)
            now = stock.data[name][changed].tolist()
            if labels.setdefault(branch, now) != now:
                sys.exit(f"{branch} read {now}, and {labels[branch]} before")
            tell(f"on {branch:8} samples {changed} have labels {now}")
        if labels["main"] == labels["relabel"]:
            sys.exit("both branches gave the same labels")

    def share(self, endpoint: str, clone: Path) -> None:
        """Push to an S3 server, clone the metadata, and read the first images of the clone lazily."""
        url = f"s3://{BUCKET}/{self.prefix}"
        self.stock("remote", "add", "origin", url, "--endpoint-url", endpoint)
        with self.step("push to an S3 server"):
            self.stock("push")
        with self.step("clone the metadata"):
            self.stock("clone", "--metadata-only", "--endpoint-url", endpoint, url, str(clone))
        with StockRoom(clone) as stock:
            heading(f"Read the first {LAZY_SAMPLES:,} images of the clone with a DataLoader: they come as it asks")
            columns = [stock.data[f"{self.prefix}-train-image"], stock.data[f"{self.prefix}-train-label"]]
            keys = list(columns[0])[:LAZY_SAMPLES]
            with self.step(f"read {len(keys):,} lazily"):
                loader = DataLoader(make_torch_dataset(columns, keys=keys), batch_size=250, num_workers=2)
                seen = sum(len(labels) for _, labels in loader)
            here = stock.measure_presence()
        tell(f"read {seen:,} images: {here.present_nbytes:,} of {here.nbytes:,} bytes pulled")
        if not 0 < here.present_nbytes < here.nbytes:
            sys.exit("expected a part of the images to be here")
        self.stock("status", cwd=clone)

    def stock(self, *words: str, lines: int | None = None, cwd: Path | None = None) -> None:
        """Run the command line in the folder; prints the command and its output, or the first `lines` of that."""
        heading(f"$ stock {shlex.join(words)}")
        command = [sys.executable, "-m", "stockroom.cli", "-C", str(cwd or self.folder), *words]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
        if done.returncode:
            sys.exit(f"stock {words[0]} exited with {done.returncode}")
        printed = done.stdout.splitlines()
        shown = printed[:lines]
        left_out = [f"... and {len(printed) - len(shown)} lines more"] if len(shown) < len(printed) else []
        for line in shown + left_out:
            tell(line)

    @contextmanager
    def step(self, name: str, *, reads_only: bool = False) -> Iterator[None]:
        """Time what happens within, and count what it writes unless it only reads."""
        started, written = time.perf_counter(), count_written(self.folder)
        yield
        took = time.perf_counter() - started
        self.steps.append(Step(name, took, None if reads_only else count_written(self.folder) - written))

    def print_table(self) -> None:
        """What each step took and wrote, and what the repository holds."""
        heading("What each step took, and the bytes it wrote to disk")
        for step in self.steps:
            tell(f"{step.name:32} {step.seconds:10.3f} s {step.format_written():>16}")
        tell(f"{'the whole repository':32} {'':12} {f'{count_allocated(self.folder):,} B':>16}")


@contextmanager
def start_s3() -> Iterator[str]:
    """The endpoint of an S3 server on this machine that has an empty `BUCKET`, for the time of the block."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    os.environ.update(AWS_ACCESS_KEY_ID="demo", AWS_SECRET_ACCESS_KEY="demo")
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        make_bucket(f"http://127.0.0.1:{port}", server)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait()


def make_bucket(endpoint: str, server: subprocess.Popen[bytes]) -> None:
    """Make the bucket as soon as the server answers."""
    deadline_s = time.monotonic() + 60
    while time.monotonic() < deadline_s and server.poll() is None:
        with suppress(OSError):
            request = urllib.request.Request(f"{endpoint}/{BUCKET}", method="PUT")
            urllib.request.urlopen(request, timeout=10).close()
            return
        time.sleep(0.1)
    sys.exit("the S3 server does not start")


@dataclass(frozen=True, slots=True)
class Step:
    """One step done: how long it took and how many bytes it wrote; None where it only reads the repository."""

    name: str
    seconds: float
    written_nbytes: int | None

    def format_written(self) -> str:
        """The bytes written, in words."""
        return "only reads" if self.written_nbytes is None else f"{self.written_nbytes:,} B"


def make_loader(stock: StockRoom, prefix: str, split: str) -> DataLoader[list[Tensor]]:
    """Batches of images and labels of a split, read by two worker processes; shuffled for training."""
    dataset = make_torch_dataset([stock.data[f"{prefix}-{split}-image"], stock.data[f"{prefix}-{split}-label"]])
    return DataLoader(dataset, batch_size=BATCH_SIZE, shuffle=split == "train", num_workers=2)


def make_model(side: int) -> nn.Module:
    """Two convolutions and two dense layers for images of `side` x `side`, small enough for one core."""
    convolutions = [
        *(nn.Conv2d(1, 16, 5, stride=2, padding=2), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.Flatten()),
    ]
    dense = [nn.Linear(32 * (side // 4) ** 2, 128), nn.ReLU(), nn.Linear(128, 10)]
    return nn.Sequential(*convolutions, *dense).to(memory_format=torch.channels_last)


@dataclass
class Run:
    """One training run of a model, and what is kept of it."""

    model: nn.Module
    max_lr: float
    epochs: int
    optimizer: torch.optim.Optimizer = field(init=False)

    def __post_init__(self) -> None:
        self.optimizer = torch.optim.Adam([p for p in self.model.parameters() if p.requires_grad])

    def train(self, batches: DataLoader[list[Tensor]], stock: StockRoom, *, quick: bool, goes_on: bool = False) -> int:
        """Train, logging loss and learning rate of every step; returns how many samples were seen.

        `quick` takes the first batches of each epoch only; `goes_on` adds to the curves logged before.
        """
        self.model.train()
        count = min(len(batches), QUICK_BATCHES) if quick else len(batches)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            self.optimizer, max_lr=self.max_lr, total_steps=self.epochs * count
        )
        step = 1 + int(stock.experiment.metrics["loss"].steps[-1]) if goes_on else 0
        seen = 0
        for _ in range(self.epochs):
            for images, labels in islice(batches, count):
                self.optimizer.zero_grad()
                loss = nn.functional.cross_entropy(self.model(to_input(images)), labels)
                loss.backward()
                self.optimizer.step()
                stock.experiment.log({"loss": loss, "lr": schedule.get_last_lr()[0]}, step=step)
                schedule.step()
                seen, step = seen + len(labels), step + 1
        return seen

    def keep(self, stock: StockRoom, accuracy: float) -> None:
        """Put hyperparameters, result and checkpoint on their shelves."""
        stock.experiment.update({"max_lr": self.max_lr, "epochs": self.epochs, "batch_size": BATCH_SIZE})
        stock.experiment["optimizer"] = {"name": "Adam", "betas": list(self.optimizer.defaults["betas"])}
        stock.experiment["accuracy"] = accuracy
        stock.model["cnn"] = {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict()}


@torch.inference_mode()
def evaluate(model: nn.Module, batches: DataLoader[list[Tensor]]) -> float:
    """The fraction of samples that the model classifies as labelled."""
    model.eval()
    hits = [(model(to_input(images)).argmax(1) == labels).float() for images, labels in batches]
    return float(torch.cat(hits).mean())


@torch.inference_mode()
def find_suspects(model: nn.Module, stock: StockRoom, *, prefix: str) -> dict[int, int]:
    """Key -> the model's class of the training samples, of the first 10,000, whose label it is surest to doubt."""
    images, labels = stock.data[f"{prefix}-train-image"], stock.data[f"{prefix}-train-label"]
    keys = list(images)[:SUSPECTS_AMONG]
    parts = [torch.from_numpy(images[keys[start : start + 1000]]) for start in range(0, len(keys), 1000)]
    probabilities = torch.cat([model(to_input(part)).softmax(1) for part in parts])
    surest, classes = probabilities.max(1)
    doubted = (classes != torch.from_numpy(labels[keys])).nonzero().flatten()
    chosen = doubted[surest[doubted].argsort(descending=True)[:SUSPECTS]].sort().values
    return {keys[position]: int(classes[position]) for position in chosen.tolist()}


def to_input(images: Tensor) -> Tensor:
    """Images `(n, side, side)` uint8 as the model wants them: `(n, 1, side, side)` float32 from 0 to 1."""
    return (images.unsqueeze(1).float() / 255).contiguous(memory_format=torch.channels_last)


def class_names(stock: StockRoom, prefix: str) -> list[str]:
    """The names of the classes, which the importer keeps beside the labels."""
    names: list[str] = stock.data[f"{prefix}-train-label"].attrs["classes"]
    return names


def count_written(folder: Path) -> int:
    """Bytes this process and those it waited for have written so far; where that is not told, bytes in `folder`."""
    try:
        counters = Path("/proc/self/io").read_text()
    except OSError:
        return count_allocated(folder)
    return next(int(line.split()[1]) for line in counters.splitlines() if line.startswith("wchar"))


def count_allocated(folder: Path) -> int:
    """Bytes that the files under `folder` take on disk."""
    return sum(path.stat().st_blocks * 512 for path in folder.rglob("*"))


def heading(text: str) -> None:
    """Print a line that begins a step."""
    tell(f"\n{text}")


def tell(text: str) -> None:
    """Print a line at once, so that it stands where it belongs among those of other processes."""
    print(text, flush=True)


if __name__ == "__main__":
    main()
