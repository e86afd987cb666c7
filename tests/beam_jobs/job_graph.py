"""A pipeline translated for Dataflow, as its launcher translates it, without sending it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from apache_beam.portability.api import beam_runner_api_pb2
from google.cloud.storage import Bucket

from tools.compose_proof import example_launch, launcher_arguments

DETERMINISTIC = {"beam:coder:varint:v1", "beam:coder:bytes:v1", "DeterministicFastPrimitivesCoderV2"}
"""Coders that write an equal key as equal bytes, so that a grouping finds all of it."""


@dataclass(frozen=True)
class JobGraph:
    """What Dataflow would be sent: the job (v1b3's JSON), the pipeline, and the names of the staged files."""

    job: Mapping[str, Any]
    pipeline: beam_runner_api_pb2.Pipeline
    staged: frozenset[str]

    def steps(self) -> list[str]:
        """The names of the steps, as the pipeline's code gives them, without what they are made of."""
        names = (transform.unique_name for transform in self.pipeline.components.transforms.values())
        return sorted(name for name in names if "/" not in name and not name.startswith("ref_"))

    def urn(self, step: str) -> str:
        """What a step is to Dataflow."""
        return self._transform(step).spec.urn

    def takes_from(self, step: str) -> set[str]:
        """The steps whose output a step takes."""
        transforms = self.pipeline.components.transforms.values()
        taken = set(self._transform(step).inputs.values())
        return {
            transform.unique_name.partition("/")[0]
            for transform in transforms
            if taken & set(transform.outputs.values())
        } - {step}

    def key_coders(self) -> Iterator[tuple[str, str]]:
        """The name of each grouping, and its key coder: a URN, or the class's name of a pickled one."""
        parts = self.pipeline.components
        for transform in parts.transforms.values():
            if transform.spec.urn != "beam:transform:group_by_key:v1":
                continue
            [taken] = transform.inputs.values()
            coder = parts.coders[parts.pcollections[taken].coder_id]
            assert coder.spec.urn == "beam:coder:kv:v1"
            key = parts.coders[coder.component_coder_ids[0]]
            while key.spec.urn == "beam:coder:length_prefix:v1":
                key = parts.coders[key.component_coder_ids[0]]
            pickled = key.spec.urn == "beam:coder:pickled_python:v1"
            name = key.spec.payload.partition(b"$")[0][3:].decode() if pickled else key.spec.urn
            yield transform.unique_name, name

    def _transform(self, step: str) -> beam_runner_api_pb2.PTransform:
        transforms = self.pipeline.components.transforms.values()
        [found] = [transform for transform in transforms if transform.unique_name == step]
        return found


def translate(pipeline: str, run: Callable[[list[str]], object], bucket: Bucket) -> JobGraph:
    """Translate a pipeline, by its own `run`, with the options that a DAG's launch leads to."""
    run([*launcher_arguments(example_launch(pipeline)), f"--template_location=gs://{bucket.name}/job_object"])
    job = json.loads(bucket.blob("job_object").download_as_text())
    options = job["environment"]["sdkPipelineOptions"]["options"]
    staging = options["staging_location"].removeprefix(f"gs://{bucket.name}/")
    staged = {blob.name.removeprefix(f"{staging}/"): blob for blob in bucket.list_blobs(prefix=staging)}
    proto = beam_runner_api_pb2.Pipeline.FromString(staged["pipeline.pb"].download_as_bytes())
    return JobGraph(job, proto, frozenset(staged))
