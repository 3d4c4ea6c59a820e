"""What the documentation points at is there: pages, headings, files, tests."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])

_NOT_IN_AN_ANCHOR = re.compile(r"[^\w\- ]")
_NAMED_TEST = re.compile(r"`(test_\w+\.py)::(test_\w+)`")


def links(page: Path) -> list[str]:
    tokens = MarkdownIt("commonmark").enable("table").parse(page.read_text())
    inline = [child for token in tokens for child in token.children or () if child.type == "link_open"]
    return [str(child.attrs["href"]) for child in inline]


def anchors(page: Path) -> set[str]:
    """The headings of a page as links name them: GitHub's way."""
    tokens = MarkdownIt("commonmark").parse(page.read_text())
    headings = [tokens[i + 1].content for i, token in enumerate(tokens) if token.type == "heading_open"]
    return {_NOT_IN_AN_ANCHOR.sub("", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    broken = []
    for link in links(page):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert not broken, f"{page.relative_to(ROOT)}: nothing is at {', '.join(broken)}"


def test_every_test_that_is_named_is_there() -> None:
    named = [(page, *found) for page in PAGES for found in _NAMED_TEST.findall(page.read_text())]
    assert named
    missing = [
        f"{page.name}: {file}::{test}"
        for page, file, test in named
        if not any(f"def {test}(" in path.read_text() for path in ROOT.glob(f"tests/*/{file}"))
    ]
    assert not missing
