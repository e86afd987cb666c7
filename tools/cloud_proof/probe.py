"""What a probe is, how probes are run one after the other, and the table of what came of them."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from google.api_core.exceptions import GoogleAPICallError

from local.stack.control import no_interrupts

if TYPE_CHECKING:
    from tools.cloud_proof.ground import Ground

MAX_FOUND_CHARS = 300


class Verdict(StrEnum):
    """What came of a probe."""

    AS_EXPECTED = "as expected"
    OTHERWISE = "otherwise"
    OPEN = "open"
    """There is nothing yet that could be looked at; `found` says what to do first."""
    NEEDS_GOOGLE = "needs Google"
    """What it asks is an emulator, which would answer by itself."""
    STOPPED = "stopped"
    NOT_RUN = "not run"


class Otherwise(Exception):
    """What was found is not what was expected; the message is what was found."""


class Open(Exception):
    """There is nothing to look at yet; the message says what is missing, and what to do."""


@dataclass(frozen=True, slots=True)
class Probe:
    """A question to Google Cloud.

    `run` asks it and returns what was found, if that is as expected. What it makes it registers with the
    stack before it makes it, so that it is cleared away however the probe ends. `dollars` is the most that it
    costs. `needs` names the environment variables of the services of which only Google's own can answer: one
    that is set names an emulator.

    Raises (run):
        Otherwise: what was found is not as expected; so is any other error.
        Open: there is nothing to look at.
    """

    name: str
    question: str
    expected: str
    dollars: float
    run: Callable[[Ground, ExitStack], str]
    needs: tuple[str, ...] = ()

    def emulators(self) -> list[str]:
        """The services that it needs of Google and that are emulators here, by their variables."""
        return [name for name in self.needs if os.environ.get(name)]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a probe; `left` is what could not be cleared away."""

    probe: str
    question: str
    expected: str
    found: str
    verdict: Verdict
    at_most_dollars: float
    seconds: float = 0.0
    left: str = ""

    def as_json(self) -> dict[str, Any]:
        """Return it as plain values."""
        return asdict(self) | {"verdict": str(self.verdict), "seconds": round(self.seconds, 1)}


def prove(probes: Iterable[Probe], ground: Ground, *, run: bool) -> Iterator[Outcome]:
    """Run the probes one after the other, and yield what came of each; without `run` none is run.

    After Ctrl-C the probe that runs is cleared up after, yielded as stopped, and the others are not run.
    """
    stopped = False
    for probe in probes:
        if emulators := probe.emulators():
            yield _outcome(probe, Verdict.NEEDS_GOOGLE, f"{', '.join(emulators)} names an emulator")
        elif not run or stopped:
            yield _outcome(probe, Verdict.NOT_RUN, "")
        else:
            outcome = _ask(probe, ground)
            stopped = outcome.verdict is Verdict.STOPPED
            yield outcome


def as_table(outcomes: Iterable[Outcome]) -> str:
    """Return a table of what came of them, and a line that counts."""
    outcomes = list(outcomes)
    lines = ["| probe | expected | found | verdict | at most |", "|---|---|---|---|---:|"]
    for one in outcomes:
        found = one.found + (f" LEFT BEHIND: {one.left}" if one.left else "")
        cells = (one.probe, one.expected, found, str(one.verdict), f"{one.at_most_dollars:.2f} $")
        lines.append(f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |")
    counts = [
        f"{count} {verdict}"
        for verdict in Verdict
        if (count := sum(one.verdict is verdict for one in outcomes))
    ]
    dollars = sum(one.at_most_dollars for one in outcomes if one.verdict is not Verdict.NEEDS_GOOGLE)
    return "\n".join(
        [*lines, "", f"{', '.join(counts)}; what can run here costs at most {dollars:.2f} US dollars."]
    )


class _Undo(ExitStack):
    """Clears away what a probe has made, the last first; `left` names each thing that could not be."""

    def __init__(self) -> None:
        super().__init__()
        self.left: list[str] = []

    def callback(self, clear: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Callable[..., Any]:
        def tell() -> None:
            try:
                clear(*args, **kwargs)
            except Exception as error:
                words = [
                    clear.__name__.strip("_").replace("_", " "),
                    *(arg for arg in args if isinstance(arg, str)),
                ]
                self.left.append(f"{' '.join(words)}: {type(error).__name__}: {error}")

        super().callback(tell)
        return clear


def _ask(probe: Probe, ground: Ground) -> Outcome:
    undo = _Undo()
    began = time.monotonic()
    try:
        try:
            verdict, found = Verdict.AS_EXPECTED, probe.run(ground, undo)
        except Otherwise as error:
            verdict, found = Verdict.OTHERWISE, str(error)
        except Open as error:
            verdict, found = Verdict.OPEN, str(error)
        except GoogleAPICallError as error:
            verdict, found = Verdict.OTHERWISE, f"{type(error).__name__}: {error.message}"
        except Exception as error:
            verdict, found = Verdict.OTHERWISE, f"{type(error).__name__}: {error}"
    except KeyboardInterrupt:
        verdict, found = Verdict.STOPPED, "by Ctrl-C"
    with no_interrupts():
        undo.close()
    return _outcome(probe, verdict, found, time.monotonic() - began, "; ".join(undo.left))


def _outcome(probe: Probe, verdict: Verdict, found: str, seconds: float = 0.0, left: str = "") -> Outcome:
    found = " ".join(found.split())
    if len(found) > MAX_FOUND_CHARS:
        found = f"{found[:MAX_FOUND_CHARS]}..."
    return Outcome(
        probe.name,
        probe.question,
        probe.expected,
        found,
        verdict,
        probe.dollars,
        seconds,
        " ".join(left.split()),
    )
