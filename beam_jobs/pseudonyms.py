"""Keyed hashes in place of user_id and user_session, for stores that shall not hold customers' own ids.

They are made where events are judged, by one function for batch and stream, before the event's id is. So the
same customer is the same pseudonym by both ways, and whatever is made of events knows no other. Of a rejected
line nobody can tell for certain where its ids stand: it is kept masked as a whole.
"""

from __future__ import annotations

import argparse
import hmac
import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa

MIN_KEY_BYTES = 32
KEY_SECONDS = 60.0
KEY_FORM = (
    "a numbered version of a secret, projects/<project>/secrets/<secret>/versions/1, or the absolute path "
    "of a file"
)

# Not `latest`: workers of a load that read it before and after a new version would make two customers of one.
_SECRET = re.compile(r"projects/[^/,]+/secrets/[^/,]+/versions/[1-9][0-9]*")
_FILE = re.compile(r"/[^,]+")
_MASK = bytes(
    ord("#") if chr(octet).isdecimal() else ord("x") if octet > 127 or chr(octet).isalpha() else octet
    for octet in range(256)
)
_ONE_QUOTED = r"""(?:'(?:[^'\\]|\\.?)*(?:'|\Z)|"(?:[^"\\]|\\.?)*(?:"|\Z))"""
"""Of a detail, as repr quotes it; to the end where it is cut off."""
_QUOTED = re.compile(rf"""{_ONE_QUOTED}(?:[^'"]*{_ONE_QUOTED})*""", re.DOTALL)
"""From the first to the last: behind an apostrophe, what is outside of a pair of marks is the value."""


class PseudonymKeyError(RuntimeError):
    """A key cannot be read, or is none; the message says which, and what to do."""


class Pseudonyms:
    """The pseudonyms that one key makes."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def user(self, user_id: int) -> int:
        """Return the pseudonym of a user_id, a whole number as it is: 63 bits of HMAC-SHA256 of its digits.

        Of 5 million customers, two have the same pseudonym once in 700,000 shops.
        """
        return int.from_bytes(self._digest("user_id", str(user_id))[:8], "big") >> 1

    def session(self, user_session: str) -> str:
        """Return the pseudonym of a user_session, 128 bits of HMAC-SHA256 of its text as a UUID."""
        digits = self._digest("user_session", user_session)[:16].hex()
        return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"

    def users(self, user_ids: pa.Int64Array) -> pa.Int64Array:
        """Return the pseudonym of each user_id; each different one is hashed once."""
        # It takes a while to import, which whoever only reads settings should not.
        import pyarrow as pa

        ids = user_ids.dictionary_encode()
        return pa.array(map(self.user, ids.dictionary.to_pylist()), pa.int64()).take(ids.indices)

    def sessions(self, user_sessions: pa.StringArray) -> pa.StringArray:
        """Return the pseudonym of each user_session; null stays null."""
        import pyarrow as pa

        texts = user_sessions.dictionary_encode()
        return pa.array(map(self.session, texts.dictionary.to_pylist()), pa.string()).take(texts.indices)

    def _digest(self, column: str, text: str) -> bytes:
        return hmac.digest(self._key, f"{column}\x1f{text}".encode(), "sha256")


def check_key_name(text: str) -> str:
    """Return the name of a key as it is.

    Raises:
        ValueError: it is not of KEY_FORM.
    """
    if not (_SECRET.fullmatch(text) or _FILE.fullmatch(text)):
        raise ValueError(f"{text!r} names no key; give {KEY_FORM}")
    return text


def add_key_option(parser: argparse.ArgumentParser) -> None:
    """Add the option of a job that names the key."""

    def key_name(text: str) -> str:
        try:
            return check_key_name(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    parser.add_argument(
        "--pseudonym_key",
        type=key_name,
        help=f"What user_id and user_session are hashed with before they are written: {KEY_FORM}. Without it "
        "they are written as they are.",
    )


@cache
def pseudonyms_by(key_name: str | None) -> Pseudonyms | None:
    """Read a key, once in a process; None where no key is named, and ids stay as they are.

    Args:
        key_name: as `check_key_name` takes it.

    Raises:
        PseudonymKeyError: there is no such file, or the key is too short or damaged.
        google.api_core.exceptions.GoogleAPICallError: Secret Manager does not give it.
    """
    if key_name is None:
        return None
    key = _stored(key_name).strip()
    if len(key) < MIN_KEY_BYTES:
        raise PseudonymKeyError(
            f"{key_name} holds {len(key)} bytes, which can be guessed; make a key of at least "
            f"{MIN_KEY_BYTES}: openssl rand -hex 32"
        )
    return Pseudonyms(key)


def masked(raw: bytes) -> bytes:
    """Return a line for everybody to see: each digit as #, each letter as x, and the same length."""
    return raw.translate(_MASK)


def is_masked(raw: bytes) -> bool:
    """Tell whether a line may have been masked; then it is no event, for it has no digit."""
    return b"#" in raw and masked(raw) == raw


def masked_detail(detail: str) -> str:
    """Return why a line was rejected, with what it quotes of the line masked."""
    return _QUOTED.sub(lambda quoted: masked(quoted[0].encode()).decode(), detail)


def _stored(key_name: str) -> bytes:
    if not _SECRET.fullmatch(key_name):
        try:
            return Path(key_name).read_bytes()
        except OSError as error:
            raise PseudonymKeyError(
                f"{key_name} cannot be read: {error.strerror}. Name {KEY_FORM}."
            ) from error
    # Who has no such key need not load it.
    import google_crc32c
    from google.cloud.secretmanager import SecretManagerServiceClient

    payload = (
        SecretManagerServiceClient()
        .access_secret_version(request={"name": key_name}, timeout=KEY_SECONDS)
        .payload
    )
    # Another key would make another customer of each.
    if google_crc32c.value(payload.data) != payload.data_crc32c:
        raise PseudonymKeyError(f"{key_name} came damaged; try again.")
    return bytes(payload.data)
