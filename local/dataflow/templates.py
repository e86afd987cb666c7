"""Flex Template specifications: writing one for a local module, reading one, checking a launch against it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from local.dataflow.refusal import Refusal

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
        Refusal: it is not JSON of the shape that `spec` writes, or its image is no local module.
    """
    try:
        content = json.loads(text)
        image, metadata = content["image"], content["metadata"]
        parameters = {parameter["name"]: parameter for parameter in metadata.get("parameters", [])}
        streaming = bool(metadata.get("streaming", False))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise Refusal("INVALID_ARGUMENT", f"Invalid template file: {uri}: {error!r}") from error
    if not str(image).startswith(IMAGE_SCHEME):
        raise Refusal(
            "INVALID_ARGUMENT",
            f"Invalid template file: {uri} names the image {image!r}; the local Dataflow runs "
            f"{IMAGE_SCHEME}<module> only. Write the specification with local.dataflow.spec.",
        )
    return Template(image.removeprefix(IMAGE_SCHEME), streaming, parameters)


def check_parameters(template: Template, parameters: Mapping[str, str]) -> None:
    """Hold a launch's parameters against the template's metadata, as Dataflow does.

    Raises:
        Refusal: a required parameter is missing, one is unknown, or a value does not match its regexes.
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
        raise Refusal(
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
