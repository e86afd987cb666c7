"""What kept rejects are by the contract as it is now, and what is told of them."""

from __future__ import annotations

import json
from datetime import date

import pytest

from beam_jobs.contract import COLUMN_NAMES, LATENESS_DAYS, MAX_LINE_BYTES
from beam_jobs.pseudonyms import masked
from shopstream.replay.judge import (
    CUT_OFF,
    MASKED,
    NO_FILE,
    PASSES,
    STORE,
    Kept,
    Tally,
    judge_lines,
    judge_messages,
)
from tests.bad_input import FIELDS, line

DAY = date(2019, 11, 1)
GOOD = line().removesuffix(b"\n")
BAD_PRICE = line(price="twelve").removesuffix(b"\n")


def kept(raw: bytes, reason: str = "bad_price", **given: object) -> Kept:
    return Kept("1", reason, raw, **given)  # type: ignore[arg-type]


def test_each_message_is_judged_as_the_stream_would_and_in_its_place() -> None:
    as_json = json.dumps(FIELDS).encode()
    messages = [
        kept(BAD_PRICE),
        kept(GOOD),
        kept(b"\xef\xbb\xbf" + GOOD + b"\r\n"),
        kept(GOOD + b"\n" + GOOD, "several_lines"),
        kept(as_json, "bad_json"),
        kept(b'{"colour": 1}', "bad_json"),
        kept(b""),
    ]
    assert judge_messages(messages) == [
        "bad_price",
        PASSES,
        PASSES,
        "several_lines",
        PASSES,
        "bad_json",
        "wrong_column_count",
    ]
    assert judge_messages([]) == []


def test_what_was_kept_masked_is_not_judged_and_is_no_event_of_anybody() -> None:
    assert judge_messages([kept(masked(GOOD)), kept(GOOD)]) == [MASKED, PASSES]
    assert judge_lines([kept(masked(GOOD)), kept(GOOD)], COLUMN_NAMES, DAY) == [MASKED, PASSES]


def test_what_was_not_kept_whole_is_not_judged_though_its_start_would_pass() -> None:
    assert judge_messages([kept(GOOD, is_whole=False)]) == [CUT_OFF]
    assert judge_lines([kept(GOOD, is_whole=False)], COLUMN_NAMES, DAY) == [CUT_OFF]


@pytest.mark.parametrize("reason", ["refused_by_bigquery", "refused_by_spanner"])
def test_what_a_store_refused_is_sent_only_if_its_reason_is_asked_for(reason: str) -> None:
    rejects = [kept(GOOD, reason), kept(GOOD)]
    assert judge_messages(rejects) == [STORE, PASSES]
    assert judge_lines(rejects, COLUMN_NAMES, DAY) == [STORE, PASSES]
    assert judge_messages(rejects[:1], reason) == [PASSES]
    assert judge_lines(rejects[:1], COLUMN_NAMES, DAY, reason) == [PASSES]


def test_lines_are_read_by_the_columns_of_their_file_and_for_their_landing_day() -> None:
    columns = tuple(reversed(COLUMN_NAMES))
    turned = ",".join(FIELDS[name] for name in columns).encode()
    late = date.fromordinal(DAY.toordinal() + LATENESS_DAYS + 1)
    rejects = [kept(turned), kept(GOOD), kept(turned + b"\r"), kept(b'"' + turned)]
    assert judge_lines(rejects, columns, DAY)[::2] == [PASSES, PASSES]
    assert judge_lines(rejects, columns, DAY)[3] == "bad_quoting"
    assert judge_lines(rejects, columns, DAY)[1] not in (PASSES, "")
    assert judge_lines(rejects[:1], columns, late) == ["too_late"]
    assert judge_lines(rejects[:1], None, DAY) == [NO_FILE]


def test_the_longest_lines_that_the_contract_takes_are_judged_whole() -> None:
    long = GOOD.replace(b"acme", b"a" * (MAX_LINE_BYTES - len(GOOD) + len(b"acme")))
    assert len(long) == MAX_LINE_BYTES
    assert judge_messages([kept(long), kept(GOOD)]) == ["too_long", PASSES]
    assert judge_lines([kept(long), kept(GOOD)], COLUMN_NAMES, DAY) == ["too_long", PASSES]


def test_a_tally_counts_by_reason_and_verdict_and_shows_of_a_line_the_shape_alone() -> None:
    rejects = [kept(GOOD), kept(BAD_PRICE), kept(BAD_PRICE, lines=40), kept(GOOD, "bad_integer")]
    tally, other = Tally(), Tally()
    tally.add(rejects[:2], [PASSES, "bad_price"])
    other.add(rejects[2:], ["bad_price", CUT_OFF])
    tally.merge(other)
    assert tally.verdicts == {"bad_price": {PASSES: 1, "bad_price": 41}, "bad_integer": {CUT_OFF: 1}}
    assert (tally.judged, tally.passed, tally.in_ranges) == (43, 1, 40)
    told = tally.told()
    assert told.startswith("Of 43, 1 would pass now.\n  bad_price: 1 of 42 would pass now\n")
    assert "cut_off (only the first bytes were kept, or none of a customer who was forgotten): 1" in told
    assert ", such as '9999-99-99 99:99:99 xxx," in told
    assert "40 of them are kept as ranges" in told
    for secret in (FIELDS["user_id"], FIELDS["user_session"]):
        assert secret not in told
