"""What a store holds of a load, so that two stores can be compared: how many events, and which."""

from __future__ import annotations

from typing import NamedTuple

HELD = "COUNT(*), COALESCE(BIT_XOR(FARM_FINGERPRINT(event_id)), 0)"
"""The fields of Held, in the SQL of BigQuery and of Spanner, which compute the same fingerprint."""


class Held(NamedTuple):
    """The rows of a load, one an event, and the exclusive or of the fingerprints of their event ids."""

    events: int
    checksum: int

    @classmethod
    def nothing(cls) -> Held:
        """No row."""
        return cls(0, 0)
