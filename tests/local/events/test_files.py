"""Generated days as files."""

from __future__ import annotations

import gzip
from pathlib import Path

from local.events.day import generate_day
from local.events.files import write_chunks, write_landing_day, written_whole
from tests.local.events.frames import DAY, SEED, csv_of


def test_a_landed_day_is_whole_before_success_is_there_and_replaces_an_earlier_one(tmp_path: Path) -> None:
    write_landing_day(tmp_path, DAY, 50, SEED)
    counts = write_landing_day(tmp_path, DAY, 100, SEED)

    landing = tmp_path / "2019-11-02"
    assert sorted(path.name for path in landing.iterdir()) == ["_SUCCESS", "events.csv"]
    assert counts["rows"] == 100
    assert (landing / "events.csv").read_bytes() == csv_of(generate_day(DAY, 100, SEED))


def test_gzipped_files_are_the_same_bytes_each_time(tmp_path: Path) -> None:
    paths = [tmp_path / name / "events.csv.gz" for name in ("first", "second")]
    for path in paths:
        with written_whole(path) as out:
            write_chunks(out, generate_day(DAY, 100, SEED), "a day", 100)

    first, second = (path.read_bytes() for path in paths)
    assert first == second
    assert gzip.decompress(first) == csv_of(generate_day(DAY, 100, SEED))
