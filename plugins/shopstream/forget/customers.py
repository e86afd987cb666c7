"""Whom a run of forget_customer is about, which lines are theirs, and what is kept to tell that it was done.

Whom a run is about never leaves the process that asks: no log, XCom or alert has a user_id.
"""

from __future__ import annotations

import csv
import hashlib
import hmac
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING, Any

from beam_jobs.contract import INT64_MAX
from shopstream.layout import FORGET, LIST_PATTERN, USER_ID_PATTERN
from shopstream.retries import Refused
from shopstream.settings import settings

if TYPE_CHECKING:
    from google.cloud.storage import Client

MAX_CUSTOMERS = 1000
FEW = 5
"""Up to so many are first looked for one by one, which is faster than to look at each number."""
MAX_DIGITS = 19
"""Of a user_id, without leading zeros."""
MAX_LIST_BYTES = 2**20
MIN_KEY_BYTES = 32
KEY_SECONDS = 60.0
RANGE_DETAIL = "The first of these lines was a customer's who was forgotten; the others are in the file."
"""Of a rejected range of lines whose first was a customer's: the range stays, as do its place, its reason and
its count, which the load's counters and its gate go by, and which names nobody. It has no number, lest it be
taken for somebody's."""

_SECRET = re.compile(r"projects/([^/]+)/secrets/([^/]+)/versions/([^/]+)")
_WHOLE_NUMBER = re.compile(r"([0-9]{1,19})(?:\.0+)?")
"""How the contract lets a user_id be written."""
_WHOLE = re.compile(
    rb"(?:(?<![0-9A-Za-z_.:-])|(?<=[^0-9]:))[0-9]++(?:\.0*)?(?![0-9A-Za-z_]|\.[0-9]|[:-][0-9])"
)
"""A number where it stands as a whole one."""
_BEFORE_JSON = b"\xef\xbb\xbf \t\r\n"
_ESCAPE = re.compile(rb"\\(?:u([0-9A-Fa-f]{4})|(.))", re.DOTALL)
_LETTERS = dict.fromkeys([b"b", b"f", b"n", b"r", b"t"], b"\n")
_EXPONENT = re.compile(rb"(?<![0-9A-Za-z_.])[0-9]++(?:\.[0-9]++)?[eE][+-]?[0-9]++")


@dataclass(frozen=True, slots=True)
class Customers:
    """The user_ids of a run, and the generation of the object that lists them, None if the form has one."""

    ids: frozenset[int] = field(repr=False)
    generation: int | None


@dataclass(frozen=True, slots=True)
class Key:
    """What the user_ids of audit rows are hashed with; `name` is the secret's version, or the file's name."""

    name: str
    secret: bytes = field(repr=False)

    def hash(self, user_id: int) -> str:
        """HMAC-SHA256 of the user_id's digits, in hex."""
        return hmac.new(self.secret, str(user_id).encode(), hashlib.sha256).hexdigest()


def read_customers(
    client: Client, bucket: str, params: Mapping[str, Any], generation: int | None = None
) -> Customers:
    """Read whom a run is about from its form: `user_id`, or `customers`, an object with one user_id a line.

    Args:
        generation: of the object as the run has read it first.

    Raises:
        Refused: neither or both are given, one is no user_id, or the object is not there, has changed, or
            lists too many. The message names the line, and never what stands in it.
    """
    user_id, name = params["user_id"], params["customers"]
    if (user_id is None) == (name is None):
        raise Refused(
            "Give either user_id or customers, an object with one user_id a line; trigger it again."
        )
    if user_id is not None:
        number = _user_id(user_id)
        if number is None:
            raise Refused(f"user_id is no whole number from 0 to {INT64_MAX}; trigger it again.")
        return Customers(frozenset([number]), None)
    if not re.fullmatch(LIST_PATTERN, name):
        raise Refused(
            f"customers is {name!r}; give an object such as {FORGET}2019-11-08.txt, directly in {FORGET}."
        )
    return _read_list(client, bucket, name, generation)


def read_key(setting: str | None) -> Key:
    """Read the key of the audit rows: a version of a secret in Secret Manager, or a file.

    Raises:
        Refused: the setting names neither, or the key is shorter than MIN_KEY_BYTES.
    """
    if setting and (secret := _SECRET.fullmatch(setting)):
        # It takes seconds to import, which parsing a DAG file should not.
        from airflow.providers.google.cloud.hooks.secret_manager import GoogleCloudSecretManagerHook

        project, secret_id, version = secret.groups()
        answer = GoogleCloudSecretManagerHook().access_secret(
            project_id=project, secret_id=secret_id, secret_version=version, timeout=KEY_SECONDS
        )
        key = Key(answer.name, answer.payload.data.strip())
    elif setting and Path(setting).is_file():
        key = Key(Path(setting).name, Path(setting).read_bytes().strip())
    else:
        raise Refused(
            f"SHOPSTREAM_FORGET_KEY is {setting!r}; name a version of a secret, "
            "projects/<project>/secrets/<secret>/versions/latest, or a file."
        )
    if len(key.secret) < MIN_KEY_BYTES:
        raise Refused(
            f"SHOPSTREAM_FORGET_KEY: {key.name} holds {len(key.secret)} bytes, which can be guessed; make a "
            f"key of at least {MIN_KEY_BYTES}: openssl rand -hex 32"
        )
    return key


def spans(data: bytes, ids: Collection[int]) -> Iterator[tuple[int, int]]:
    """Yield where in `data` one of the ids stands as a whole number, however many zeros are around it.

    Not as a part of a longer number or word, nor of a time such as 2019-11-05 00:00:05.
    """
    if len(ids) <= FEW and not any(b"%d" % user_id in data for user_id in ids):
        return
    # Parsing a DAG file should not wait for it.
    import numpy as np

    wanted = np.array(sorted(ids), np.uint64)
    octets = np.frombuffer(data, np.uint8)
    digits = octets - np.uint8(ord("0"))
    edges = np.flatnonzero(np.diff(digits < 10, prepend=False, append=False))
    starts, ends = edges[::2], edges[1::2]
    lengths = ends - starts
    are_long = lengths >= len(str(min(ids)))
    starts, ends, lengths = starts[are_long], ends[are_long], lengths[are_long]
    values = np.zeros(len(starts), np.uint64)
    for place in range(MAX_DIGITS):
        # Of a shorter number the digit is that of another, and counts nothing.
        digit = digits[np.maximum(ends - 1 - place, 0)] * (place < lengths)
        values += digit.astype(np.uint64) * np.uint64(10**place)
    nearest = np.minimum(np.searchsorted(wanted, values), len(wanted) - 1)
    for number in np.flatnonzero(wanted[nearest] == values).tolist():
        start, end = int(starts[number]), int(ends[number])
        if data[start : max(end - MAX_DIGITS, start)].strip(b"0"):
            continue
        if found := _WHOLE.match(data, start):
            yield found.span()


def mentions(data: bytes, ids: Collection[int]) -> bool:
    """Tell whether one of the ids stands in `data` as a whole number; see `spans`."""
    return next(spans(data, ids), None) is not None


def is_told_of(said: Iterable[bytes], ids: Collection[int]) -> bool:
    """Tell whether one of the ids stands in what was said of a rejected line or message.

    In a JSON object also behind an escape, such as in "\\t520088904", by escapes, or with an exponent; the
    object may be cut off.
    """
    return any(
        mentions(text, ids) or (text.lstrip(_BEFORE_JSON).startswith(b"{") and mentions(_plain(text), ids))
        for text in said
    )


def is_theirs(line: bytes, columns: Sequence[str], ids: Collection[int]) -> bool:
    """Tell whether a line, in which one of the ids stands, is one of these customers'.

    It is by its user_id. A line that has none in its place, since it is not as the contract wants it, may
    be anybody's; it is taken for theirs.
    """
    try:
        fields = next(csv.reader([line.rstrip(b"\r\n").decode("latin-1")], strict=True))
    except (csv.Error, StopIteration):
        return True
    if len(fields) != len(columns):
        return True
    number = _WHOLE_NUMBER.fullmatch(fields[columns.index("user_id")])
    return number is None or int(number[1]) in ids


def _plain(json_text: bytes) -> bytes:
    """JSON without escapes and exponents."""
    return _EXPONENT.sub(_without_exponent, _ESCAPE.sub(_unescaped, json_text))


def _unescaped(found: re.Match[bytes]) -> bytes:
    code, letter = found.groups()
    # Of the letters each but these stands for itself.
    return chr(int(code, 16)).encode(errors="surrogatepass") if code else _LETTERS.get(letter, letter)


def _without_exponent(found: re.Match[bytes]) -> bytes:
    try:
        number = Decimal(found[0].decode())
        is_whole = number.adjusted() < MAX_DIGITS and number == number.to_integral_value()
    except InvalidOperation:  # Of an exponent of so many digits.
        return found[0]
    return b"%d" % number if is_whole else found[0]


def _read_list(client: Client, bucket: str, name: str, generation: int | None) -> Customers:
    uri = f"gs://{bucket}/{name}"
    blob = client.bucket(bucket).get_blob(name)
    if blob is None and generation is not None:
        raise Refused(
            f"{uri} is no longer there: a run deletes its list at its end, and cannot be run again then. "
            "Upload it and trigger a new run."
        )
    if blob is None:
        raise Refused(
            f"{uri} does not exist. Upload it, one user_id a line: {settings().uploading(bucket, name)}"
        )
    if generation is not None and blob.generation != generation:
        raise Refused(f"{uri} was written anew since this run has counted; trigger a run of its own for it.")
    if blob.size > MAX_LIST_BYTES:
        raise Refused(f"{uri} has {blob.size:,} bytes; a list has at most {MAX_LIST_BYTES:,}.")
    ids = set()
    for number, line in enumerate(blob.download_as_bytes().splitlines(), start=1):
        if text := line.strip():
            user_id = _user_id(text.decode(errors="replace"))
            if user_id is None:
                raise Refused(
                    f"{uri}: line {number} is no user_id, a whole number from 0 to {INT64_MAX}; correct it "
                    "and trigger the run again."
                )
            ids.add(user_id)
    if not 1 <= len(ids) <= MAX_CUSTOMERS:
        raise Refused(f"{uri} lists {len(ids):,} customers; give 1 to {MAX_CUSTOMERS:,} a run.")
    return Customers(frozenset(ids), blob.generation)


def _user_id(text: str) -> int | None:
    """The number that a text is, if it is one that a user_id may be."""
    if not re.fullmatch(USER_ID_PATTERN, text) or int(text) > INT64_MAX:
        return None
    return int(text)
