"""What a changed contract would do, told by judging what the stores keep with another copy of beam_jobs."""

from __future__ import annotations

import datetime as dt
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from google.cloud import bigquery as bigquery_api
from google.cloud.storage import Bucket

from beam_jobs.contract import COLUMN_NAMES, EVENT_TYPES
from local.hand import __main__ as hand
from local.hand import whatif
from local.root import ROOT
from shopstream.replay.judge import PASSES, judge_raws
from shopstream.settings import settings
from tests.bad_input import HEADER, line
from tests.sql.events import fill

DAY = dt.date(2019, 11, 8)
SECRET_USER, SECRET_SESSION = "520088904", "4d3b30da-a5e4-49df-b1a8-ba5943f1dd33"

ACCEPTED = [
    {"price": "999.99"},
    {"price": "1000", "user_id": SECRET_USER, "user_session": SECRET_SESSION},
    {"brand": "nan"},
    {"brand": '"rot, ""weiß"" & grün"', "event_time": "2019-11-07 23:59:59.25 UTC"},
    {"brand": "", "category_code": "", "user_session": "", "price": "0"},
]


def of_day(**changes: str) -> bytes:
    return line(**{"event_time": f"{DAY} 08:00:00 UTC"} | changes).removesuffix(b"\n")


def stored(**changes: str) -> dict[str, Any]:
    """The row of events_batch that a line is, by the contract as it is."""
    [(verdict, event)] = judge_raws([of_day(**changes)], COLUMN_NAMES, DAY)
    assert verdict == PASSES
    return {**event, "landing_day": DAY, "load_id": "20191108-t00000000"}


def kept(source: str, reason: str, raw: bytes, **given: Any) -> dict[str, Any]:
    return {
        "source": source,
        "rejected_date": DAY,
        "raw": raw,
        "line_bytes": len(raw),
        "reason": reason,
        "detail": "as it was",
        "rejected_at": dt.datetime(2019, 11, 9, tzinfo=dt.UTC),
        "lines": 1,
        **given,
    }


@pytest.fixture
def shop(bigquery_tables: bigquery_api.Client, bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stores with what loads and the stream have accepted and rejected."""
    # Nobody asks Spanner.
    monkeypatch.setenv("SPANNER_EMULATOR_HOST", "localhost:1")
    monkeypatch.setenv("SHOPSTREAM_PROJECT", settings().project)
    bucket.blob("landing/events/a.csv").upload_from_string(HEADER)
    of_load = {"load_id": "20191108-t00000000", "file": f"gs://{bucket.name}/landing/events/a.csv"}
    removed, free = of_day(event_type="remove"), of_day(price="free")
    fill(bigquery_tables, "shop_raw.events_batch", [stored(**changes) for changes in ACCEPTED])
    fill(
        bigquery_tables,
        "shop_raw.rejected_events_batch",
        [kept("batch", "bad_event_type", removed, **of_load), kept("batch", "bad_price", free, **of_load)],
    )
    fill(
        bigquery_tables,
        "shop_raw.rejected_events_stream",
        [kept("stream", "bad_event_type", removed, message_id="1")],
    )


def tell_by(contract: dict[str, str], folder: Path, *arguments: str) -> list[str]:
    """What a process tells whose beam_jobs has another contract: texts of contract.py, and what instead."""
    shutil.copytree(ROOT / "beam_jobs", folder / "beam_jobs")
    file = folder / "beam_jobs" / "contract.py"
    text = file.read_text(encoding="utf-8")
    for old, new in contract.items():
        assert old in text
        text = text.replace(old, new)
    file.write_text(text, encoding="utf-8")
    script = (
        "import datetime as dt, sys\n"
        "from local.hand import whatif\n"
        f"for line in whatif.tell(dt.date(2019, 11, 7), dt.date(2019, 11, 8), {', '.join(arguments)}):\n"
        "    print(line)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=folder,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(map(str, (folder, ROOT, ROOT / "plugins"))),
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.integration
@pytest.mark.usefixtures("shop")
def test_an_unchanged_contract_takes_all_that_was_accepted_as_the_same_events_and_no_reject(
    tmp_path: Path,
) -> None:
    told = tell_by({}, tmp_path, "None", "10", "'1'")
    assert told[0] == "2019-11-07 to 2019-11-08, by the contract of this working tree:"
    assert told[1] == "Rejected lines that no replay has sent: Of 2, 0 would pass now."
    assert "Rejected messages that no replay has sent: Of 1, 0 would pass now." in told
    assert told[-1] == "Accepted rows, all 5: all would pass again, as the same events."


@pytest.mark.integration
@pytest.mark.usefixtures("shop")
def test_a_changed_contract_is_told_by_what_it_would_take_refuse_and_read_otherwise(tmp_path: Path) -> None:
    changed = {
        'EVENT_TYPES: tuple[str, ...] = ("view",': 'EVENT_TYPES: tuple[str, ...] = ("remove", "view",',
        "PRICE_INTEGER_DIGITS = 12": "PRICE_INTEGER_DIGITS = 3",
        "        nothing=NO_VALUE,": "        nothing=(*NO_VALUE, NO_NUMBER),",
    }
    told = tell_by(changed, tmp_path, "None", "10", "'1'")
    lines, messages, accepted = (
        next(number for number, text in enumerate(told) if text.startswith(start))
        for start in ("Rejected lines", "Rejected messages", "Accepted rows")
    )
    assert told[lines].endswith(": Of 2, 1 would pass now.")
    assert "  bad_event_type: 1 of 1 would pass now" in told[lines:messages]
    assert "  bad_price: 0 of 1 would pass now" in told[lines:messages]
    assert told[messages].endswith(": Of 1, 1 would pass now.")
    assert told[accepted:] == [
        "Accepted rows, all 5: 1 would newly fail, and 1 would be other events than they are.",
        "  bad_price: 1, such as",
        "    2019-11-08 08:00:00 UTC,view,1001,2053,electronics.phone,acme,1000,999999999,"
        "9x9x99xx-x9x9-99xx-x9x9-xx9999x9xx99",
        "  another brand: 1, such as",
        "    nan -> None",
    ]
    assert not any(secret in "\n".join(told) for secret in (SECRET_USER, SECRET_SESSION))


@pytest.mark.integration
@pytest.mark.usefixtures("shop")
def test_a_reason_a_size_and_a_seed_say_what_is_judged(tmp_path: Path) -> None:
    told = tell_by({}, tmp_path / "a", "'bad_price'", "4", "'1'")
    assert told[1].endswith(": Of 1, 0 would pass now.")
    assert told[-2] == "Rejected messages that no replay has sent: none."
    assert told[-1] == "Accepted rows, a sample of 4: all would pass again, as the same events."


@pytest.mark.integration
@pytest.mark.usefixtures("shop")
def test_the_same_seed_is_the_same_sample_and_another_seed_another(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    monkeypatch.setattr(whatif.Sampled, "add", lambda self, rows, judged: seen.append(rows[0]["event_id"]))
    for seed in ("1", "1", *"23456789"):
        whatif.judge_accepted(DAY - dt.timedelta(days=1), DAY, 1, seed)
    assert len(seen) == 10
    assert seen[0] == seen[1]
    assert len(set(seen)) > 2


@pytest.mark.integration
@pytest.mark.usefixtures("shop")
def test_a_contract_with_a_column_that_the_stores_lack_is_refused_by_its_name(tmp_path: Path) -> None:
    more = 'COLUMN_NAMES: tuple[str, ...] = (*(column.name for column in COLUMNS), "colour")'
    with pytest.raises(AssertionError, match=r"lacks: colour\. .* docs/how-to\.md"):
        tell_by(
            {"COLUMN_NAMES: tuple[str, ...] = tuple(column.name for column in COLUMNS)": more},
            tmp_path,
            "None",
            "10",
            "'1'",
        )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--sample", "0"], "'0' is no number of rows from 1 to 1,000,000"),
        (["--reason", "bad_luck"], "invalid choice: 'bad_luck'"),
    ],
)
def test_what_cannot_be_asked_is_refused(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        hand.main(["contract-whatif", str(DAY), *arguments])
    assert words in capsys.readouterr().err


def test_days_that_are_swapped_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert hand.main(["contract-whatif", str(DAY), "--last-day", "2019-11-01"]) == 1
    assert capsys.readouterr().err == "The days from 2019-11-08 to 2019-11-01 are none; swap them.\n"


def test_an_event_is_written_as_the_line_from_which_it_comes_again_with_the_same_id() -> None:
    for changes in (*ACCEPTED, *({"event_type": kind} for kind in EVENT_TYPES)):
        event = stored(**changes)
        [(verdict, again)] = judge_raws([whatif.line_of(event).encode()], COLUMN_NAMES, DAY)
        assert (verdict, again["event_id"]) == (PASSES, event["event_id"])


def test_a_sample_without_a_finding_says_what_that_means_for_all() -> None:
    event = stored()
    sampled = whatif.Sampled()
    sampled.add([event] * 3_000, [(PASSES, event)] * 3_000)
    [told] = sampled.told(3_000)
    assert told.endswith("; so would, with 95 % certainty, all others but 1 in 1,000 at most.")
    assert sampled.told(10_000) == ["Accepted rows, all 3,000: all would pass again, as the same events."]
