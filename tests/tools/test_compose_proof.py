"""What `make compose-proof` reads and tells, without its engine."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from tools import compose_proof


def test_the_proof_reads_dockers_times() -> None:
    told = "2026-09-01T12:30:05.123456789Z"
    assert compose_proof._timestamp(told) == datetime(2026, 9, 1, 12, 30, 5, tzinfo=UTC).timestamp()


def test_a_program_that_the_proof_lacks_is_named() -> None:
    with pytest.raises(compose_proof.Failed, match="no-such-program is missing: install it"):
        compose_proof._run("no-such-program", "--version")
