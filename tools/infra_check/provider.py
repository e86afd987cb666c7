"""Stands in for the Google provider towards the terraform program: its schema, and plans without a cloud.

Terraform then checks every type, argument, reference and expression by itself, as it does with the real
provider. Nothing can be applied.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from concurrent import futures
from contextlib import contextmanager
from typing import Any

import grpc
import msgpack
from tf.gen import tfplugin_pb2 as pb
from tf.gen import tfplugin_pb2_grpc as rpc

ADDRESS = "registry.terraform.io/hashicorp/google"
_UNKNOWN = msgpack.ExtType(0, b"\x00")
"""Terraform's value for what is known only after an apply."""

_NESTING = {
    "single": pb.Schema.NestedBlock.SINGLE,
    "list": pb.Schema.NestedBlock.LIST,
    "set": pb.Schema.NestedBlock.SET,
}


class SchemaProvider(rpc.ProviderServicer):
    """Answers Terraform's plugin protocol, version 6, from the schemas that `resource_schemas` gives."""

    def __init__(self, schemas: Mapping[str, Any]) -> None:
        """`schemas` maps provider, google_... and data.google_... to blocks."""
        self._schemas = schemas
        self._project = ""

    def GetMetadata(self, request: Any, context: Any) -> Any:
        """Let Terraform ask for the whole schema."""
        context.abort(grpc.StatusCode.UNIMPLEMENTED, "ask GetProviderSchema")

    def GetProviderSchema(self, request: Any, context: Any) -> Any:
        """All schemas."""
        schemas = {name: pb.Schema(block=_block(block)) for name, block in self._schemas.items()}
        return pb.GetProviderSchema.Response(
            provider=schemas.pop("provider"),
            data_source_schemas={
                name.removeprefix("data."): s for name, s in schemas.items() if name.startswith("data.")
            },
            resource_schemas={name: s for name, s in schemas.items() if not name.startswith("data.")},
        )

    def ValidateProviderConfig(self, request: Any, context: Any) -> Any:
        """Nothing is wrong that Terraform does not see by the schema."""
        return pb.ValidateProviderConfig.Response()

    def ConfigureProvider(self, request: Any, context: Any) -> Any:
        """There is nothing to connect to; only the project is of use."""
        self._project = _unpack(request.config)["project"]
        return pb.ConfigureProvider.Response()

    def ValidateResourceConfig(self, request: Any, context: Any) -> Any:
        """Hold values against the documented possible ones; the rest Terraform sees by the schema."""
        config = _unpack(request.config)
        return pb.ValidateResourceConfig.Response(
            diagnostics=_wrong_values(self._schemas[request.type_name], config, [])
        )

    def ValidateDataResourceConfig(self, request: Any, context: Any) -> Any:
        """As for resources."""
        config = _unpack(request.config)
        return pb.ValidateDataResourceConfig.Response(
            diagnostics=_wrong_values(self._schemas[f"data.{request.type_name}"], config, [])
        )

    def PlanResourceChange(self, request: Any, context: Any) -> Any:
        """Plan to create; what the provider may compute is not known yet."""
        proposed = _unpack(request.proposed_new_state)
        planned = _filled(self._schemas[request.type_name], proposed, lambda name, type_: _UNKNOWN)
        if request.type_name == "google_service_account":
            # The real provider knows these before an apply too.
            planned["email"] = f"{planned['account_id']}@{self._project}.iam.gserviceaccount.com"
            planned["member"] = f"serviceAccount:{planned['email']}"
        return pb.PlanResourceChange.Response(planned_state=_pack(planned))

    def ReadDataSource(self, request: Any, context: Any) -> Any:
        """Every text that the data source would find is its own name in angle brackets."""
        schema = self._schemas[f"data.{request.type_name}"]
        found = _filled(
            schema, _unpack(request.config), lambda name, type_: f"<{name}>" if type_ == "string" else None
        )
        return pb.ReadDataSource.Response(state=_pack(found))

    def StopProvider(self, request: Any, context: Any) -> Any:
        """There is nothing to stop."""
        return pb.StopProvider.Response()


@contextmanager
def serving(schemas: Mapping[str, Any]) -> Iterator[dict[str, str]]:
    """Serve the schemas meanwhile; yields the environment variables that make terraform use them."""
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=4))
    rpc.add_ProviderServicer_to_server(SchemaProvider(schemas), server)
    with tempfile.TemporaryDirectory() as folder:
        socket = f"{folder}/provider.sock"
        server.add_insecure_port(f"unix://{socket}")
        server.start()
        reattach = {
            "Protocol": "grpc",
            "ProtocolVersion": 6,
            "Pid": os.getpid(),
            "Test": True,
            "Addr": {"Network": "unix", "String": socket},
        }
        try:
            yield {"TF_REATTACH_PROVIDERS": json.dumps({ADDRESS: reattach})}
        finally:
            server.stop(grace=None).wait()


def _block(block: Mapping[str, Any]) -> Any:
    return pb.Schema.Block(
        attributes=[
            pb.Schema.Attribute(
                name=name,
                type=json.dumps(attribute["type"]).encode(),
                **{flag: True for flag in ("required", "optional", "computed") if attribute.get(flag)},
            )
            for name, attribute in block["attributes"].items()
        ],
        block_types=[
            pb.Schema.NestedBlock(
                type_name=name,
                nesting=_NESTING[nested["nesting_mode"]],
                block=_block(nested["block"]),
                min_items=nested["min_items"] if nested["nesting_mode"] != "single" else 0,
                max_items=nested["max_items"],
            )
            for name, nested in block["block_types"].items()
        ],
    )


def _wrong_values(block: Mapping[str, Any], config: Mapping[str, Any], path: list[Any]) -> list[Any]:
    step = pb.AttributePath.Step
    wrong = []
    for name, attribute in block["attributes"].items():
        value, values = config[name], attribute.get("values")
        if values and isinstance(value, str) and value not in values:
            wrong.append(
                pb.Diagnostic(
                    severity=pb.Diagnostic.ERROR,
                    summary=f"{value!r} is no possible value of {name}",
                    detail=f"The provider's documentation lists {', '.join(values)}.",
                    attribute=pb.AttributePath(steps=[*path, step(attribute_name=name)]),
                )
            )
    for name, nested in block["block_types"].items():
        value = config[name]
        if nested["nesting_mode"] == "single":
            value = [] if value is None else [value]
        for number, inner in enumerate(value if isinstance(value, list) else []):
            if isinstance(inner, dict):
                inner_path = [*path, step(attribute_name=name)]
                if nested["nesting_mode"] == "list":
                    inner_path.append(step(element_key_int=number))
                wrong += _wrong_values(nested["block"], inner, inner_path)
    return wrong


def _filled(block: Mapping[str, Any], value: Any, computed: Callable[[str, Any], Any]) -> Any:
    """Fill in what the configuration leaves to the provider; `computed` takes a name and a Terraform type."""
    if not isinstance(value, dict):
        return value
    filled = dict(value)
    for name, attribute in block["attributes"].items():
        if filled[name] is None and attribute.get("computed"):
            filled[name] = computed(name, attribute["type"])
    for name, nested in block["block_types"].items():
        if isinstance(inner := filled[name], list):
            filled[name] = [_filled(nested["block"], one, computed) for one in inner]
        else:
            filled[name] = _filled(nested["block"], inner, computed)
    return filled


def _unpack(value: Any) -> Any:
    return msgpack.unpackb(value.msgpack, ext_hook=lambda code, content: _UNKNOWN)


def _pack(value: Any) -> Any:
    return pb.DynamicValue(msgpack=msgpack.packb(value))
