"""Flex Template specifications: writing one for a local module, reading one, checking a launch against it."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from googleapiclient import discovery_cache

from local.dataflow.api_error import ApiError

IMAGE_SCHEME = "python://"
"""An image of this scheme names a Python module of this machine instead of a container image."""


@dataclass(frozen=True, slots=True)
class Template:
    """What a launch runs: a module, and the metadata of its parameters by name."""

    module: str
    streaming: bool
    parameters: Mapping[str, Mapping[str, Any]]


def spec(template_metadata: Mapping[str, Any], module: str) -> dict[str, Any]:
    """The Flex Template specification that makes the local Dataflow run `module`, a dotted name.

    `template_metadata` is what `gcloud dataflow flex-template build --metadata-file` takes; that command
    writes the same specification with a container image in place of the module.
    """
    return {
        "image": f"{IMAGE_SCHEME}{module}",
        "metadata": dict(template_metadata),
        "sdkInfo": {"language": "PYTHON"},
    }


def parse_template(text: bytes, uri: str) -> Template:
    """Read a specification; `uri` names it in errors.

    Raises:
        ApiError: it is not JSON of the shape that `spec` writes, or its image is no local module.
    """
    try:
        content = json.loads(text)
        image, metadata = content["image"], content["metadata"]
        parameters = {parameter["name"]: parameter for parameter in metadata.get("parameters", [])}
        streaming = bool(metadata.get("streaming", False))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ApiError("INVALID_ARGUMENT", f"Invalid template file: {uri}: {error!r}") from error
    if not str(image).startswith(IMAGE_SCHEME):
        raise ApiError(
            "INVALID_ARGUMENT",
            f"Invalid template file: {uri} names the image {image!r}; the local Dataflow runs "
            f"{IMAGE_SCHEME}<module> only. Write the specification with local.dataflow.spec.",
        )
    return Template(image.removeprefix(IMAGE_SCHEME), streaming, parameters)


def check_parameters(template: Template, parameters: Mapping[str, str]) -> None:
    """Hold a launch's parameters against the template's metadata, as Dataflow does.

    Raises:
        ApiError: a required parameter is missing, one is unknown, or a value does not match its regexes.
            It names every violation, in the message and as InvalidTemplateParameters in the details.
    """
    violations = [(name, "Unrecognized parameter") for name in parameters if name not in template.parameters]
    for name, metadata in template.parameters.items():
        if name not in parameters:
            if not metadata.get("isOptional", False):
                violations.append((name, "Missing required parameter"))
            continue
        violations += [
            (name, f"Parameter didn't match regex '{regex}'")
            for regex in metadata.get("regexes", [])
            if not re.fullmatch(regex, parameters[name])
        ]
    if violations:
        raise ApiError(
            "INVALID_ARGUMENT",
            "The template parameters are invalid. Details: \n"
            + "\n".join(f"{name}: {description}" for name, description in violations),
            [
                {
                    "@type": "type.googleapis.com/google.dataflow.v1beta3.InvalidTemplateParameters",
                    "parameterViolations": [
                        {"parameter": name, "description": description} for name, description in violations
                    ],
                }
            ],
        )


def check_environment(environment: Mapping[str, Any], *, streaming: bool) -> None:
    """Hold a launch's environment against FlexTemplateRuntimeEnvironment, as Dataflow does.

    Names and types are those of Dataflow's discovery document.

    Raises:
        ApiError: a field is unknown, is of another type, or its value is none that Dataflow takes.
    """
    fields = _environment_fields()
    for name, value in environment.items():
        if name not in fields:
            raise ApiError(
                "INVALID_ARGUMENT",
                f"Invalid JSON payload received. Unknown name \"{name}\" at 'launch_parameter.environment': "
                "Cannot find field.",
            )
        kind = fields[name].get("type", "object")
        if (
            not isinstance(value, _TYPES[kind])
            or (isinstance(value, bool) and kind == "integer")
            or (name in _VALUES and not _VALUES[name](value))
            or ("enum" in fields[name] and value not in fields[name]["enum"])
        ):
            where = f"'launch_parameter.environment.{name}'"
            raise ApiError("INVALID_ARGUMENT", f"Invalid value at {where}: {json.dumps(value)}")
    if streaming and "streamingMode" in environment and not environment.get("enableStreamingEngine"):
        raise ApiError(
            "INVALID_ARGUMENT", "The streaming mode at least once is only available with Streaming Engine."
        )


_TYPES: Mapping[str, type] = {
    "array": list, "boolean": bool, "integer": int, "object": dict, "string": str
}  # fmt: skip


def _are_labels(labels: Mapping[str, Any]) -> bool:
    """Whether these are at most 64 labels, written as the labels of Google Cloud's resources are."""
    return len(labels) <= 64 and all(
        re.fullmatch("[a-z][a-z0-9_-]{0,62}", key)
        and isinstance(value, str)
        and re.fullmatch("[a-z0-9_-]{0,63}", value)
        for key, value in labels.items()
    )


_VALUES: Mapping[str, Callable[[Any], object]] = {
    "additionalUserLabels": _are_labels,
    "maxWorkers": lambda value: 1 <= value <= 1000,
    "numWorkers": lambda value: 1 <= value <= 1000,
    "sdkContainerImage": lambda value: re.fullmatch(
        r"[a-z0-9.-]+(:\d+)?/[a-z0-9._/-]+(:[\w.-]+|@sha256:\w+)", value
    ),
    "serviceAccountEmail": lambda value: re.fullmatch(r"[^@\s]+@[^@\s]+", value),
    "stagingLocation": lambda value: value.startswith("gs://"),
    "subnetwork": lambda value: re.fullmatch(r"(https://\S+/)?regions/[^/]+/subnetworks/[^/]+", value),
    "tempLocation": lambda value: value.startswith("gs://"),
}
"""What Dataflow's documentation says of a value, beyond its type."""


@functools.cache
def _environment_fields() -> dict[str, dict[str, Any]]:
    document = json.loads(discovery_cache.get_static_doc("dataflow", "v1b3") or "{}")
    fields: dict[str, dict[str, Any]] = document["schemas"]["FlexTemplateRuntimeEnvironment"]["properties"]
    return fields
