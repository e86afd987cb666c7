"""Judge every statement of sql/bigquery as BigQuery would: `python -m tools.googlesql`.

A line tells of each statement what it gives and which partitions it reads, or what is wrong and where.
Ends with 1 if anything is wrong.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from local.root import ROOT
from local.stack import emulators
from shopstream.settings import settings
from shopstream.tables.folder import Column, Table, TableError, all_tables
from tools.googlesql.analyzer import Analyzer, StatementRefused, running_analyzer, type_name
from tools.googlesql.reads import Read, reads_of
from tools.googlesql.statements import Statement, statements_of

LOG = ROOT / "build" / "googlesql.log"
ONE_DAY_OF = "SELECT {1} FROM {0} WHERE {1} = @day"
"""How a view is read that shows days: the filter must reach the partitions of all tables below it."""


class Verdict(NamedTuple):
    """What a statement gives and reads, and what is wrong with it, each with its file and line."""

    statement: Statement
    told: str
    problems: list[str]


def verdicts(sql_dir: Path) -> Iterator[Verdict]:
    """Judge the statements of all tables, in dependency order.

    Raises:
        emulators.NotReady: the analyzer is not installed, or does not start.
        TableError: a folder is not as it must be.
    """
    tables = {table.full_name: table for table in all_tables(sql_dir)}
    with running_analyzer(tables.values(), LOG) as analyzer:
        for table in tables.values():
            for statement in statements_of(sql_dir, table):
                yield verdict_on(analyzer, tables, statement)


def verdict_on(analyzer: Analyzer, tables: Mapping[str, Table], statement: Statement) -> Verdict:
    """Judge one statement: its syntax, names and types, the columns of its result, and what it reads."""
    where = f"{_shown(statement.path)}:{statement.first_line}"
    try:
        analyzed = analyzer.analyze(statement.sql, statement.params)
    except StatementRefused as error:
        line = statement.first_line + error.line - 1
        return Verdict(statement, "", [f"{_shown(statement.path)}:{line}:{error.column}: {error.message}"])
    told, problems = "", []
    if statement.columns is not None:
        told = f"{len(statement.columns)} columns; "
        problems += _wrong_columns(analyzed, statement.columns)
    table = statement.table
    days = {tables[name].metadata.partition_by for name in _stored(tables, table.metadata.reads)}
    if table.view and (shown := [name for name in table.column_names if name in days]):
        analyzed = analyzer.analyze(ONE_DAY_OF.format(table.full_name, shown[0]), {"day": "DATE"})
    try:
        reads = reads_of(analyzed, tables, lambda view: analyzer.analyze(view.view or "", {}))
    except StatementRefused as error:
        problems.append(f"reads a view that is wrong: {error}")
    else:
        told += "reads " + ", ".join(f"{read} of {name}" for name, read in sorted(reads.items()))
        problems += _wrong_reads(statement, tables, reads)
    return Verdict(statement, told, [f"{where}: {problem}" for problem in problems])


def _wrong_columns(analyzed: Any, columns: tuple[Column, ...]) -> list[str]:
    given = [f"{column.name} {type_name(column.column.type)}" for column in analyzed.output_column_list]
    described = [
        f"{column.name} {f'ARRAY<{column.type}>' if column.mode == 'REPEATED' else column.type}"
        for column in columns
    ]
    if len(given) != len(described):
        return [f"gives {len(given)} columns ({', '.join(given)}); schema.yaml has {len(described)}"]
    return [
        f"column {number} is {found}; schema.yaml has {expected}"
        for number, (found, expected) in enumerate(zip(given, described, strict=True), start=1)
        if found != expected
    ]


def _wrong_reads(
    statement: Statement, tables: Mapping[str, Table], reads: Mapping[str, Read]
) -> Iterator[str]:
    """Tell of days that no filter keeps out, and of tables and days other than those of metadata.yaml."""
    metadata, lookback_days, lookahead_days = statement.table.metadata, 0, 0
    for name, read in sorted(reads.items()):
        days = read.days
        partition = tables[name].metadata.partition_by
        if not days.first or not days.last:
            yield (
                f"reads {days} of {name}; compare its {partition} with @day, or in a view with "
                "CURRENT_DATE(), where the comparison can reach the table"
            )
        elif statement.columns is None and days.last.days > metadata.lookahead_days:
            yield f"reads {days} of {name}, days after its own"
        else:
            # Days that a summary was made from count too: with them it changes.
            below = tables[name].metadata if tables[name].query else None
            lookback_days = max(lookback_days, -days.first.days + (below.lookback_days if below else 0))
            lookahead_days = max(lookahead_days, days.last.days + (below.lookahead_days if below else 0))
    if statement.columns is None:
        return
    if set(reads) != (expected := _stored(tables, metadata.reads)):
        yield f"reads {', '.join(sorted(reads))}; by metadata.yaml it would be {', '.join(sorted(expected))}"
    if lookback_days != metadata.lookback_days:
        yield f"looks back {lookback_days} days; metadata.yaml says lookback_days: {metadata.lookback_days}"
    if lookahead_days != (said := metadata.lookahead_days):
        yield f"looks ahead {lookahead_days} days; metadata.yaml says lookahead_days: {said}"


def _stored(tables: Mapping[str, Table], names: Iterable[str]) -> set[str]:
    """Return the tables of these names, with those below a view in place of the view."""
    stored: set[str] = set()
    for name in names:
        stored |= _stored(tables, tables[name].metadata.reads) if tables[name].view else {name}
    return stored


def _shown(path: Path) -> str:
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)


def main(argv: list[str] | None = None) -> int:
    """Print a line for each statement; return 1 if one is wrong."""
    parser = argparse.ArgumentParser(description="Judge every statement of sql/bigquery as BigQuery would.")
    parser.add_argument("--sql-dir", type=Path, default=settings().sql_dir, help="default: %(default)s")
    sql_dir = parser.parse_args(argv).sql_dir
    started = time.monotonic()
    judged = wrong = 0
    try:
        for statement, told, problems in verdicts(sql_dir):
            judged, wrong = judged + 1, wrong + bool(problems)
            name = f"{statement.table.full_name}, {statement.name}"
            for line in [f"{name}: WRONG: {problem}" for problem in problems] or [f"{name}: {told}"]:
                print(line)
    except (emulators.NotReady, TableError) as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{judged} statements judged by GoogleSQL in {time.monotonic() - started:.1f} s, {wrong} wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
