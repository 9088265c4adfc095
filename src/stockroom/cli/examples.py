"""One real command line for each verb, with which its help ends."""

from __future__ import annotations

from typing import Final

PROGRAM_EXAMPLE: Final = "stock import torchvision.fashion_mnist --root ~/fashion-mnist"

EXAMPLES: Final[dict[str, str]] = {
    "init": 'stock init pets --name "Ada Lovelace" --email ada@example.org',
    "import_": "stock import imagefolder ~/signs -m Signs",
    "status": "stock status --short",
    "commit": "stock commit -m 'Two labels were wrong'",
    "log": "stock log --oneline -n 20",
    "show": "stock show HEAD~2:data/image/0 --open",
    "ls": "stock ls v1:data/image --preview -n 5",
    "cat": "stock cat data/caption/two",
    "diff": "stock diff main..dev --stat",
    "branch": "stock branch relabel v1",
    "tag": "stock tag v1",
    "checkout": "stock checkout -b relabel",
    "merge": "stock merge relabel --strategy theirs",
    "resolve": "stock resolve data/label:7 --theirs",
    "revert": "stock revert HEAD~1",
    "cherry_pick": "stock cherry-pick relabel",
    "reset": "stock reset --hard HEAD~1",
    "undo": "stock undo",
    "reflog": "stock reflog",
    "clone": "stock clone s3://bucket/pets --metadata-only",
    "remote": "stock remote add origin s3://bucket/pets",
    "fetch": "stock fetch origin",
    "pull": "stock pull origin",
    "push": "stock push origin main",
    "prefetch": "stock prefetch data/image --where 'label == 3'",
    "drop": "stock drop data/image --dry-run",
    "export": "stock export v1:data/image --to images.npz",
    "fsck": "stock fsck --read-data-subset 5%",
    "gc": "stock gc --dry-run",
    "du": "stock du --commits -n 10",
    "config": "stock config user.name 'Ada Lovelace'",
    "completion": "stock completion bash >> ~/.bashrc",
    "model": "stock model diff HEAD~1 resnet",
    "model_ls": "stock model ls v1",
    "model_show": "stock model show resnet/fc",
    "model_diff": "stock model diff v1:resnet v2:resnet",
    "model_stats": "stock model stats resnet 'layer1.*' --bins 10",
    "model_export": "stock model export resnet --to resnet.safetensors",
    "model_import": "stock model import resnet.pt --name resnet",
    "exp": "stock exp show --filter 'lr < 0.01' --sort acc",
    "exp_show": "stock exp show --filter 'lr < 0.01' --sort acc",
    "exp_plot": "stock exp plot loss main relabel -o loss.png",
    "exp_diff": "stock exp diff main..relabel",
    "exp_ls": "stock exp ls v1",
    "exp_export": "stock exp export v1 loss --to results",
    "git": "stock git install --hooks",
    "git_status": "stock git status",
    "git_install": "stock git install --hooks",
    "git_uninstall": "stock git uninstall",
    "git_merge_driver": "stock git merge-driver .merge_base .merge_ours .merge_theirs 7 head.stock",
    "git_hook": "stock git hook pre-push origin https://example.org/pets.git",
}
"""Module of a verb, or name of a verb that has verbs under it -> an example."""


def make_epilog(example: str | None) -> str | None:
    """The end of a help text; the mark keeps it as it is, where lines would be filled."""
    return None if example is None else f"\b\nExample:\n  {example}"
