"""What docs/guarantees.md promises: its rows, and the tests that they name."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from local.root import ROOT

PAGE = (ROOT / "docs" / "guarantees.md").read_text()


class Promise(NamedTuple):
    """A row of a table: the promise, its tests as file::name, and by what break they were seen to fail."""

    promise: str
    tests: tuple[str, ...]
    broken: str


def promises(text: str) -> Iterator[Promise]:
    """Yield the rows of a page's tables."""
    for section in text.split("\n## "):
        shorts = dict(re.findall(r"`([…≈])` is `([\w/]+\.py)`", section))
        for promise, tests, broken in re.findall(r"^\| (.+?) \| (.*?) \| (.*?) \|$", section, re.MULTILINE):
            if promise != "promise":
                named = re.findall(r"`([\w/.…≈]+)::(\w+)`", tests)
                yield Promise(
                    promise, tuple(f"{shorts.get(file, file)}::{name}" for file, name in named), broken
                )
