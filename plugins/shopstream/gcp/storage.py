"""Objects of Cloud Storage, read as one state of them."""

# Google's libraries take long to import, which parsing a DAG file should not: so functions import them.
from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from beam_jobs.contract import ContractError
from shopstream.settings import settings

if TYPE_CHECKING:
    from google.cloud.storage import Bucket


@contextmanager
def open_object(
    bucket: Bucket, name: str, *, chunk_bytes: int
) -> Iterator[tuple[io.BufferedIOBase, str | None]]:
    """Open an object; gives its bytes as they are stored, seekable, and its content encoding.

    All of it is read from the generation that was there at first, however often it is written meanwhile.

    Args:
        chunk_bytes: how much a request reads.

    Raises:
        ContractError: there is no such object, or it is written anew or deleted while it is read.
    """
    from google.api_core.exceptions import NotFound

    uri = f"gs://{bucket.name}/{name}"
    blob = bucket.get_blob(name)
    if blob is None:
        raise ContractError(f"{uri} does not exist. Upload it: {settings().uploading(bucket.name, name)}")
    try:
        # Raw, for the sizes and ranges of an object with an encoding are those of what is stored.
        with blob.open("rb", chunk_size=chunk_bytes, raw_download=True) as stored:
            yield stored, blob.content_encoding
    except NotFound as error:
        if blob.exists():  # So it is something else that was not found.
            raise
        raise ContractError(
            f"{uri} was written anew or deleted while it was read. Once it is whole, run this again."
        ) from error
