"""Probes are run one after the other, are cleared up after however they end, and are told of in one table."""

from __future__ import annotations

import os
import signal
from contextlib import ExitStack
from typing import Any

import pytest
from google.api_core.exceptions import Forbidden

from tools.cloud_proof.ground import Ground
from tools.cloud_proof.probe import Open, Otherwise, Outcome, Probe, Verdict, as_table, prove


def probe(name: str, run: Any, dollars: float = 0.01, needs: tuple[str, ...] = ()) -> Probe:
    return Probe(name, f"Does {name} hold?", "it holds", dollars, run, needs)


def raising(error: BaseException, made: list[str] | None = None) -> Any:
    def run(ground: Ground, undo: ExitStack) -> str:
        if made is not None:
            undo.callback(made.append, "cleared away")
        raise error

    return run


def holds(ground: Ground, undo: ExitStack) -> str:
    return "it does"


ENDS = [
    (Otherwise("2 rows"), Verdict.OTHERWISE, "2 rows"),
    (Open("load a day first"), Verdict.OPEN, "load a day first"),
    (Forbidden("no permission"), Verdict.OTHERWISE, "Forbidden: no permission"),
    (KeyError("x"), Verdict.OTHERWISE, "KeyError: 'x'"),
    (KeyboardInterrupt(), Verdict.STOPPED, "by Ctrl-C"),
]


@pytest.mark.parametrize(("error", "verdict", "found"), ENDS, ids=[verdict for _, verdict, _ in ENDS])
def test_however_a_probe_ends_it_is_told_and_what_it_made_is_cleared_away(
    ground: Ground, error: BaseException, verdict: Verdict, found: str
) -> None:
    made: list[str] = []
    [outcome] = prove([probe("one", raising(error, made))], ground, run=True)
    assert (outcome.verdict, outcome.found, outcome.left) == (verdict, found, "")
    assert made == ["cleared away"]


def test_each_thing_that_could_not_be_cleared_away_is_told_by_name_and_the_rest_is_cleared_away(
    ground: Ground,
) -> None:
    made: list[str] = []

    def _delete_table(ground: Ground, table: str) -> None:
        raise Forbidden(f"{table} is not yours")

    def run(ground: Ground, undo: ExitStack) -> str:
        undo.callback(made.append, "the first")
        undo.callback(_delete_table, ground, "a")
        undo.callback(made.append, "the third")
        undo.callback(_delete_table, ground, table="b")
        return "it does"

    [outcome] = prove([probe("one", run)], ground, run=True)
    left = "delete table: Forbidden: 403 b is not yours; delete table a: Forbidden: 403 a is not yours"
    assert (outcome.verdict, outcome.left) == (Verdict.AS_EXPECTED, left)
    assert made == ["the third", "the first"]
    assert f"it does LEFT BEHIND: {left}" in as_table([outcome])


def test_ctrl_c_stops_after_the_probe_that_runs_and_a_second_one_does_not_break_off_its_clearing_away(
    ground: Ground,
) -> None:
    made: list[str] = []
    before = signal.getsignal(signal.SIGINT)

    def run(ground: Ground, undo: ExitStack) -> str:
        def clear() -> None:
            os.kill(os.getpid(), signal.SIGINT)
            made.append("cleared away")

        undo.callback(clear)
        os.kill(os.getpid(), signal.SIGINT)
        raise AssertionError("Ctrl-C comes before")

    outcomes = list(prove([probe("first", run), probe("second", holds)], ground, run=True))
    assert [outcome.verdict for outcome in outcomes] == [Verdict.STOPPED, Verdict.NOT_RUN]
    assert made == ["cleared away"]
    assert signal.getsignal(signal.SIGINT) is before


def test_without_being_told_to_run_none_is_run(ground: Ground) -> None:
    never = raising(AssertionError("it was run"))
    outcomes = list(prove([probe("one", never), probe("two", never)], ground, run=False))
    assert {outcome.verdict for outcome in outcomes} == {Verdict.NOT_RUN}


def test_a_probe_that_needs_google_is_not_asked_of_an_emulator_and_is_asked_of_google(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = probe("one", holds, needs=("BIGQUERY_EMULATOR_HOST",))
    monkeypatch.setenv("BIGQUERY_EMULATOR_HOST", "http://127.0.0.1:9050")
    [here] = prove([asked], ground, run=True)
    assert (here.verdict, here.found) == (Verdict.NEEDS_GOOGLE, "BIGQUERY_EMULATOR_HOST names an emulator")
    monkeypatch.delenv("BIGQUERY_EMULATOR_HOST")
    [there] = prove([asked], ground, run=True)
    assert (there.verdict, there.found) == (Verdict.AS_EXPECTED, "it does")


def test_the_table_has_a_line_a_probe_counts_the_verdicts_and_adds_up_what_it_costs() -> None:
    outcomes = [
        Outcome("one", "Is it?", "a | b", "as | it is", Verdict.AS_EXPECTED, 0.25),
        Outcome("two", "Is it?", "yes", "no", Verdict.OTHERWISE, 1.0),
        Outcome("three", "Is it?", "yes", "", Verdict.NEEDS_GOOGLE, 7.0),
    ]
    lines = as_table(outcomes).splitlines()
    assert "| one | a / b | as / it is | as expected | 0.25 $ |" in lines
    assert "| two | yes | no | otherwise | 1.00 $ |" in lines
    assert lines[-1] == (
        "1 as expected, 1 otherwise, 1 needs Google; what can run here costs at most 1.25 US dollars."
    )
