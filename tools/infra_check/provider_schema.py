"""The Google provider's schema, read out of a published package instead of the provider's own binary.

HashiCorp generated the package cdktf-cdktf-provider-google from the schema of one release of the provider.
Its TypeScript (index.js and index.d.ts of each resource type) tells all of it but two things: whether an
optional argument has a computed default, and which combinations of arguments the provider refuses.

Blocks are in the form that `terraform providers schema -json` prints; an attribute whose documentation lists
its possible values has them as "values".
"""

from __future__ import annotations

import json
import re
import tarfile
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from importlib import metadata
from typing import Any

PACKAGE = "cdktf-cdktf-provider-google"
PROVIDER_VERSION = "6.50.0"
"""The release of hashicorp/google that the pinned version of PACKAGE was generated from."""

Type = Any
"""A Terraform type as JSON: "string", "number", "bool", or such as ["list", "string"]."""

_SIMPLE: dict[str, Type] = {
    "string": "string",
    "number": "number",
    "boolean": "bool",
    "stringMap": ["map", "string"],
}
_GETTERS: dict[str, Type] = {
    "getStringAttribute": "string",
    "getNumberAttribute": "number",
    "getBooleanAttribute": "bool",
    "getListAttribute": ["list", "string"],
    "getNumberListAttribute": ["list", "number"],
    "getStringMapAttribute": ["map", "string"],
}

_INTERFACE = re.compile(
    r"^export interface (\w+)( extends cdktf\.TerraformMetaArguments)? \{\n(.*?)^\}", re.M | re.S
)
_PROPERTY = re.compile(r"/\*\*((?:(?!\*/).)*)\*/\s*readonly \w+(\??):", re.S)
_NAME = re.compile(r"#(\w+) \w+#\1\}")
_VALUES = re.compile(r'Possible values: (\[("\w*"(, )?)+\])')
_STRUCT = re.compile(r"^function (\w+)ToHclTerraform\(struct\) \{\n(.*?)^\}", re.M | re.S)
_ROOT = re.compile(r"^    synthesizeHclAttributes\(\) \{\n(.*?)^    \}", re.M | re.S)
_ARGUMENT = re.compile(
    r'^ +(\w+): \{\n +value: (.*),\n +isBlock: (true|false),\n +type: "(\w+)",\n +storageClassType: "(\w+)",',
    re.M,
)
_NESTED = re.compile(r"(\w+)ToHclTerraform\b")
_CLASS = re.compile(r"^class (\w+) extends cdktf\.(\w+) \{\n(.*?)^\}", re.M | re.S)
_READ_ONLY = re.compile(r"// (\w+) - computed: true, optional: false, required: false\n +(.*\n.*)\n")
_NEW = re.compile(r"new (\w+(?:\.\w+)?)\(this, \"\w+\"(?:, (true|false))?\)")


def resource_schemas(names: Iterable[str]) -> dict[str, Any]:
    """The blocks of the named resource types (google_storage_bucket) and data sources (data.google_project).

    A name that the provider does not have is left out. The key "provider" gives the provider's own block.
    """
    wanted = {_module(name): name for name in names}
    texts: dict[str, dict[str, str]] = {name: {} for name in wanted.values()}
    # Its Python half is generated from the TypeScript half, which it carries as an archive, and tells less.
    [archive] = [path for path in metadata.files(PACKAGE) or () if path.suffix == ".tgz"]
    with tarfile.open(archive.locate(), mode="r|gz") as files:
        for member in files:
            match member.name.split("/"):
                case ["package", "lib", module, "index.js" | "index.d.ts" as name] if module in wanted:
                    source = files.extractfile(member)
                    assert source is not None  # noqa: S101
                    texts[wanted[module]][name] = source.read().decode()
    return {name: _Source(text["index.js"], text["index.d.ts"]).block for name, text in texts.items() if text}


def _module(name: str) -> str:
    """The package's folder of a resource type."""
    return name.replace("data.google_", "data-google-").removeprefix("google_").replace("_", "-")


@dataclass
class _Source:
    """The two files of one resource type."""

    js: str
    declarations: str

    @cached_property
    def interfaces(self) -> dict[str, dict[str, dict[str, Any]]]:
        """What the declarations say of each argument of each block; the outermost block is ""."""
        found: dict[str, dict[str, dict[str, Any]]] = {}
        for name, is_root, body in _INTERFACE.findall(self.declarations):
            arguments: dict[str, dict[str, Any]] = {}
            for text, optional in _PROPERTY.findall(body):
                [argument] = _NAME.findall(text)
                # Whether an optional argument is computed too is not told; if so, no plan knows it.
                arguments[argument] = {"optional": True, "computed": True} if optional else {"required": True}
                if values := _VALUES.search(text):
                    arguments[argument]["values"] = json.loads(values[1])
            found["" if is_root or not found else name] = arguments
        return found

    @cached_property
    def structs(self) -> dict[str, str]:
        return {name[0].upper() + name[1:]: body for name, body in _STRUCT.findall(self.js)}

    @cached_property
    def classes(self) -> dict[str, str]:
        return {name: body for name, _, body in _CLASS.findall(self.js)}

    @property
    def block(self) -> dict[str, Any]:
        roots = ("TerraformResource", "TerraformDataSource", "TerraformProvider")
        [own_class] = [body for _, base, body in _CLASS.findall(self.js) if base in roots]
        [arguments] = _ROOT.findall(own_class)
        return self._block(arguments, self.interfaces[""], own_class)

    def _block(self, arguments: str, declared: dict[str, dict[str, Any]], own_class: str) -> dict[str, Any]:
        attributes: dict[str, Any] = {
            name: {"type": type_, "computed": True} for name, type_ in self._read_only(own_class).items()
        }
        blocks: dict[str, Any] = {}
        for name, value, is_block, collection, storage in _ARGUMENT.findall(arguments):
            if storage[0].islower():
                type_ = _SIMPLE.get(storage) or [collection, _SIMPLE[storage.removesuffix("List")]]
                attributes[name] = {"type": type_, **declared[name]}
                continue
            struct = _NESTED.findall(value)[0]
            struct = struct[0].upper() + struct[1:]
            nested = self._block(
                self.structs[struct],
                self.interfaces[struct],
                self.classes.get(f"{struct}OutputReference", ""),
            )
            if is_block == "false":
                attributes[name] = {"type": [collection, _object(nested)], **declared[name]}
                continue
            blocks[name] = {
                "nesting_mode": "single" if collection == "struct" else collection,
                "min_items": int("required" in declared[name]),
                "max_items": int(collection != "struct" and "listMapper" not in value),
                "block": nested,
            }
        return {"attributes": attributes, "block_types": blocks}

    def _read_only(self, own_class: str) -> dict[str, Type]:
        """The types of what a class only tells, such as a bucket's url."""
        found: dict[str, Type] = {}
        for name, code in _READ_ONLY.findall(own_class):
            if made := _NEW.search(code):
                found[name] = self._made(made[1], made[2] == "true")
                continue
            [getter] = re.findall(r"this\.(get\w+)\(", code)
            found[name] = _GETTERS[getter]
            if "Fn.tolist" in code:
                found[name] = ["set", found[name][1]]
        return found

    def _made(self, name: str, is_set: bool) -> Type:
        if name.startswith("cdktf."):
            element = {"StringMap": "string", "BooleanMap": "bool", "NumberMap": "number"}
            kind = name.removeprefix("cdktf.")
            return (
                ["list", ["map", element[kind.removesuffix("List")]]]
                if kind.endswith("List")
                else ["map", element[kind]]
            )
        reference = re.sub("(List|Map)$", "OutputReference", name)
        element_type = ["object", self._read_only(self.classes[reference])]
        kind = "map" if name.endswith("Map") else "set" if is_set else "list"
        return element_type if name == reference else [kind, element_type]


def _object(block: dict[str, Any]) -> Type:
    """The object type of a block that Terraform takes as an attribute."""
    types = {name: attribute["type"] for name, attribute in block["attributes"].items()}
    for name, nested in block["block_types"].items():
        element = _object(nested["block"])
        types[name] = element if nested["nesting_mode"] == "single" else [nested["nesting_mode"], element]
    return ["object", types]
