"""Each promise of docs/guarantees.md names tests that there are, and what they were seen to fail by."""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest

from local.root import ROOT
from tests.docs.guarantees import PAGE, promises


def faults(text: str) -> Iterator[str]:
    """Say which of the tests that a page names are not there, and which promise names none, or no break."""
    for promise, tests, broken in promises(text):
        if not tests:
            yield f"{promise} names no test"
        if not broken:
            yield f"{promise} does not tell by what its tests fail"
        for test in tests:
            file, _, name = test.partition("::")
            if not (ROOT / file).is_file() or name not in functions((ROOT / file).read_text()):
                yield f"there is no {test}"


def functions(source: str) -> set[str]:
    return {node.name for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef)}


def test_each_promise_names_tests_that_there_are_and_what_they_fail_by() -> None:
    assert list(faults(PAGE)) == []
    assert len(list(promises(PAGE))) > 20


@pytest.mark.parametrize(
    "row",
    [
        "| All is well. | it is | a break |",
        "| All is well. | `tests/a.py::test_it` | a break |",
        "| All is well. | `tests/docs/test_guarantees.py::test_a_promise_without_a_test_is_found` |  |",
    ],
)
def test_a_promise_without_a_test_is_found(row: str) -> None:
    assert list(faults(f"| promise | tests | seen to fail |\n|---|---|---|\n{row}\n")) != []


def test_the_tests_of_promises_and_no_others_carry_the_marker(request: pytest.FixtureRequest) -> None:
    named = {test for promise in promises(PAGE) for test in promise.tests}
    for item in request.session.items:
        is_marked = item.get_closest_marker("guarantee") is not None
        assert is_marked == (item.nodeid.partition("[")[0] in named), item.nodeid
