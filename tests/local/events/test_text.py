"""The lines of events, good and bad."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pyarrow.compute as pc

from beam_jobs import contract
from beam_jobs.lines import Block
from beam_jobs.parse import parse_block
from beam_jobs.validate import validate
from local.events.day import generate_day
from local.events.sessions import Events
from local.events.text import HEADER, event_lines
from tests.local.events.frames import DAY, SEED, counts_of


def test_the_line_of_an_event_without_session_ends_after_a_comma() -> None:
    # Ten of 67.5 million events have none: too few to meet here, so one is made.
    whole, name = np.zeros(1, np.int64), np.zeros(1, np.uint64)
    events = Events(whole, whole, whole, whole, name, name, whole)
    (line,) = event_lines(DAY, events).to_pylist()

    assert line.startswith("2019-11-02 00:00:00 UTC,view,")
    assert line.endswith(",0,\n")


def test_bad_rows_are_as_many_as_asked_for_over_all_reasons_that_a_file_can_earn() -> None:
    counts = counts_of(generate_day(DAY, 20_000, SEED, bad_share=0.003))

    assert counts["rejected"] == 60
    not_in_files = {"bad_json", "several_lines", "refused_by_spanner", "refused_by_bigquery"}
    assert set(counts["rejected_by_reason"]) == set(contract.REASONS) - not_in_files
    assert counts["accepted"] + counts["rejected"] == counts["rows"] == 20_000
    assert counts["distinct"] + counts["duplicates"] == counts["accepted"]


def test_each_bad_row_is_rejected_for_the_reason_that_it_was_made_for() -> None:
    chunks = list(generate_day(DAY, 20_000, SEED, late_share=0.01, bad_share=0.03))
    text = b"".join(chunk.csv for chunk in chunks).removeprefix(HEADER)
    judged = validate(parse_block(Block(text, 0), contract.COLUMN_NAMES), DAY)

    counts = counts_of(iter(chunks))
    assert Counter(judged.rejected["reason"].to_pylist()) == counts["rejected_by_reason"]
    assert len(judged.accepted) == counts["accepted"]
    assert pc.count_distinct(judged.accepted["event_id"]).as_py() == counts["distinct"]
    assert sum(day < DAY for day in judged.accepted["event_date"].to_pylist()) == counts["late"]
