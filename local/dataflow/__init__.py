"""The local Dataflow: the part of Dataflow's REST API (v1b3) that the DAGs use, on this machine.

It takes launches of Flex Templates, runs each job's pipeline as a child process, and shows Dataflow's
states and refusals. Beam does the work; docs/adr/0002-local-dataflow.md says what is spoken and what is not.

    python -m local.dataflow       serves it until SIGTERM
"""

from local.dataflow.templates import spec

__all__ = ["spec"]
