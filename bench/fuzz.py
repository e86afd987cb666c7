"""Look, guided by coverage, for bytes that break the reader of event files or the parser (make fuzz).

    python -m bench.fuzz SECONDS [FOLDER of inputs found before]

For any bytes and any cut into ranges and blocks: each line is accepted or rejected, the same ones however the
file is cut; each reject is found again at its offset; and where only the first rejects of a reason are kept,
the counts stay. A file is refused by name, by each way alike, or not at all.

The same bytes are messages of the stream too, at most four, parted by a byte that is in no event. Each is an
event or a reject, the same alone as in a batch; and with one of its bytes, or two, repeated up to the limit
it takes no more than LONG_SECONDS of CPU. An input that breaks this ends the run, and lies in
FOLDER as crash-*.
"""

from __future__ import annotations

import math
import multiprocessing
import sys
import tempfile
import time
from collections import Counter
from datetime import date
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["beam_jobs"]):
    from beam_jobs.contract import COLUMN_NAMES, MAX_LINE_BYTES, ContractError
    from beam_jobs.files import count_lines, list_files, plan_ranges, read_range
    from beam_jobs.lines import refuse_other_header
    from beam_jobs.messages import Message, judge
    from beam_jobs.parse import parse_block
    from beam_jobs.validate import validate

LANDING_DAY = date(2019, 11, 1)
HEADER = ",".join(COLUMN_NAMES).encode()
EVENT = b"2019-11-01 10:00:00 UTC,view,1004856,2053013555631882655,electronics.smartphone,samsung,130.76,5,s"
SEEDS = (
    b"\x40\x40" + b"\n".join([HEADER, EVENT, EVENT.replace(b"view", b"cart"), b""]),
    b"\x05\xff" + b"\r\n".join([EVENT, b'"x""y', EVENT, b"\xef\xbb\xbf" + HEADER, EVENT]),
    b"\xff\x03" + b"\n".join([HEADER, EVENT.replace(b" UTC", b"+02:00"), EVENT.replace(b"5,s", b"5.0,NULL")]),
    b"\x20\x20" + b"\n\n\r\n" + HEADER.upper() + b"\n" + EVENT + b"\n" + b"a,b,c\n" * 9,
)
OBJECT = (
    b'{"event_time": "2019-11-01 10:00:00 UTC", "event_type": "view", "product_id": 1, "category_id": 2, '
    b'"category_code": null, "price": 3.50, "user_id": 4}'
)
BETWEEN = b"\x1e"
MESSAGES = (
    b"\x01\x00{  }" + BETWEEN + OBJECT,
    b"\x01\x01" + BETWEEN.join([OBJECT, OBJECT.replace(b" ", b""), EVENT, EVENT + b"\n"]),
    b"\x16\x02" + BETWEEN.join([OBJECT.replace(b"view", rb"vi\u0065w"), b"\xef\xbb\xbf" + OBJECT, b"\n\n"]),
)
LONG_SECONDS = 1.0
MAX_REJECTS = 2
RUNS_A_PROCESS = 10_000
"""Instrumented code keeps some 60 kB a run that is never freed; without atheris it keeps nothing."""
FILE = Path(tempfile.mkdtemp(dir="/dev/shm")) / "a.csv"


def outcome(range_bytes: int, block_bytes: int, max_rejects: int | None) -> Counter[str] | str:
    """Return how often each event and each reason comes out of FILE, or that it is refused."""
    found: Counter[str] = Counter()
    try:
        [file] = list_files(str(FILE.parent))
        for part in plan_ranges(file, range_bytes):
            for block in read_range(part, block_bytes):
                checked = validate(parse_block(block, part.columns, max_rejects), LANDING_DAY)
                rejected = checked.rejected.to_pylist()
                for reject in rejected:
                    stored = block.raw(reject["byte_offset"], reject["line_bytes"])
                    if reject["lines"] == 1 and stored != reject["raw"]:
                        raise AssertionError(f"another line stands at the reject's offset: {reject}")
                    refuse_other_header(reject["raw"], part.columns, part.path, reject["byte_offset"])
                    found[reject["reason"]] += reject["lines"]
                lines = sum(reject["lines"] for reject in rejected)
                if count_lines(block) != len(checked.accepted) + lines:
                    raise AssertionError("a line is neither accepted nor rejected, or both")
                found.update(checked.accepted["event_id"].to_pylist())
    except ContractError:
        return "refused"
    return found


def look(data: bytes) -> None:
    """Read one input; its first two bytes say how it is cut."""
    if len(data) < 2:
        return
    FILE.write_bytes(data[2:])
    whole = outcome(2**40, 2**23, None)
    for other in (outcome(data[0] + 1, data[1] + 1, None), outcome(2**40, 2**23, MAX_REJECTS)):
        if other != whole:
            raise AssertionError(f"{whole} is {other} otherwise")
    look_at_messages(data[2:].split(BETWEEN, 3), data[0], data[1])


def look_at_messages(messages: list[bytes], place: int, width: int) -> None:
    """Judge messages together and each alone, and the first of them made long at `place`."""
    alone = sum(map(verdicts, ([message] for message in messages)), Counter[str]())
    if verdicts(messages) != alone:
        raise AssertionError(f"{verdicts(messages)} is {alone} one by one")
    text = messages[0]
    start = place % (len(text) + 1)
    piece = text[start : start + 1 + width % 2]
    if piece:
        long = text[:start] + piece * ((MAX_LINE_BYTES - len(text)) // len(piece)) + text[start:]
        began = time.process_time()
        verdicts([long])
        if (seconds := time.process_time() - began) > LONG_SECONDS:
            raise AssertionError(f"{text!r} with {piece!r} repeated takes {seconds:.1f} s")


def verdicts(messages: list[bytes]) -> Counter[str]:
    """Return how often each event and each reason comes out of a batch."""
    judged = judge([Message(data) for data in messages])
    found = Counter(judged.events["event_id"].to_pylist())
    found.update(f"{reject.reason} {reject.detail}" for reject in judged.rejects)
    if found.total() != len(messages):
        raise AssertionError(f"{len(messages)} messages are {found}")
    return found


def main() -> int:
    """Look for as many seconds as are given, in one process after another; not 0 if something was found."""
    seconds, folder = float(sys.argv[1]), Path(sys.argv[2] if len(sys.argv) > 2 else "build/fuzz-inputs")
    folder.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(SEEDS + MESSAGES):
        (folder / f"seed-{number}").write_bytes(seed)
    end = time.monotonic() + seconds
    while (left := math.ceil(end - time.monotonic())) > 0:
        process = multiprocessing.get_context("spawn").Process(target=fuzz, args=(left, folder))
        process.start()
        process.join()
        if process.exitcode:
            return 1
    return 0


def fuzz(seconds: int, folder: Path) -> None:
    """Look until the first of: `seconds` are over, RUNS_A_PROCESS inputs are tried, one is found."""
    options = [
        f"-max_total_time={seconds}",
        f"-runs={RUNS_A_PROCESS}",
        "-max_len=4096",
        f"-artifact_prefix={folder}/",
    ]
    atheris.Setup([sys.argv[0], *options, str(folder)], look)
    atheris.Fuzz()


if __name__ == "__main__":
    sys.exit(main())
