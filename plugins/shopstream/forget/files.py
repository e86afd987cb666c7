"""Take customers out of the bucket's files: counted first, then written anew without their lines.

An object is written anew only if it holds something of theirs, as a stream, and it becomes visible as a
whole, in place of the very generation that was read. It stays what it was: its name, its compression and its
storage class; every other line is the same, byte for byte.
"""

from __future__ import annotations

import base64
import gzip
import json
import logging
import zipfile
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import PurePosixPath
from typing import IO, TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from google.api_core.exceptions import PreconditionFailed
from google.resumable_media.common import InvalidResponse

from beam_jobs.contract import COLUMN_NAMES, MAX_LINE_BYTES, ContractError, header_columns
from beam_jobs.lines import BLOCK_BYTES, decompressed, is_mark, read_first_line, read_pieces
from shopstream.forget.customers import RANGE_DETAIL, is_theirs, is_told_of, mentions, spans
from shopstream.gcp.storage import open_object
from shopstream.landing.split import UPLOAD_CHUNK_BYTES, open_export
from shopstream.landing.translate import translation
from shopstream.layout import ACCEPTED, EXPORTS, LANDING, REJECTED
from shopstream.retries import Refused

if TYPE_CHECKING:
    from google.cloud.storage import Blob, Client

LANDED = (EXPORTS, LANDING)
"""What loads are made from."""
LOADED = (ACCEPTED, REJECTED)
"""What loads have made."""
PART_BYTES = 256 * 2**20
"""So much of the objects as stored is a part's: a task reads it in about a minute, packed in a few."""
MIN_OBJECT_BYTES = 2**20
"""To open an object takes as long as to read so much of it."""
MAX_PARTS = 16
MAX_NAMED = 20

log = logging.getLogger(__name__)

Ids = Collection[int]
Part = tuple[int, int]
"""Which of how many parts of the objects, by their names."""
WHOLE: Part = (0, 1)


def parts(client: Client, bucket: str) -> list[Part]:
    """Return in which parts all objects of LANDED and LOADED are looked at, each of about PART_BYTES."""
    blobs = (blob for prefix in (*LANDED, *LOADED) for blob in _objects(client, bucket, prefix, WHOLE))
    size = sum(max(blob.size, MIN_OBJECT_BYTES) for blob in blobs)
    number = min(max(-(-size // PART_BYTES), 1), MAX_PARTS)
    return [(part, number) for part in range(number)]


class ChangedMeanwhile(RuntimeError):
    """An object was written by somebody else while it was written anew; another try reads it again."""


def count(
    client: Client, bucket: str, prefixes: Iterable[str], ids: Ids, part: Part = WHOLE
) -> dict[str, int]:
    """Return how many lines or rows below each prefix of the bucket are of these customers.

    Raises:
        Refused: objects are not understood; the message names each, and what to do.
    """
    found = {}
    faults: list[str] = []
    for prefix in prefixes:
        found[prefix] = 0
        for blob in _objects(client, bucket, prefix, part):
            try:
                found[prefix] += _count(blob, ids)
            except ContractError as error:
                faults.append(str(error))
    _refuse(faults)
    return found


def rewrite(
    client: Client, bucket: str, prefixes: Iterable[str], ids: Ids, part: Part = WHOLE
) -> dict[str, int]:
    """Write the objects below prefixes of the bucket anew without the lines or rows of these customers.

    Returns:
        How many there were below each. A second time there are none, and nothing is written.

    Raises:
        Refused: objects are not understood; all others, below all prefixes, are done.
        ChangedMeanwhile: somebody else has written one of them meanwhile.
    """
    removed = {}
    faults: list[str] = []
    for prefix in prefixes:
        removed[prefix] = 0
        for blob in _objects(client, bucket, prefix, part):
            try:
                found = _count(blob, ids)
                if found:
                    _write_without(blob, ids)
                    log.info("gs://%s/%s: wrote it anew without %d lines.", bucket, blob.name, found)
            except ContractError as error:
                faults.append(str(error))
            except (PreconditionFailed, InvalidResponse) as error:
                if isinstance(error, InvalidResponse) and error.response.status_code != 412:
                    raise
                raise ChangedMeanwhile(
                    f"gs://{bucket}/{blob.name} was written by somebody else meanwhile."
                ) from error
            else:
                removed[prefix] += found
    _refuse(faults)
    return removed


def _objects(client: Client, bucket: str, prefix: str, part: Part) -> Iterator[Blob]:
    number, parts = part
    for blob in client.list_blobs(bucket, prefix=prefix):
        # Marks, and the empty objects that the console makes of folders' names.
        if not blob.size or is_mark(PurePosixPath(blob.name).name):
            continue
        if zlib.crc32(blob.name.encode()) % parts == number:
            yield blob


def _refuse(faults: list[str]) -> None:
    if faults:
        more = f"\nand {len(faults) - MAX_NAMED} more" if len(faults) > MAX_NAMED else ""
        raise Refused(
            "Whether these objects hold something of a customer cannot be told; correct or delete each, then "
            "clear this task:\n" + "\n".join(faults[:MAX_NAMED]) + more
        )


def _count(blob: Blob, ids: Ids) -> int:
    if blob.name.startswith(ACCEPTED):
        return sum(removed for _, removed in _accepted_groups(blob, ids, columns=["user_id"]))
    return sum(removed for _, removed in _sifted(blob, ids))


def _write_without(blob: Blob, ids: Ids) -> None:
    if blob.name.startswith(ACCEPTED):
        groups = _accepted_groups(blob, ids)
        first, _ = next(groups)
        with _anew(blob) as out, pq.ParquetWriter(out, first.schema) as written:
            written.write_table(first)
            for rows, _ in groups:
                written.write_table(rows)
        return
    with _anew(blob, _gzip_layers(blob)) as out:
        kept_bytes = 0
        for kept, _ in _sifted(blob, ids):
            kept_bytes += out.write(kept)
        # A landing file of nothing is refused, one without events holds the header.
        if not kept_bytes and not blob.name.startswith(REJECTED):
            out.write(",".join(COLUMN_NAMES).encode() + b"\n")


def _sifted(blob: Blob, ids: Ids) -> Iterator[tuple[bytes, int]]:
    """Yield the text of an object in pieces without the lines of these customers, and how many they were."""
    uri = _uri(blob)
    with open_object(blob.bucket, blob.name, chunk_bytes=BLOCK_BYTES) as (stored, encoding):
        if blob.name.startswith(REJECTED):
            with decompressed(stored, uri, encoding) as text:
                yield from _sift_rejected(text, uri, ids)
        else:
            with open_export(stored, uri, encoding) as text:
                yield from sift_events(text, uri, ids)


def sift_events(text: Any, file: str, ids: Ids) -> Iterator[tuple[bytes, int]]:
    """Yield a file of events in pieces without the lines of these customers, and how many they were.

    Blank lines at the beginning are left out.

    Raises:
        ContractError: the file is not of events, or a line so long that nobody reads it whole names a
            customer where it goes on.
    """
    line, start = read_first_line(text, file)

    def plain(line: bytes) -> bytes:
        # Made anew each time: it would judge all prices by each other.
        translated = translation(first_line, file, times_are_utc=False)
        return translated.lines(line) if translated else line

    first_line = line
    columns = header_columns(plain(line).decode(errors="replace"), file)
    if columns is not None:
        yield line, 0
        start += len(line)
    is_dropped = False
    for piece in read_pieces(text, start, block_bytes=BLOCK_BYTES):
        if piece.begins_line:
            kept, removed, is_dropped = _without(
                piece.data, ids, lambda line: is_theirs(plain(line), columns or COLUMN_NAMES, ids)
            )
            yield kept, removed
        elif not is_dropped:
            if mentions(piece.data, ids):
                raise ContractError(
                    f"{file}: a line of more than {MAX_LINE_BYTES:,} bytes, which goes on at byte "
                    f"{piece.offset}, names a customer there. Delete the line."
                )
            yield piece.data, 0


def _without(data: bytes, ids: Ids, is_theirs: Callable[[bytes], bool]) -> tuple[bytes, int, bool]:
    """Return whole lines without those of these customers, how many these are, and if the last is one."""
    kept, removed, at, looked = [], 0, 0, 0
    for begin, end in spans(data, ids):
        if begin < looked:
            continue
        begin = data.rfind(b"\n", 0, begin) + 1
        looked = data.find(b"\n", end) + 1 or len(data)
        if is_theirs(data[begin:looked]):
            kept.append(data[at:begin])
            at = looked
            removed += 1
    kept.append(data[at:])
    return b"".join(kept), removed, at == len(data) > 0


def _sift_rejected(text: Any, file: str, ids: Ids) -> Iterator[tuple[bytes, int]]:
    """The same of the lines that a load rejected: of each it is not known which column is which.

    A range of them, of which only the first is told, stays without what it tells.
    """
    for line in text:
        try:
            rejected = json.loads(line)
            said = base64.b64decode(rejected["raw"]), rejected["detail"].encode()
            is_range = (rejected.get("lines") or 1) > 1
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ContractError(f"{file} holds what is no rejected line ({type(error).__name__}).") from error
        if not is_told_of(said, ids):
            yield line, 0
        elif is_range:
            rejected |= {"raw": "", "detail": RANGE_DETAIL}
            yield json.dumps(rejected, ensure_ascii=False).encode() + b"\n", 1
        else:
            yield b"", 1


def _accepted_groups(
    blob: Blob, ids: Ids, columns: list[str] | None = None
) -> Iterator[tuple[pa.Table, int]]:
    """Yield the row groups of accepted Parquet without rows of these customers, and how many they were."""
    wanted = pa.array(sorted(ids), pa.int64())
    try:
        with open_object(blob.bucket, blob.name, chunk_bytes=BLOCK_BYTES) as (stored, _):
            file = pq.ParquetFile(stored)
            for number in range(file.num_row_groups):
                rows = file.read_row_group(number, columns=columns)
                theirs = pc.is_in(rows["user_id"], wanted)
                yield rows.filter(pc.invert(theirs)), pc.sum(theirs).as_py() or 0
    except (pa.ArrowInvalid, KeyError) as error:
        raise ContractError(f"{_uri(blob)} holds no accepted events ({type(error).__name__}).") from error


def _gzip_layers(blob: Blob) -> int:
    """How often an object is packed by gzip: an upload that compresses on the way packs a .gz once more."""
    with (
        open_object(blob.bucket, blob.name, chunk_bytes=UPLOAD_CHUNK_BYTES) as (stored, encoding),
        decompressed(stored, _uri(blob), encoding) as text,
    ):
        layers = 0
        opened: Any = text
        while isinstance(opened, gzip.GzipFile):
            layers, opened = layers + 1, opened.fileobj
        return layers


@contextmanager
def _anew(blob: Blob, gzip_layers: int = 0) -> Iterator[IO[bytes]]:
    """Give a writer of the object's new bytes; if anything fails, the object stays as it is."""
    fresh = blob.bucket.blob(blob.name)
    fresh.storage_class = blob.storage_class
    if blob.content_encoding:
        fresh.content_encoding = blob.content_encoding
    if blob.metadata:
        fresh.metadata = blob.metadata
    with ExitStack() as opened:
        out: Any = opened.enter_context(
            fresh.open(
                "wb",
                chunk_size=UPLOAD_CHUNK_BYTES,
                content_type=blob.content_type,
                ignore_flush=True,
                if_generation_match=blob.generation,
            )
        )
        for _ in range(gzip_layers):
            out = opened.enter_context(gzip.GzipFile(fileobj=out, mode="wb"))
        if blob.name.endswith(".zip"):
            archive = opened.enter_context(zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED))
            name = PurePosixPath(blob.name).name.removesuffix(".zip").removesuffix(".csv")
            out = opened.enter_context(archive.open(f"{name}.csv", "w", force_zip64=True))
        yield out


def _uri(blob: Blob) -> str:
    return f"gs://{blob.bucket.name}/{blob.name}"
