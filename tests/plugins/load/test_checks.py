"""When a load is complete, and what is said when it is not."""

from __future__ import annotations

import base64
import json
import re
from dataclasses import replace
from datetime import date
from typing import Any

import pytest
from google.cloud.storage import Bucket

from beam_jobs.manifest import Manifest
from shopstream.load import checks
from shopstream.load.checks import LoadRefused
from shopstream.load.held import Held
from tests.plugins.load.landed import manifest_of

DAY = date(2019, 11, 8)
LOAD_ID = "20191108-00000002"


def manifest(**changes: Any) -> Manifest:
    counters: dict[str, Any] = {
        "read": 1000,
        "accepted": 990,
        "rejected": 10,
        "distinct": 980,
        "duplicates": 10,
        "rejected_by_reason": {"bad_price": 3, "too_late": 7},
    }
    return replace(manifest_of(DAY, LOAD_ID), **counters | changes)


def test_counters_that_add_up_pass() -> None:
    checks.check_counters(manifest())


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"read": 1001}, "read is 1,001, but accepted + rejected = 990 + 10 = 1,000"),
        ({"rejected": 9}, "read is 1,000, but accepted + rejected = 990 + 9 = 999"),
        ({"distinct": 981}, "accepted is 990, but distinct + duplicates = 981 + 10 = 991"),
    ],
)
def test_counters_that_do_not_add_up_are_refused_with_the_numbers(
    changes: dict[str, int], words: str
) -> None:
    with pytest.raises(LoadRefused) as caught:
        checks.check_counters(manifest(**changes))
    assert f"landing day 2019-11-08, load {LOAD_ID}: {words}" in str(caught.value)


def test_a_day_of_bad_lines_alone_is_refused_and_not_told_that_good_rows_are_in_spanner() -> None:
    checks.check_accepted(manifest(), "")
    checks.check_accepted(manifest(read=0, accepted=0, rejected=0), "")
    with pytest.raises(LoadRefused, match="every one of its 9 lines was rejected") as caught:
        checks.check_accepted(manifest(read=9, accepted=0, rejected=9), "  bad_price: 9")
    assert ":\n  bad_price: 9\n" in str(caught.value)
    assert "nothing of it is in Spanner" in str(caught.value)


def test_every_reason_is_named_with_its_count_and_the_five_most_frequent_in_lines_of_their_own() -> None:
    reasons = {"a": 1, "b": 5, "c": 5, "d": 4, "e": 3, "f": 2, "g": 1}
    assert checks.describe_rejected(manifest(rejected_by_reason=reasons), {}).splitlines() == [
        "  b: 5",
        "  c: 5",
        "  d: 4",
        "  e: 3",
        "  f: 2",
        "  and 2 more: a 1, g 1",
    ]


def rejected_line(reason: str, offset: int, raw: bytes) -> dict[str, Any]:
    return {
        "reason": reason,
        "file": "gs://b/landing/events/2019-11-08/e.csv",
        "byte_offset": offset,
        "place": f"gs://b/landing/events/2019-11-08/e.csv line 7 (byte {offset:,})",
        "detail": f"why {reason}.",
        "raw": base64.b64encode(raw).decode(),
    }


def test_a_reason_is_shown_with_a_line_its_file_and_its_place() -> None:
    samples = {"bad_price": rejected_line("bad_price", 12_345, b"2019,\xffview" + b"x" * 500)}
    [late, price] = checks.describe_rejected(manifest(), samples).splitlines()
    assert late == "  too_late: 7"
    assert price.startswith(
        "  bad_price: 3, such as gs://b/landing/events/2019-11-08/e.csv line 7 (byte 12,345): why bad_price. "
        "The line is '9999,\ufffdxxxxxxx"
    )
    assert len(price) < 320


LINE = "2019-11-08 10:00:00 UTC,view,1003461,2053013555631882655,a.b,xiaomi,{price},{user_id},{session}"
CUSTOMER = {"user_id": "520088904", "session": "4d3b30da-a5e4-49df-b1a8-ba5943f1dd33"}


@pytest.mark.parametrize(
    ("raw", "detail", "shown"),
    [
        (
            LINE.format(price="free", **CUSTOMER),
            "price is 'free'; expected a number.",
            "price is 'free'; expected a number. The line is '9999-99-99 99:99:99 xxx,xxxx,9999999,"
            "9999999999999999999,x.x,xxxxxx,xxxx,999999999,9x9x99xx-",
        ),
        (
            "520088904,4d3b30da-a5e4-49df-b1a8-ba5943f1dd33,2019-11-08 10:00:00 UTC,view,1,2,a.b,acme,free",
            "price is 'free'; expected a number.",
            "price is 'free'; expected a number. The line is '999999999,9x9x99xx-",
        ),
        (
            LINE.format(price="1", user_id="'520088904'\"x", session="a@b.example"),
            "user_id is '\\'520088904\\'\"x'; expected a whole number from 0 to 9.",
            "user_id is '\\'999999999\\'\"x'; expected a whole number from 0 to 9. The line is",
        ),
        (
            "520088904;" + LINE.format(price="1", **CUSTOMER).replace(",", ";"),
            "The line has 1 fields; it should have 9.",
            "it should have 9. The line is '999999999;9999-99-99 99:99:99 xxx;",
        ),
        (
            LINE.format(price='"1', **CUSTOMER),
            "A double quote is not closed or is inside a plain field: '2019,520088904'.",
            "plain field: '9999,999999999'. The line is '9999-99-99 99:99:99 xxx,",
        ),
        (
            LINE.format(price="1", **CUSTOMER) + ",520088904",
            "23 more lines, from here to byte 9. The first: user_session is '520088904'; expected.",
            "23 more lines, from here to byte 9. The first: user_session is '999999999'; expected. The",
        ),
    ],
)
def test_what_is_shown_of_a_rejected_line_tells_of_no_customer(raw: str, detail: str, shown: str) -> None:
    sample = rejected_line("bad_price", 0, raw.encode()) | {"detail": detail}
    told = checks.describe_rejected(manifest(rejected_by_reason={"bad_price": 3}), {"bad_price": sample})
    assert shown in told
    assert not any(words in told for words in ("520088904", "a@b.example", "4d3b30da"))


def test_stores_that_hold_each_distinct_event_once_pass() -> None:
    checks.check_stores(manifest(), Held(980, 7), Held(980, 7))


def test_stores_that_hold_as_many_but_other_events_are_refused() -> None:
    with pytest.raises(LoadRefused, match="hold 980 events each, but not the same ones"):
        checks.check_stores(manifest(), Held(980, 7), Held(980, 8))


def test_a_store_with_rows_of_another_load_is_refused_by_its_name() -> None:
    mine, other = Held(980, 7), Held(1, 1)
    assert checks.of_this_load(manifest(), {LOAD_ID: mine}) == mine
    assert checks.of_this_load(manifest(), {}) == Held.nothing()
    for load_id, age in (("20191108-00000001", "an older"), ("20191108-t20191109", "a newer")):
        with pytest.raises(LoadRefused, match=f"{age} load, {load_id}"):
            checks.of_this_load(manifest(), {LOAD_ID: mine, load_id: other})


@pytest.mark.parametrize(("spanner", "bigquery"), [(979, 980), (980, 981), (0, 0)])
def test_stores_that_do_not_are_refused_with_all_numbers(spanner: int, bigquery: int) -> None:
    with pytest.raises(LoadRefused) as caught:
        checks.check_stores(manifest(), Held(spanner, 7), Held(bigquery, 7))
    assert (
        f"the load has 980 distinct events, but Spanner holds {spanner:,} ({spanner - 980:+,}) of its "
        f"rows and BigQuery {bigquery:,} ({bigquery - 980:+,})"
    ) in str(caught.value)


@pytest.mark.parametrize("kept", [{}, {LOAD_ID: 9}, {LOAD_ID: 11}, {LOAD_ID: 10, "20191108-00000001": 1}])
def test_rejected_lines_that_are_not_all_kept_are_refused(kept: dict[str, int]) -> None:
    checks.check_rejected_kept(manifest(), {LOAD_ID: 10})
    checks.check_rejected_kept(manifest(rejected=0), {})
    with pytest.raises(LoadRefused, match="10 lines were rejected, but rejected_events_batch holds"):
        checks.check_rejected_kept(manifest(), kept)


@pytest.mark.integration
class TestOnCloudStorage:
    """What is read of a load's files."""

    def test_the_manifest_is_read_from_its_uri(self, bucket: Bucket) -> None:
        bucket.blob("loads/a.json").upload_from_string(manifest().to_json())
        assert checks.read_manifest(bucket.client, f"gs://{bucket.name}/loads/a.json") == manifest()

    def test_a_missing_manifest_says_what_to_do(self, bucket: Bucket) -> None:
        with pytest.raises(LoadRefused, match=r"does not exist, .* clear the run from launch_load on"):
            checks.read_manifest(bucket.client, f"gs://{bucket.name}/loads/none.json")

    def test_one_line_of_each_frequent_reason_is_shown_by_file_line_and_offset(self, bucket: Bucket) -> None:
        bucket.blob("e.csv").upload_from_string("a\nthird\n")
        file = f"gs://{bucket.name}/e.csv"
        files = {
            "rejected/0.jsonl": [
                rejected_line("too_late", 0, b"first"),
                rejected_line("too_late", 9, b"second"),
            ],
            "rejected/1.jsonl": [
                rejected_line("bad_price", 2, b"third") | {"file": file},
                rejected_line("rare", 7, b"x"),
            ],
        }
        for name, lines in files.items():
            bucket.blob(name).upload_from_string("".join(json.dumps(line) + "\n" for line in lines))
        uris = [f"gs://{bucket.name}/{name}" for name in files]
        told = checks.rejected_reasons(bucket.client, manifest(rejected_files=tuple(uris)))
        assert re.findall(r"(\w+): \d, such as (.*?): why", told) == [
            ("too_late", "gs://b/landing/events/2019-11-08/e.csv at byte 0"),
            ("bad_price", f"{file} line 2 (byte 2)"),
        ]

    def test_a_newer_load_of_the_day_refuses_this_one(self, bucket: Bucket) -> None:
        older, newer = (f"gs://{bucket.name}/loads/{DAY}/{name}.json" for name in ("1-older", "9-newer"))
        for uri in (older, newer):
            bucket.blob(uri.partition(f"{bucket.name}/")[2]).upload_from_string("{}")
        checks.check_newest(bucket.client, newer, [])
        with pytest.raises(LoadRefused, match=r"9-newer\.json is a newer load of the same day"):
            checks.check_newest(bucket.client, older, [])
        with pytest.raises(LoadRefused, match="Dataflow job 2019-x loads the same day anew"):
            checks.check_newest(bucket.client, newer, [{"id": "2019-x"}])
