"""Exports that another program has saved: what their header makes certain is translated to the plain form.

Nothing is guessed from values. A header that names the contract's columns, separated by `;` or tabs or with
an unnamed column before them, says how its file is written; whether times without a zone are UTC says only
whoever lands the file. A line becomes a line, so that whatever is wrong with it stays to be rejected.
"""

from __future__ import annotations

import re

from beam_jobs.contract import COLUMN_NAMES, MAX_LINE_BYTES, ContractError, header_names
from beam_jobs.lines import past_bom

_INDEX_NAMES = (b"", b"Unnamed: 0")
"""What pandas calls a column without a name, when it writes it and when it has read it."""
_SEPARATORS = {b";": "semicolons", b"\t": "tabs", b",": "commas"}
_DECIMAL_COMMA = re.compile(rb"-?\d+,\d+")
_DECIMAL_POINT = re.compile(rb"-?\d+\.\d+")
_TIME_WITHOUT_ZONE = re.compile(rb"(\d{4}-\d\d-\d\d)[ T](\d\d:\d\d:\d\d(?:\.\d+)?)")


def translation(first_line: bytes, file: str, times_are_utc: bool) -> Translation | None:
    """Return how an export with this first line is translated; None if it is plain, or not understood at all.

    `times_are_utc` says that times without a zone are UTC. `file` is the export's name, for errors.
    """
    line = first_line[past_bom(first_line, 0) :].rstrip(b"\r\n")
    for separator in _SEPARATORS:
        fields = _split(line, separator)
        has_index = fields is not None and len(fields) == len(COLUMN_NAMES) + 1 and fields[0] in _INDEX_NAMES
        names = header_names(_joined(fields[has_index:]).decode(errors="replace")) if fields else None
        if names and sorted(names) == sorted(COLUMN_NAMES):
            if separator == b"," and not has_index and not times_are_utc:
                return None
            return Translation(file, separator, has_index, names, times_are_utc)
    return Translation(file, b",", False, COLUMN_NAMES, True) if times_are_utc else None


class Translation:
    """How the lines of one export become plain CSV: commas, the contract's columns alone, decimal points.

    `told` says in sentences what was translated so far.
    """

    def __init__(
        self, file: str, separator: bytes, has_index: bool, columns: tuple[str, ...], times_are_utc: bool
    ) -> None:
        self._file = file
        self._separator = separator
        self._has_index = has_index
        self._time = columns.index("event_time") if times_are_utc else None
        # A comma in a number is certain only where commas separate nothing.
        self._price = columns.index("price") if separator == b";" else None
        self._times = self._decimal_commas = self._decimal_points = 0

    @property
    def told(self) -> list[str]:
        told = []
        if self._separator != b",":
            told.append(f"fields separated by {_SEPARATORS[self._separator]}")
        if self._has_index:
            told.append("a first column without a name, left out")
        if self._decimal_commas:
            told.append(f"prices with a decimal comma: {self._decimal_commas:,}")
        if self._times:
            told.append(f"times without a zone, taken for UTC: {self._times:,}")
        return told

    def lines(self, data: bytes) -> bytes:
        """Translate whole lines, the last of which may lack its newline, each to a line.

        Raises:
            ContractError: prices have decimal commas and decimal points, so that neither is certain.
        """
        plain = b"\n".join([self._line(line) for line in data.split(b"\n")])
        if self._decimal_commas and self._decimal_points:
            raise ContractError(
                f"{self._file}: of its prices {self._decimal_commas:,} have a comma and "
                f"{self._decimal_points:,} a point, so a comma may stand for thousands. "
                "Export it again with decimal points alone."
            )
        return plain

    def _line(self, line: bytes) -> bytes:
        start = past_bom(line, 0)
        text = line[start:].removesuffix(b"\r")
        if not text or len(line) > MAX_LINE_BYTES:
            return line
        fields = _split(text, self._separator)
        if fields is None or len(fields) != len(COLUMN_NAMES) + self._has_index:
            return self._broken(line, text, fields)
        fields = fields[self._has_index :]
        if self._price is not None:
            fields[self._price] = self._with_point(fields[self._price])
        if self._time is not None:
            fields[self._time] = self._with_zone(fields[self._time])
        return line[:start] + _joined(fields) + line[start + len(text) :]

    def _broken(self, line: bytes, text: bytes, fields: list[bytes] | None) -> bytes:
        """Return a line that is rejected as this one must be: by its commas it might be an event."""
        if self._separator == b"," and not self._has_index:
            return line
        quoted = b'"' + text.replace(b'"', b'""')
        return quoted if fields is None else quoted + b'"'

    def _with_point(self, price: bytes) -> bytes:
        if _DECIMAL_COMMA.fullmatch(price):
            self._decimal_commas += 1
            return price.replace(b",", b".")
        self._decimal_points += bool(_DECIMAL_POINT.fullmatch(price))
        return price

    def _with_zone(self, time: bytes) -> bytes:
        if not (found := _TIME_WITHOUT_ZONE.fullmatch(time)):
            return time
        self._times += 1
        return b"%b %b UTC" % found.groups()


def _split(line: bytes, separator: bytes) -> list[bytes] | None:
    """Split a line by RFC 4180, or return None if its quotes do not pair up."""
    if b'"' not in line:
        return line.split(separator)
    field = rb'(?:"(?:[^"]|"")*+"|[^"%b]*+)' % separator
    if not re.fullmatch(rb"%b(?:%b%b)*+" % (field, separator, field), line):
        return None
    fields = re.findall(rb"(?:^|%b)(%b)" % (separator, field), line)
    return [field[1:-1].replace(b'""', b'"') if field.startswith(b'"') else field for field in fields]


def _joined(fields: list[bytes]) -> bytes:
    return b",".join(
        [
            b'"' + field.replace(b'"', b'""') + b'"' if b"," in field or b'"' in field else field
            for field in fields
        ]
    )
