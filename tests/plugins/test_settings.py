"""The environment of a deployment: every value in its range."""

from __future__ import annotations

import pytest

from shopstream.settings import settings


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("SHOPSTREAM_KEEP_ALIVE_SECONDS", "4", "a whole number from 5 to 86,400"),
        ("SHOPSTREAM_KEEP_ALIVE_SECONDS", "10 minutes", "a whole number from 5 to 86,400"),
        ("SHOPSTREAM_KEEP_ALIVE_SECONDS", "7.5", "a whole number from 5 to 86,400"),
        ("SHOPSTREAM_STREAM_MAX_LAUNCHES", "0", "a whole number from 1 to 1,000"),
        ("SHOPSTREAM_STREAM_REJECTED_FAIL_SHARE", "10%", "a share from 0 to 1"),
        ("SHOPSTREAM_STREAM_REJECTED_FAIL_SHARE", "nan", "a share from 0 to 1"),
        ("SHOPSTREAM_NEWEST_ROW_WARN_SECONDS", "-1", "seconds from 1 to"),
        ("SHOPSTREAM_MAX_PUBLISH_GAP_SECONDS", "0", "seconds from 1 to"),
        ("SHOPSTREAM_EVENTS_KEEP_DAYS", "30", "give 0, for ever, or at least 60"),
        ("SHOPSTREAM_LATE_DAYS_HOURS", "0", "a whole number from 1 to 24"),
        ("SHOPSTREAM_LATE_DAYS_SHARE", "2", "a share from 0 to 1"),
        ("SHOPSTREAM_BYTES_LIMIT_TIMES", "0.5", "a number from 1 to 1,000"),
        ("SHOPSTREAM_JOB_LOOK_SECONDS", "0", "a whole number from 1 to 3,600"),
        ("SHOPSTREAM_BATCH_MAX_WORKERS", "1001", "a whole number from 1 to 1,000"),
        ("SHOPSTREAM_CURRENCY", "dollars", "three letters of ISO 4217"),
        ("SHOPSTREAM_UPLOAD_COMMAND", "cp FILE {path}", "{uri}, {bucket} and {name}"),
        ("SHOPSTREAM_UPLOAD_COMMAND", "cp FILE {", "{uri}, {bucket} and {name}"),
        ("SHOPSTREAM_PSEUDONYM_KEYS", "projects/p/secrets/s/versions/latest", "the newest first"),
        ("SHOPSTREAM_UNACKED_WARN_SECONDS", "3000", "a warn level that is not above the fail level"),
    ],
)
def test_a_setting_out_of_its_range_is_told_with_its_range(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, words: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ValueError) as raised:
        settings()
    assert name in str(raised.value)
    assert value in str(raised.value)
    assert words in str(raised.value)


def test_the_command_that_uploads_an_object_is_one_of_a_shell_whatever_its_name() -> None:
    assert settings().uploading("b", "a.csv") == "gcloud storage cp FILE gs://b/a.csv"
    assert settings().uploading("b", "it's.csv") == """gcloud storage cp FILE 'gs://b/it'"'"'s.csv'"""
