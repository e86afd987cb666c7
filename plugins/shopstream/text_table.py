"""A table in a task's log."""

from __future__ import annotations

from collections.abc import Container, Sequence


def text_table(headings: Sequence[str], lines: Sequence[Sequence[str]], numbers: Container[int]) -> str:
    """Return the lines below their headings; the columns that `numbers` holds are aligned to the right."""
    widths = [max(map(len, column)) for column in zip(headings, *lines, strict=True)]
    return "\n".join(
        "  ".join(
            text.rjust(width) if number in numbers else text.ljust(width)
            for number, (text, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in (headings, *lines)
    )
