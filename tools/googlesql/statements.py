"""Every statement of sql/bigquery, with where it stands and what it must give."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from shopstream.tables.day import build_statement, checks_statement
from shopstream.tables.folder import UNIQUE_GRAIN, Column, Table


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement: `first_line` is the line of `path` where it begins, `params` its parameters' types.

    `columns` are what its result must be; None if that is not described.
    """

    table: Table
    name: str
    path: Path
    first_line: int
    sql: str
    params: Mapping[str, str]
    columns: tuple[Column, ...] | None


def statements_of(sql_dir: Path, table: Table) -> list[Statement]:
    """Return the statements of one table's folder: its view, or its query, MERGE and checks.

    Checks run as one query, and are also judged one by one, which tells the line of a fault.
    """
    folder = Path(sql_dir) / "bigquery" / table.dataset / table.name
    params = {"day": "DATE", **table.metadata.parameters}
    found = []
    if table.view:
        path = folder / "view.sql"
        line = _line_of(table.view, path)
        found.append(Statement(table, "view.sql", path, line, table.view, {}, table.schema))
    if table.query:
        path, merge = folder / "query.sql", build_statement(table)
        line = _line_of(table.query, path)
        found.append(Statement(table, "query.sql", path, line, table.query, params, table.schema))
        above = merge[: merge.index(table.query)].count("\n")
        found.append(Statement(table, "its MERGE", path, line - above, merge, params, None))
    for check in table.checks:
        # The check that is made from the grain has no line of its own.
        is_made = check.name == UNIQUE_GRAIN
        path = folder / ("metadata.yaml" if is_made else "checks.sql")
        line = _line_of("grain:" if is_made else check.sql, path)
        found.append(Statement(table, f"check {check.name}", path, line, check.sql, {"day": "DATE"}, None))
    if table.checks:
        sql = checks_statement(table, rows_shown=1)
        found.append(Statement(table, "all checks", folder / "checks.sql", 1, sql, {"day": "DATE"}, None))
    return found


def _line_of(sql: str, path: Path) -> int:
    text = path.read_text(encoding="utf-8")
    return text[: text.index(sql)].count("\n") + 1
