"""`make bench` measures all that has an aim; here of so few rows that the figures themselves say nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench import __main__ as bench

WITH_A_STACK = {
    "demo": {"demo_s", "keep_alive_task_s"},
    "page": {name for name in bench.AIMS if "page" in name},
}
"""What those parts measure that start a stack, or need one."""


@pytest.mark.integration
@pytest.mark.soak
def test_the_parts_of_the_bench_measure_each_figure_that_has_an_aim(tmp_path: Path) -> None:
    out = tmp_path / "result.json"
    parts = [part for part in bench.PARTS if part not in WITH_A_STACK]
    assert bench.main([*parts, "--rows=10000", "--many=2000000", f"--out={out}"]) == 0
    figures = json.loads(out.read_text())
    assert set(bench.AIMS) - set().union(*WITH_A_STACK.values()) <= set(figures)
    assert all(figure > 0 for figure in figures.values())
