"""An object is read as one state of it, or refused by name."""

from __future__ import annotations

import io

import pytest
from google.api_core.exceptions import NotFound
from google.cloud.storage import Bucket

from beam_jobs.contract import ContractError
from shopstream.gcp.storage import open_object

pytestmark = pytest.mark.integration


def test_an_object_is_read_as_it_is_stored(bucket: Bucket) -> None:
    blob = bucket.blob("a.csv")
    blob.content_encoding = "gzip"
    blob.upload_from_string(b"stored")
    with open_object(bucket, "a.csv", chunk_bytes=4) as (stored, encoding):
        assert (stored.read(), encoding) == (b"stored", "gzip")
        assert stored.seek(-2, io.SEEK_END) == 4


def test_an_object_that_is_not_there_is_refused_by_name_with_the_command_that_uploads_it(
    bucket: Bucket,
) -> None:
    with (
        pytest.raises(ContractError, match=r"gs://\S+/a\.csv does not exist\. Upload it: gcloud storage cp"),
        open_object(bucket, "a.csv", chunk_bytes=4),
    ):
        pass


def test_what_else_is_not_found_is_not_taken_for_the_object(bucket: Bucket) -> None:
    bucket.blob("a.csv").upload_from_string(b"stored")
    with (
        pytest.raises(NotFound, match="something else"),
        open_object(bucket, "a.csv", chunk_bytes=4),
    ):
        raise NotFound("something else")
