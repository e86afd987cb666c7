"""Where a rejected line stands: its line number in the file, for those who open it in an editor."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from beam_jobs.contract import ContractError
from beam_jobs.lines import decompressed
from beam_jobs.pseudonyms import masked
from shopstream.gcp.storage import open_object

if TYPE_CHECKING:
    from google.cloud.storage import Client

COUNTED_BYTES = 64 * 2**20
"""How far into a file lines are counted, which takes a second: further on the offset alone is told."""
CHUNK_BYTES = 4 * 2**20


def place(client: Client, file: str, byte_offset: int, raw: bytes) -> str:
    """Return where the line `raw` is, such as "gs://b/e.csv line 12 (byte 345)"; `file` is a gs:// URI.

    Without its number if it is far into the file, or if the file no longer has it there.
    """
    number = line_number(client, file, byte_offset, raw)
    if number is None:
        return f"{file} at byte {byte_offset:,}"
    return f"{file} line {number:,} (byte {byte_offset:,})"


def line_number(client: Client, file: str, byte_offset: int, raw: bytes) -> int | None:
    """Count the lines up to `byte_offset` of the decompressed file, from 1; None if that cannot be told."""
    found = re.fullmatch(r"gs://([^/]+)/(.+)", file)
    if not found or byte_offset > COUNTED_BYTES:
        return None
    try:
        with (
            open_object(client.bucket(found[1]), found[2], chunk_bytes=CHUNK_BYTES) as (stored, encoding),
            decompressed(stored, file, encoding) as text,
        ):
            number, ahead = 1, byte_offset
            while ahead and (data := text.read(min(ahead, CHUNK_BYTES))):
                number += data.count(b"\n")
                ahead -= len(data)
            # A file that was corrected meanwhile has another line there.
            line = text.read(len(raw))
            return number if not ahead and raw in (line, masked(line)) else None
    except ContractError:
        return None
