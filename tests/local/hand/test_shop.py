"""A file landed by hand as all of a landing day."""

from __future__ import annotations

import gzip
from collections import Counter
from datetime import date, timedelta
from pathlib import Path

import pytest
from google.cloud.storage import Bucket

from beam_jobs.contract import COLUMN_NAMES, ContractError
from beam_jobs.lines import Block
from beam_jobs.parse import parse_block
from beam_jobs.validate import check
from local.hand import shop
from local.stack.emulators import NotReady
from shopstream.settings import settings
from tests.bad_input import EVENT, HEADER, line

DAY = date(2019, 11, 1)
FOLDER = f"landing/events/{DAY}/"


def written(file: Path, content: bytes) -> Path:
    file.write_bytes(content)
    return file


@pytest.mark.integration
def test_a_file_is_landed_as_it_is_as_all_of_a_day_and_again_in_place_of_itself(
    bucket: Bucket, tmp_path: Path
) -> None:
    # An event of the day before is late, and still of this landing day.
    content = HEADER + EVENT + line(event_time="2019-10-31 08:00:00 UTC")
    file = written(tmp_path / "a.csv", content)
    for in_place in ("", ", in place of the one there"):
        assert shop.land_day(bucket, file, DAY, shop.look(file)) == [
            f"landed as gs://{bucket.name}/{FOLDER}a.csv{in_place}, and the day marked complete"
        ]
    assert [blob.name for blob in bucket.list_blobs()] == [f"{FOLDER}_SUCCESS", f"{FOLDER}a.csv"]
    assert bucket.blob(f"{FOLDER}a.csv").download_as_bytes() == content


@pytest.mark.integration
def test_what_would_make_another_day_of_it_is_refused(bucket: Bucket, tmp_path: Path) -> None:
    file = written(tmp_path / "a.csv", HEADER + EVENT)
    landed = shop.look(file)
    with pytest.raises(ContractError, match=r"a\.zip: a landing day has files \*\.csv and \*\.csv\.gz"):
        shop.land_day(bucket, tmp_path / "a.zip", DAY, landed)
    tabs = written(tmp_path / "tabs.csv", (HEADER + EVENT).replace(b",", b"\t"))
    with pytest.raises(ContractError, match=r"tabs\.csv: with DAY= a file is landed as it is, and this one"):
        shop.land_day(bucket, tabs, DAY, shop.look(tabs))
    bucket.blob(f"{FOLDER}theirs.csv").upload_from_string(EVENT)
    with pytest.raises(
        ContractError, match=r"holds other files, .*theirs\.csv\. To delete them: REPLACE=1\."
    ):
        shop.land_day(bucket, file, DAY, landed)
    assert [blob.name for blob in bucket.list_blobs()] == [f"{FOLDER}theirs.csv"]


@pytest.mark.integration
def test_a_day_is_one_file_alone_if_it_is_to_replace_the_others_and_no_other_day_loses_any(
    bucket: Bucket, tmp_path: Path
) -> None:
    file = written(tmp_path / "a.csv", HEADER + EVENT)
    another_day = "landing/events/2019-11-02/theirs-00000.csv"
    for name in (f"{FOLDER}theirs-00000.csv", f"{FOLDER}_SUCCESS", another_day):
        bucket.blob(name).upload_from_string(EVENT)
    assert shop.land_day(bucket, file, DAY, shop.look(file), replace=True) == [
        f"deleted gs://{bucket.name}/{FOLDER}theirs-00000.csv",
        f"landed as gs://{bucket.name}/{FOLDER}a.csv, and the day marked complete",
    ]
    assert [blob.name for blob in bucket.list_blobs()] == [f"{FOLDER}_SUCCESS", f"{FOLDER}a.csv", another_day]


@pytest.mark.integration
def test_an_upload_that_fails_loses_no_file_of_the_day_that_it_was_to_replace(
    bucket: Bucket, tmp_path: Path
) -> None:
    for name in ("theirs.csv", "_SUCCESS"):
        bucket.blob(FOLDER + name).upload_from_string(EVENT)
    file = written(tmp_path / "a.csv", HEADER + EVENT)
    landed = shop.look(file)
    file.unlink()
    with pytest.raises(FileNotFoundError):
        shop.land_day(bucket, file, DAY, landed, replace=True)
    assert [blob.name for blob in bucket.list_blobs()] == [f"{FOLDER}theirs.csv"]


@pytest.mark.integration
def test_a_day_that_holds_files_of_other_names_is_told_before_another_is_landed_beside_them(
    bucket: Bucket, tmp_path: Path
) -> None:
    file = written(tmp_path / "my.csv.gz", gzip.compress(HEADER + EVENT))
    landed = shop.look(file)
    for own in ("my-00000.csv", "my-00001.csv", "_SUCCESS"):
        bucket.blob(FOLDER + own).upload_from_string(EVENT)
    bucket.blob("landing/events/2019-11-02/theirs-00000.csv").upload_from_string(EVENT)
    assert shop.neighbours(bucket, file, landed) == []
    for other in ("theirs-00000.csv", "my.csv"):
        bucket.blob(FOLDER + other).upload_from_string(EVENT)
    holds = "2019-11-01 already holds my.csv, theirs-00000.csv; this adds to it. "
    assert shop.neighbours(bucket, file, landed, " ENV=small PROJECT=a") == [
        f"{holds}To have the day hold this file alone: "
        "make put FILE=... DAY=2019-11-01 REPLACE=1 ENV=small PROJECT=a"
    ]
    of_two_days = written(tmp_path / "my.csv", HEADER + EVENT + line(event_time="2019-11-03 08:00:00 UTC"))
    tabs = written(tmp_path / "my.csv.tsv", (HEADER + EVENT).replace(b",", b"\t"))
    bucket.blob(f"{FOLDER}my.csv").delete()
    for export in (of_two_days, tabs):
        [told] = shop.neighbours(bucket, export, shop.look(export))
        assert told.endswith("To replace what another file has landed, use that file's name.")


def test_what_is_in_a_file_is_told_in_words(tmp_path: Path) -> None:
    one = shop.describe(shop.look(written(tmp_path / "a.csv", HEADER + EVENT)))
    assert one == ["1 row of 1 day: 2019-11-01 (1 row)"]
    bad = shop.describe(shop.look(written(tmp_path / "a.csv", HEADER + EVENT * 9 + line(price="free"))))
    assert bad[0] == "10 rows of 1 day: 2019-11-01 (10 rows)"
    assert bad[1] == "the load will reject 1 of 10 lines (10.00%): bad_price 1"
    days = "".join(line(event_time=f"2019-11-{day:02d} 08:00:00 UTC").decode() for day in range(1, 11))
    [many] = shop.describe(shop.look(written(tmp_path / "a.csv", HEADER + days.encode())))
    assert many.endswith("2019-11-08 (1 row) and 2 more")


@pytest.mark.integration
@pytest.mark.usefixtures("bigquery_tables", "spanner_database", "bucket")
def test_a_question_to_bigquery_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOPSTREAM_PROJECT", settings().project)
    assert shop.ask_bigquery("WITH one AS (SELECT 1 AS n) SELECT n FROM one")[0] == ["n"]
    for changing in ("DELETE FROM shop.daily_event_count WHERE TRUE", "SELECT 1; DROP TABLE shop.sessions"):
        with pytest.raises(NotReady, match="This only reads"):
            shop.ask_bigquery(changing)


@pytest.mark.parametrize("days_off", [-1, 0, 6, 7, 8])
def test_a_file_that_is_to_be_all_of_a_day_is_told_rejected_as_the_load_of_that_day_rejects_it(
    days_off: int, tmp_path: Path
) -> None:
    late = line(event_time="2019-10-31 08:00:00 UTC")
    content = HEADER + EVENT * 2 + late * 2 + line(price="free")
    day = DAY + timedelta(days=days_off)
    told = shop.describe(shop.look(written(tmp_path / "a.csv", content)), day)
    judged = check(parse_block(Block(content.removeprefix(HEADER), 0), COLUMN_NAMES), day).rejected
    reasons = Counter(judged["reason"].to_pylist()).most_common()
    counts = ", ".join(f"{reason} {count}" for reason, count in reasons)
    share = f"{len(judged)} of 5 lines ({len(judged) / 5:.2%}): {counts}"
    assert told[1:] == [f"the load will reject {share}", f"the load will reject {day}: {share}"]


def test_a_file_without_a_line_to_reject_is_told_so_of_its_day_too(tmp_path: Path) -> None:
    landed = shop.look(written(tmp_path / "a.csv", HEADER + EVENT))
    assert shop.describe(landed, DAY) == ["1 row of 1 day: 2019-11-01 (1 row)"]


def test_a_day_with_so_many_lines_to_reject_that_its_load_will_ask_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHOPSTREAM_MAX_REJECTED_SHARE", "0.1")
    bad, next_day = line(price="free"), {"event_time": "2019-11-02 08:00:00 UTC"}
    content = HEADER + EVENT * 8 + bad * 2 + line(**next_day) * 9 + line(**next_day, price="free")
    landed = shop.look(written(tmp_path / "a.csv", content))
    assert shop.to_be_asked(landed) == [
        "above 10.00%, so that the load will ask you whether to publish the day: 2019-11-01"
    ]
    assert shop.to_be_asked(shop.as_day(landed, DAY - timedelta(days=1))) == [
        "not a line to accept, so that the load will refuse the day: 2019-10-31"
    ]
