"""What a statement reads, told before it runs: columns of daily partitions, for which BigQuery bills.

A column is read if anything that is asked for depends on it. Which partitions are read follows from filters:
each comparison of a column with a date is followed from where it stands down to the tables, through views,
WITH, UNION, joins and subqueries, as far as BigQuery may follow it. Not beyond a window that is not parted by
the column, an aggregation not grouped by it, or a LIMIT: a filter above those takes rows away only after all
of them were read. A comparison counts if one side is the bare column and the other is known before the query
starts: a query parameter or CURRENT_DATE(), with DATE_ADD or DATE_SUB of days. Where there is none, all
partitions count as read, so that what is told here is rather too much than too little.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from dataclasses import dataclass
from functools import reduce
from operator import or_
from typing import Any, NamedTuple

from shopstream.tables.folder import Table
from tools.googlesql.analyzer import innermost

FIXED_BYTES = {"BOOL": 1, "DATE": 8, "FLOAT64": 8, "INT64": 8, "NUMERIC": 16, "TIMESTAMP": 8}
"""What BigQuery bills for a value; for text and bytes 2 and their UTF-8 length, for NULL nothing."""
DAY_PART = 3
"""DAY in the analyzer's list of the parts of a date, which the npm package leaves out."""
INNER, LEFT, RIGHT = 0, 1, 2
UNION_ALL = 0
NOT_MATCHED_BY_TARGET = 2
FLIPPED = {
    "$less": "$greater",
    "$less_or_equal": "$greater_or_equal",
    "$greater": "$less",
    "$greater_or_equal": "$less_or_equal",
}


class Bound(NamedTuple):
    """The date `days` after an anchor: a query parameter such as @day, or CURRENT_DATE()."""

    anchor: str
    days: int

    def __str__(self) -> str:
        return f"{self.anchor}{self.days:+d}" if self.days else self.anchor


@dataclass(frozen=True, slots=True)
class Days:
    """The dates from `first` to `last`, both included; None is without end."""

    first: Bound | None = None
    last: Bound | None = None

    def __and__(self, other: Days) -> Days:
        """Dates of both; of two bounds that cannot be compared, the one of self."""
        return Days(_both(max, self.first, other.first), _both(min, self.last, other.last))

    def __or__(self, other: Days) -> Days:
        """All from the first of either to the last of either."""
        return Days(_either(min, self.first, other.first), _either(max, self.last, other.last))

    def __str__(self) -> str:
        if self.first == self.last:
            return str(self.first) if self.first else "all days"
        return f"{self.first or 'the first day'} to {self.last or 'the last day'}"


class Scan(NamedTuple):
    """Columns that one scan of a table reads on some days."""

    days: Days
    columns: frozenset[str]


@dataclass(frozen=True, slots=True)
class Read:
    """What a statement reads of a table, by one scan or several."""

    scans: tuple[Scan, ...]

    @property
    def days(self) -> Days:
        """All from the first day of any scan to the last day of any."""
        return reduce(or_, (scan.days for scan in self.scans))

    @property
    def columns(self) -> frozenset[str]:
        """The columns of any scan."""
        return frozenset().union(*(scan.columns for scan in self.scans))

    def columns_on(self, offset: int) -> frozenset[str]:
        """The columns that are read of the day that is so many days after @day.

        Raises:
            ValueError: a scan is not limited by days around @day on both sides.
        """
        columns: frozenset[str] = frozenset()
        for days, of_scan in self.scans:
            if not days.first or not days.last:
                raise ValueError(f"{days} are read; run `python -m tools.googlesql`")
            if days.first.days <= offset <= days.last.days:
                columns |= of_scan
        return columns

    def __or__(self, other: Read) -> Read:
        return Read((*self.scans, *other.scans))

    def __str__(self) -> str:
        return " and ".join(dict.fromkeys(str(scan.days) for scan in self.scans))


Limits = Mapping[int, Days]
"""What filters leave of columns, by the columns' ids."""
Ids = Set[int]
"""Ids of columns that are asked for."""
Reads = Iterator[tuple[str, Read]]
"""Names of tables and what is read of them; a table may come more than once."""


def reads_of(
    statement: Any, tables: Mapping[str, Table], select_of_view: Callable[[Table], Any]
) -> dict[str, Read]:
    """Return what an analyzed SELECT, MERGE, DELETE or UPDATE reads of each table, by the table's full name.

    `select_of_view` gives the analyzed SELECT of a view. A table without a partition is read on all days.
    """
    walk = _Walk(tables, select_of_view)
    if statement.DESCRIPTOR.name == "ResolvedMergeStmtProto":
        found = walk.merge(statement)
    elif statement.DESCRIPTOR.name == "ResolvedDeleteStmtProto":
        where = statement.where_expr
        found = walk.scan_table(statement.table_scan, _limits_of(where), _ids(where))
    elif statement.DESCRIPTOR.name == "ResolvedUpdateStmtProto":
        where = statement.where_expr
        found = walk.scan_table(
            statement.table_scan, _limits_of(where), _ids(where, *statement.update_item_list)
        )
    else:
        asked = {column.column.column_id for column in statement.output_column_list}
        found = walk.scan(statement.query, {}, asked)
    reads: dict[str, Read] = {}
    for table, read in found:
        reads[table] = reads[table] | read if table in reads else read
    return reads


class _Walk:
    """One way down through a statement: what is asked for comes from above, and what is read comes out below.

    A scan is asked for the columns of `asked`, of rows within `limits`.
    """

    def __init__(self, tables: Mapping[str, Table], select_of_view: Callable[[Table], Any]) -> None:
        self.tables, self.select_of_view = tables, select_of_view
        self.with_queries: dict[str, Any] = {}

    def merge(self, statement: Any) -> Reads:
        """Yield what the source reads, and the days of the target in which a clause looks for rows.

        BigQuery rewrites those partitions, so it reads all their columns.
        """
        yield from self.scan(statement.from_scan, {}, _ids(statement.merge_expr, *statement.when_clause_list))
        target = self.tables[statement.table_scan.table.full_name]
        searches = [
            clause.match_expr
            for clause in statement.when_clause_list
            if clause.match_type != NOT_MATCHED_BY_TARGET
        ]
        if not _is_false(statement.merge_expr):
            searches.append(statement.merge_expr)
        for search in searches:
            for name, read in self.scan_table(statement.table_scan, _limits_of(search), set()):
                yield name, Read((Scan(read.days, frozenset(target.column_names)),))
        for clause in statement.when_clause_list:
            yield from self.subqueries(clause)

    def scan(self, wrapped: Any, limits: Limits, asked: Ids) -> Reads:
        """Yield what a scan reads."""
        scan = innermost(wrapped)
        kind = scan.DESCRIPTOR.name.removeprefix("Resolved").removesuffix("ScanProto")
        yield from self.subqueries(scan)
        if kind == "Table":
            yield from self.scan_table(scan, limits, asked)
        elif kind == "With":
            self.with_queries |= {
                query.with_query_name: query.with_subquery for query in scan.with_entry_list
            }
            yield from self.scan(scan.query, limits, asked)
        elif kind == "WithRef":
            query = self.with_queries[scan.with_query_name]
            below = _Renamed(scan.parent.column_list, _columns(query))
            yield from self.scan(query, below.limits(limits), below.ids(asked))
        elif kind == "SetOperation":
            for item in scan.input_item_list:
                below = _Renamed(scan.parent.column_list, item.output_column_list)
                all_count = scan.op_type != UNION_ALL
                ids = _all_ids(item.output_column_list) if all_count else below.ids(asked)
                yield from self.scan(item.scan, below.limits(limits), ids)
        elif kind == "Join":
            joined, asked = _limits_of(scan.join_expr), asked | _ids(scan.join_expr)
            of_left = joined if scan.join_type in (INNER, RIGHT) else {}
            of_right = joined if scan.join_type in (INNER, LEFT) else {}
            yield from self.scan(scan.left_scan, _and(limits, of_left), asked)
            yield from self.scan(scan.right_scan, _and(limits, of_right), asked)
        else:
            for field, child in _fields(scan):
                if field == "AnyResolvedScanProto":
                    ids = _ids_below(kind, scan, child, asked)
                    yield from self.scan(child, _limits_below(kind, scan, limits), ids)

    def scan_table(self, scan: Any, limits: Limits, asked: Ids) -> Reads:
        """Yield what is read of a table, or of the tables below a view."""
        table = self.tables[scan.table.full_name]
        columns = scan.parent.column_list
        if table.view:
            select = self.select_of_view(table)
            output = {column.name: column.column for column in select.output_column_list}
            below = _Renamed(columns, [output[column.name] for column in columns])
            walk = _Walk(self.tables, self.select_of_view)
            yield from walk.scan(select.query, below.limits(limits), below.ids(asked))
        else:
            partition = [column for column in columns if column.name == table.metadata.partition_by]
            days = limits.get(partition[0].column_id, Days()) if partition else Days()
            names = frozenset(column.name for column in columns if column.column_id in asked)
            yield table.full_name, Read((Scan(days, names),))

    def subqueries(self, message: Any) -> Reads:
        """Yield what the subqueries in the expressions of a scan read, but not what its inputs read."""
        is_subquery = message.DESCRIPTOR.name == "ResolvedSubqueryExprProto"
        for kind, child in _fields(message):
            if kind != "AnyResolvedScanProto":
                yield from self.subqueries(child)
            elif is_subquery:
                yield from self.scan(child, {}, _all_ids(_columns(child)))


def _limits_below(kind: str, scan: Any, limits: Limits) -> Limits:
    """Return the limits of what a scan of one input needs of that input."""
    if kind == "Filter":
        return _and(limits, _limits_of(scan.filter_expr))
    if kind == "Project":
        return _and(limits, _limits_of_sources(scan.expr_list, limits))
    if kind == "Aggregate":
        return {} if scan.parent.grouping_set_list else _limits_of_sources(scan.parent.group_by_list, limits)
    if kind == "Analytic":
        parted = [
            {column.column.column_id for column in group.partition_by.partition_by_list}
            for group in scan.function_group_list
        ]
        return {column: days for column, days in limits.items() if all(column in ids for ids in parted)}
    return limits if kind in ("Array", "OrderBy") else {}


def _ids_below(kind: str, scan: Any, child: Any, asked: Ids) -> Ids:
    """Return which columns a scan of one input needs of that input."""

    def of_asked(computed: Iterable[Any]) -> Ids:
        return _ids(*(column.expr for column in computed if column.column.column_id in asked))

    if kind == "Filter":
        return asked | _ids(scan.filter_expr)
    if kind == "Project":
        return asked | of_asked(scan.expr_list)
    if kind == "Aggregate":
        return _ids(*scan.parent.group_by_list) | of_asked(scan.parent.aggregate_list)
    if kind == "Analytic":
        groups = scan.function_group_list
        ordered = _ids(*(part for group in groups for part in (group.partition_by, group.order_by)))
        return asked | ordered | of_asked(call for group in groups for call in group.analytic_function_list)
    if kind == "OrderBy":
        return asked | _ids(*scan.order_by_item_list)
    if kind == "Array":
        return asked | _ids(scan.array_expr, scan.join_expr)
    return asked if kind == "LimitOffset" else _all_ids(_columns(child))


def _limits_of(expression: Any) -> dict[int, Days]:
    """Return what must hold for columns where the expression is true."""
    name, arguments = _call(expression)
    if name == "$and":
        return _and(*map(_limits_of, arguments))
    if name == "$or":
        first, *others = map(_limits_of, arguments)
        for other in others:
            first = {column: days | other[column] for column, days in first.items() if column in other}
        return first
    if name in FLIPPED and _column_id(arguments[0]) is None:
        name, arguments = FLIPPED[name], arguments[::-1]
    elif name == "$equal" and _column_id(arguments[0]) is None:
        arguments = arguments[::-1]
    if not name or not arguments or (column := _column_id(arguments[0])) is None:
        return {}
    bounds = [bound for argument in arguments[1:] if (bound := _bound(argument))]
    if not bounds or len(bounds) < len(arguments) - 1:
        return {}
    days = _compared(name, bounds)
    return {column: days} if days else {}


def _compared(name: str, bounds: list[Bound]) -> Days | None:
    first, last = bounds[0], bounds[-1]
    if name in ("$equal", "$in"):
        days = Days(first, first)
        for bound in bounds[1:]:
            days |= Days(bound, bound)
        return days
    return {
        "$between": Days(first, last),
        "$greater_or_equal": Days(first=first),
        "$greater": Days(first=Bound(first.anchor, first.days + 1)),
        "$less_or_equal": Days(last=last),
        "$less": Days(last=Bound(last.anchor, last.days - 1)),
    }.get(name)


def _bound(expression: Any) -> Bound | None:
    """Return the date that an expression is, if that is known before the query starts."""
    node = innermost(expression)
    if node.DESCRIPTOR.name == "ResolvedParameterProto":
        return Bound(f"@{node.name}", 0)
    name, arguments = _call(expression)
    if name == "current_date":
        return Bound("today", 0)
    if name in ("date_add", "date_sub"):
        date = _bound(arguments[0])
        number, part = (innermost(argument) for argument in arguments[1:])
        is_literal = number.DESCRIPTOR.name == "ResolvedLiteralProto"
        if date and is_literal and part.value.value.enum_value == DAY_PART:
            days = number.value.value.int64_value
            return Bound(date.anchor, date.days + (days if name == "date_add" else -days))
    return None


def _call(expression: Any) -> tuple[str, list[Any]]:
    """Return the name of the called function and its arguments; no name if it is no call."""
    node = innermost(expression)
    if node.DESCRIPTOR.name != "ResolvedFunctionCallProto":
        return "", []
    return node.parent.function.name.rpartition(":")[2], list(node.parent.argument_list)


def _column_id(expression: Any) -> int | None:
    node = innermost(expression)
    return node.column.column_id if node.DESCRIPTOR.name == "ResolvedColumnRefProto" else None


def _is_false(expression: Any) -> bool:
    node = innermost(expression)
    return node.DESCRIPTOR.name == "ResolvedLiteralProto" and not node.value.value.bool_value


class _Renamed:
    """Columns that have one id above and another below, by their positions."""

    def __init__(self, above: Iterable[Any], below: Iterable[Any]) -> None:
        self.pairs = [(one.column_id, other.column_id) for one, other in zip(above, below, strict=True)]

    def limits(self, limits: Limits) -> Limits:
        return {below: limits[above] for above, below in self.pairs if above in limits}

    def ids(self, ids: Ids) -> Ids:
        return {below for above, below in self.pairs if above in ids}


def _ids(*expressions: Any) -> Ids:
    """Return the ids of all columns to which expressions refer."""
    found: set[int] = set()
    for expression in expressions:
        if expression.DESCRIPTOR.name == "ResolvedColumnRefProto":
            found.add(expression.column.column_id)
        else:
            found |= _ids(*(child for _, child in _fields(expression)))
    return found


def _limits_of_sources(computed: Iterable[Any], limits: Limits) -> dict[int, Days]:
    """Return limits of computed columns as limits of the columns that they are, unchanged."""
    sources = [(column.column.column_id, _column_id(column.expr)) for column in computed]
    return {source: limits[column] for column, source in sources if source is not None and column in limits}


def _and(*all_limits: Limits) -> dict[int, Days]:
    joined: dict[int, Days] = {}
    for limits in all_limits:
        for column, days in limits.items():
            joined[column] = joined[column] & days if column in joined else days
    return joined


def _both(pick: Callable[..., Bound], one: Bound | None, other: Bound | None) -> Bound | None:
    if one is None or other is None:
        return one or other
    return pick(one, other) if one.anchor == other.anchor else one


def _either(pick: Callable[..., Bound], one: Bound | None, other: Bound | None) -> Bound | None:
    return pick(one, other) if one and other and one.anchor == other.anchor else None


def _fields(message: Any) -> Iterator[tuple[str, Any]]:
    """Yield the kind and value of each message in the fields of a node, and of what the node extends."""
    for field, value in message.ListFields():
        if field.name == "parent":
            yield from _fields(value)
        elif field.message_type is not None:
            for child in value if field.is_repeated else [value]:
                yield field.message_type.name, child


def _all_ids(columns: Iterable[Any]) -> Ids:
    return {column.column_id for column in columns}


def _columns(wrapped: Any) -> Any:
    """Return the columns that a scan gives."""
    node = innermost(wrapped)
    while "column_list" not in node.DESCRIPTOR.fields_by_name:
        node = node.parent
    return node.column_list
