"""judge: what an export comes to, in words; the rules themselves are split's and the load's."""

from __future__ import annotations

from collections import Counter
from datetime import date, timedelta

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from beam_jobs.contract import COLUMN_NAMES, ContractError
from beam_jobs.lines import Block
from beam_jobs.parse import parse_block
from beam_jobs.validate import validate
from shopstream.landing import judge as door
from shopstream.landing.judge import Landed, fill_gaps, judge_lines, refuse_hopeless

PLACE = "gs://b/exports/e.csv"
DAY = date(2019, 11, 1)
EVENT = b"2019-11-01 00:00:00 UTC,view,1,2,a.b,sony,3.50,4,s-1\n"
BAD = [
    b"rubbish\n",
    EVENT.replace(b"3.50", b"-1"),
    EVENT.replace(b" UTC", b""),
    EVENT.replace(b"view", b"see"),
]


def test_the_door_rejects_what_the_load_rejects() -> None:
    data = EVENT + b"".join(BAD) + b"\n" + EVENT + b'"' + EVENT + EVENT.replace(b"2019", b"1999")
    lines = judge_lines(data, data, 0, COLUMN_NAMES, PLACE)
    fill_gaps(lines.days, 0, data, PLACE)
    landed = Landed()
    landed.add(lines)

    load = validate(parse_block(Block(data, 0), COLUMN_NAMES), DAY)
    assert landed.rows == {DAY: load.accepted.num_rows + load.rejected.num_rows}
    assert landed.rejected == {DAY: Counter(load.rejected["reason"].to_pylist())}


def test_a_block_without_an_event_is_refused_with_its_most_frequent_fault() -> None:
    data = b"".join([*BAD, BAD[2]])
    with pytest.raises(ContractError) as caught:
        refuse_hopeless(judge_lines(data, data, 0, COLUMN_NAMES, PLACE), PLACE)
    told = str(caught.value)
    assert told.startswith(f"{PLACE}: the load would reject each of its first 5 lines: time_without_zone 2, ")
    assert "event_time is '####-##-## ##:##:##'; expected a zone behind it" in told
    assert told.endswith("Nothing was landed. Correct the export and upload it again.")


def test_a_refused_export_shows_the_shape_of_its_lines_and_no_id_of_a_customer() -> None:
    shifted = b"512345678,1,view,7,2,a.b,sony,3.50,s-4711\n"
    lines = judge_lines(shifted, shifted, 0, COLUMN_NAMES, PLACE)
    with pytest.raises(ContractError, match=r"event_time is '#########'; expected ") as hopeless:
        refuse_hopeless(lines, PLACE)
    with pytest.raises(ContractError, match=r"the first starts '#########,#,xxxx,#,") as dayless:
        fill_gaps(lines.days, 0, shifted, PLACE)
    for told in (str(hopeless.value), str(dayless.value)):
        assert "512345678" not in told
        assert "4711" not in told


def test_shares_are_told_of_all_days_and_of_the_worst() -> None:
    days = [DAY + timedelta(days=n) for n in range(12)]
    landed = Landed(
        rows=Counter(dict.fromkeys(days, 100)),
        rejected={day: Counter(bad_price=n, too_late=1) for n, day in enumerate(days)},
    )
    told = landed.shares()
    assert told[0] == "78 of 1,200 lines (6.50%): bad_price 66, too_late 12"
    assert told[1] == "2019-11-12: 12 of 100 lines (12.00%): bad_price 11, too_late 1"
    assert told[10:] == ["2019-11-03: 3 of 100 lines (3.00%): bad_price 2, too_late 1", "and 2 days more"]
    assert Landed(rows=Counter({DAY: 1})).shares() == []
    half = Landed(rows=Counter({DAY: 800}), rejected={DAY: Counter(bad_price=1)})
    assert half.shares()[0] == "1 of 800 lines (0.13%): bad_price 1"


@given(
    st.lists(
        st.sampled_from(
            [EVENT, EVENT.replace(b"-01 ", b"-02 "), EVENT.replace(b"2019", b"1999"), b"\n", b"\r\n", *BAD]
        ),
        max_size=8,
    ).map(b"".join),
    st.sampled_from([b"", b"\r", b"\xef\xbb\xbf", EVENT[:-1]]),
)
def test_lines_that_are_all_rows_are_judged_as_if_they_were_looked_for(data: bytes, last: bytes) -> None:
    data += last
    assume(data)
    quick = judge_lines(data, data, 0, COLUMN_NAMES, PLACE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(door, "_are_gapless", lambda *_: False)
        slow = judge_lines(data, data, 0, COLUMN_NAMES, PLACE)
    assert quick.rejected == slow.rejected
    for name in ("starts", "days", "own_days", "is_row", "accepted", "rejected_lines"):
        assert getattr(quick, name).tolist() == getattr(slow, name).tolist()
    if quick.days.any():
        fill_gaps(quick.days, 0, data, PLACE)
        landed = Landed()
        landed.add(quick)
        days, rows = np.unique(quick.days[quick.is_row], return_counts=True)
        assert landed.rows == {door.as_date(int(day)): count for day, count in zip(days, rows, strict=True)}
