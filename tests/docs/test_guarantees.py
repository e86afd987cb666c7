"""Each promise of docs/guarantees.md names tests that there are."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

import pytest

from local.root import ROOT

PAGE = (ROOT / "docs" / "guarantees.md").read_text()


def promises(text: str) -> list[tuple[str, str]]:
    """The rows of the page's tables: a promise, and what is named as its tests."""
    rows = re.findall(r"^\| (.+) \| (.+) \|$", text, re.MULTILINE)
    return [(promise, tests) for promise, tests in rows if (promise, tests) != ("promise", "tests")]


def missing_tests(text: str) -> Iterator[str]:
    """Say which of the tests that a page names are not there, and which promise names none."""
    for section in text.split("\n## "):
        shorts = dict(re.findall(r"`([…≈])` is `([\w/]+\.py)`", section))
        for promise, tests in promises(section):
            named = re.findall(r"`([\w/.…≈]+)::(\w+)`", tests)
            if not named:
                yield f"{promise} names no test"
            for file, test in named:
                path = ROOT / shorts.get(file, file)
                if not path.is_file() or test not in functions(path.read_text()):
                    yield f"there is no {file}::{test}"


def functions(source: str) -> set[str]:
    return {node.name for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef)}


def test_each_promise_names_tests_that_there_are() -> None:
    assert list(missing_tests(PAGE)) == []
    assert len(promises(PAGE)) > 20


@pytest.mark.parametrize("row", ["| All is well. | it is |", "| All is well. | `tests/a.py::test_it` |"])
def test_a_promise_without_a_test_is_found(row: str) -> None:
    assert list(missing_tests(f"| promise | tests |\n|---|---|\n{row}\n")) != []
