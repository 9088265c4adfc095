"""`stock git uninstall`: undo `stock git install`."""

from __future__ import annotations

from stockroom.cli.console import Console
from stockroom.cli.verb import verb
from stockroom.cli.verbs.git.install import DryRunOption, locate_work_tree, take_steps


@verb(example="stock git uninstall")
def uninstall(console: Console, dry_run: DryRunOption = False) -> None:
    """Take back what `stock git install` did; hooks and settings of others stay."""
    from stockroom.repository.git.install import plan_uninstall

    take_steps(console, plan_uninstall(*locate_work_tree()), dry_run=dry_run)
