"""Checks that every link within the documentation points to an existing file and heading.

Run from the repository's root, by `nox -s docs`. Links to other sites are left alone.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

_CODE = re.compile(r"^(```|~~~).*?^\1|`[^`\n]*`", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\[[^\]]*\]\(<?([^)\s>]+)>?(?:\s+\"[^\"]*\")?\)|^\[[^\]]+\]:\s*(\S+)", re.MULTILINE)
_HEADING = re.compile(r"^#{1,6}\s+(.+?)\s*#*$", re.MULTILINE)
_ELSEWHERE = re.compile(r"[a-z][a-z0-9+.-]*:", re.IGNORECASE)


def main() -> None:
    """Exit with the list of broken links, or say how many pages are sound."""
    root = Path.cwd()
    pages = sorted([*root.glob("*.md"), *root.glob("docs/**/*.md")])
    broken = [problem for page in pages for problem in iter_broken_links(page, root)]
    if broken:
        sys.exit("\n".join(broken))
    sys.stdout.write(f"{len(pages)} pages, no broken link\n")


def iter_broken_links(page: Path, root: Path) -> Iterator[str]:
    """A line for each link of `page` that leads nowhere."""
    for match in _LINK.finditer(_CODE.sub("", page.read_text("utf-8"))):
        link = match[1] or match[2]
        if _ELSEWHERE.match(link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path) if path else page
        if not target.exists():
            yield f"{page.relative_to(root)}: {link}: no such file"
        elif anchor and target.suffix == ".md" and anchor not in read_anchors(target):
            yield f"{page.relative_to(root)}: {link}: no such heading"


@cache
def read_anchors(page: Path) -> frozenset[str]:
    """The anchors a page's headings make, as GitHub and most renderers name them."""
    text = re.sub(r"^(```|~~~).*?^\1", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    anchors: list[str] = []
    for heading in _HEADING.findall(text):
        slug = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        seen = sum(anchor == slug or re.fullmatch(rf"{re.escape(slug)}-\d+", anchor) is not None for anchor in anchors)
        anchors.append(f"{slug}-{seen}" if seen else slug)
    return frozenset(anchors)


if __name__ == "__main__":
    main()
