"""Which commands and flags the installed gcloud has, out of its own file for completing them."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest

from local.stack.emulators import gcloud_sdk


def unknown_to_gcloud(command: list[str]) -> set[str]:
    """The words and flags of a command, ["gcloud", ...], that gcloud does not have; none if all is right."""
    if "--" in command:
        command = command[: command.index("--")]
    flags = {word.partition("=")[0] for word in command if word.startswith("--")}
    node = _commands()
    known = set(node["flags"])
    for word in command[1:]:
        if not node.get("commands"):
            break
        if word not in node["commands"]:
            return {word}
        node = node["commands"][word]
        known |= set(node.get("flags", {}))
    return {command[-1]} if node.get("commands") else flags - known


@cache
def _commands() -> dict[str, Any]:
    sdk = gcloud_sdk()
    if sdk is None:
        pytest.skip("gcloud is not installed")
    found: dict[str, Any] = {}
    exec(Path(sdk, "data", "cli", "gcloud_completions.py").read_text(), found)
    return found["STATIC_COMPLETION_CLI_TREE"]
