"""The tags a DAG may carry; another one fails when the DAG file is imported."""

from enum import StrEnum


class Tag(StrEnum):
    """What a DAG is about."""

    SETUP = "setup"
    BATCH = "batch"
    STREAM = "stream"
    SUMMARIES = "summaries"
