"""Google's GoogleSQL analyzer, asked over gRPC what BigQuery would say to a statement.

The npm package holds a server for Linux, a native program, and its protocol as .proto files; of Node.js only
npm is used, to fetch them. The protocol's Python classes are made at the start, in a quarter of a second.

The analyzer is some versions behind BigQuery: it knows neither GROUP BY ALL nor MAX_BY, and QUALIFY must have
a WHERE, GROUP BY or HAVING beside it (WHERE TRUE does).
"""

from __future__ import annotations

import platform
import re
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from local.root import ROOT
from local.stack import emulators
from shopstream.tables.folder import Table

PACKAGE = Path(__file__).parent / "node_modules" / "@fivetrandevelopers" / "zetasql" / "lib" / "zetasql"
REQUEST_TIMEOUT_SECONDS = 30
MAX_ANSWER_BYTES = 64 * 2**20
TYPE_KINDS = {"FLOAT64": "TYPE_DOUBLE"}
"""BigQuery's names of types; all others are called TYPE_<name> in the protocol."""

FEATURES = """
    ANALYTIC_FUNCTIONS BIGNUMERIC_TYPE CBRT_FUNCTIONS GEOGRAPHY GROUP_BY_ROLLUP INTERVAL_TYPE
    INVERSE_TRIG_FUNCTIONS JSON_ARRAY_FUNCTIONS JSON_CONSTRUCTOR_FUNCTIONS JSON_LAX_VALUE_EXTRACTION_FUNCTIONS
    JSON_MUTATOR_FUNCTIONS JSON_TYPE JSON_VALUE_EXTRACTION_FUNCTIONS NAMED_ARGUMENTS NUMERIC_TYPE
    PARAMETERIZED_TYPES RANGE_TYPE ROUND_WITH_ROUNDING_MODE TABLESAMPLE
    V_1_1_CAST_DIFFERENT_ARRAY_TYPES V_1_1_FOR_SYSTEM_TIME_AS_OF V_1_1_HAVING_IN_AGGREGATE
    V_1_1_LIMIT_IN_AGGREGATE V_1_1_NULL_HANDLING_MODIFIER_IN_AGGREGATE
    V_1_1_NULL_HANDLING_MODIFIER_IN_ANALYTIC V_1_1_ORDER_BY_IN_AGGREGATE V_1_1_SELECT_STAR_EXCEPT_REPLACE
    V_1_1_WITH_ON_SUBQUERY
    V_1_2_CIVIL_TIME V_1_2_GROUP_BY_ARRAY V_1_2_GROUP_BY_STRUCT V_1_2_SAFE_FUNCTION_CALL
    V_1_2_WEEK_WITH_WEEKDAY
    V_1_3_ADDITIONAL_STRING_FUNCTIONS V_1_3_ALLOW_DASHES_IN_TABLE_NAME V_1_3_ALLOW_REGEXP_EXTRACT_OPTIONALS
    V_1_3_DATE_ARITHMETICS V_1_3_DATE_TIME_CONSTRUCTORS V_1_3_DECIMAL_ALIAS
    V_1_3_EXTENDED_DATE_TIME_SIGNATURES V_1_3_FORMAT_IN_CAST V_1_3_IS_DISTINCT V_1_3_LIKE_ANY_SOME_ALL
    V_1_3_NULLS_FIRST_LAST_IN_ORDER_BY V_1_3_OMIT_INSERT_COLUMN_LIST V_1_3_PIVOT V_1_3_QUALIFY V_1_3_REPEAT
    V_1_3_UNPIVOT V_1_3_WITH_RECURSIVE
    V_1_4_BARE_ARRAY_ACCESS V_1_4_GROUPING_BUILTIN V_1_4_GROUPING_SETS V_1_4_SINGLE_TABLE_NAME_ARRAY_PATH
"""
"""What BigQuery's reference documents for queries and DML. Without a list the analyzer would let pass what
only others of Google's engines know, such as comparing arrays."""

_POSITION = re.compile(r" \[at (\d+):(\d+)\]$")


class StatementRefused(ValueError):
    """BigQuery would refuse the statement: `message` says why; `line` and `column`, from 1, say where."""

    def __init__(self, message: str, line: int, column: int) -> None:
        super().__init__(f"{message} [at {line}:{column}]")
        self.message, self.line, self.column = message, line, column


class Analyzer:
    """What is asked of a running analyzer; it knows no table until `tell_tables`."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._channel = channel
        self._pool = _protocol()
        self._catalog_id = 0

    def tell_tables(self, tables: Iterable[Table]) -> None:
        """Make statements be judged with these tables and views from now on."""
        request = self._message("RegisterCatalogRequest")
        request.descriptor_pool_list.definitions.add().builtin.SetInParent()
        catalog = request.simple_catalog
        _set_language(catalog.builtin_function_options.language_options)
        datasets: dict[str, Any] = {}
        for number, table in enumerate(tables, start=1):
            if table.dataset not in datasets:
                datasets[table.dataset] = catalog.catalog.add(name=table.dataset)
            described = datasets[table.dataset].table.add(
                name=table.name, full_name=table.full_name, serialization_id=number
            )
            for column in table.schema:
                _set_type(described.column.add(name=column.name).type, column.type, column.mode == "REPEATED")
        self._catalog_id = self._call("RegisterCatalog", request, "RegisterResponse").registered_id

    def analyze(self, sql: str, params: Mapping[str, str]) -> Any:
        """Return what the analyzer made of one statement: a Resolved...StmtProto.

        `params` gives the type of each query parameter by its name, such as {"day": "DATE"}; an array's is
        ARRAY<...>.

        Raises:
            StatementRefused: the statement is wrong.
        """
        request = self._message("AnalyzeRequest")
        request.registered_catalog_id = self._catalog_id
        request.descriptor_pool_list.definitions.add().builtin.SetInParent()
        request.sql_statement = sql
        options = request.options
        options.error_message_mode = 1  # the position at the end of the message, as [at line:column]
        options.default_timezone = "UTC"
        _set_language(options.language_options)
        for name, given in params.items():
            element = given.removeprefix("ARRAY<").removesuffix(">")
            _set_type(options.query_parameters.add(name=name).type, element, element != given)
        try:
            answer = self._call("Analyze", request, "AnalyzeResponse")
        except grpc.RpcError as error:
            if error.code() != grpc.StatusCode.INVALID_ARGUMENT:
                raise
            text = error.details()
            position = _POSITION.search(text)
            line, column = (int(position[1]), int(position[2])) if position else (1, 1)
            raise StatementRefused(_POSITION.sub("", text), line, column) from None
        return innermost(answer.resolved_statement)

    def _message(self, name: str) -> Any:
        described = self._pool.FindMessageTypeByName(f"zetasql.local_service.{name}")
        return message_factory.GetMessageClass(described)()

    def _call(self, method: str, request: Any, answer_name: str) -> Any:
        remote = self._channel.unary_unary(
            f"/zetasql.local_service.ZetaSqlLocalService/{method}",
            request_serializer=type(request).SerializeToString,
            response_deserializer=type(self._message(answer_name)).FromString,
        )
        return remote(request, timeout=REQUEST_TIMEOUT_SECONDS)


@contextmanager
def running_analyzer(tables: Iterable[Table], log_file: Path) -> Iterator[Analyzer]:
    """Start the analyzer on a free port, tell it the tables, and stop it at the end.

    Raises:
        emulators.NotReady: it is not installed, or does not start.
    """
    server = _server()
    port = emulators.free_port()
    program = emulators.Program(
        "googlesql", (str(server), emulators.HOST, str(port)), lambda: emulators.accepts(port)
    )
    options = [("grpc.max_receive_message_length", MAX_ANSWER_BYTES), ("grpc.enable_http_proxy", 0)]
    with (
        emulators.running(program, log_file),
        grpc.insecure_channel(f"{emulators.HOST}:{port}", options) as channel,
    ):
        analyzer = Analyzer(channel)
        analyzer.tell_tables(tables)
        yield analyzer


def type_name(type_message: Any) -> str:
    """Return BigQuery's name of a type of the protocol, such as INT64 or ARRAY<DATE>."""
    kind = type_message.DESCRIPTOR.fields_by_name["type_kind"].enum_type.values_by_number[
        type_message.type_kind
    ]
    if kind.name == "TYPE_ARRAY":
        return f"ARRAY<{type_name(type_message.array_type.element_type)}>"
    if kind.name == "TYPE_STRUCT":
        fields = (
            f"{field.field_name} {type_name(field.field_type)}" for field in type_message.struct_type.field
        )
        return f"STRUCT<{', '.join(fields)}>"
    names = {protocol: bigquery for bigquery, protocol in TYPE_KINDS.items()}
    return names.get(kind.name, kind.name.removeprefix("TYPE_"))


def innermost(node: Any) -> Any:
    """Unwrap a message of which only one of several kinds of node is set: Any...Proto."""
    while node.DESCRIPTOR.name.startswith("Any"):
        kind = node.WhichOneof("node")
        if kind is None:
            break
        node = getattr(node, kind)
    return node


def _set_language(language: Any) -> None:
    language.product_mode = 1  # PRODUCT_EXTERNAL: only the types of Google Cloud's products
    values = language.DESCRIPTOR.fields_by_name["enabled_language_features"].enum_type.values_by_name
    language.enabled_language_features.extend(values[f"FEATURE_{name}"].number for name in FEATURES.split())


def _set_type(type_message: Any, name: str, repeated: bool) -> None:
    kinds = type_message.DESCRIPTOR.fields_by_name["type_kind"].enum_type.values_by_name
    if repeated:
        type_message.type_kind = kinds["TYPE_ARRAY"].number
        type_message = type_message.array_type.element_type
    type_message.type_kind = kinds[TYPE_KINDS.get(name, f"TYPE_{name}")].number


def _server() -> Path:
    suffix = {"x86_64": "", "aarch64": "_arm"}.get(platform.machine())
    if platform.system() != "Linux" or suffix is None:
        raise emulators.NotReady(
            f"The GoogleSQL analyzer runs on Linux with x86_64 or aarch64, not on {platform.system()} with "
            f"{platform.machine()}; run this in a container."
        )
    server = PACKAGE / f"remote_server{suffix}.so"
    if not server.is_file():
        raise emulators.NotReady("The GoogleSQL analyzer is missing: run `make install`.")
    return server


def _protocol() -> descriptor_pool.DescriptorPool:
    with tempfile.NamedTemporaryFile(suffix=".descriptors") as compiled:
        subprocess.run(
            [
                ROOT / ".venv-emulators" / "bin" / "python",
                *("-m", "grpc_tools.protoc", "--include_imports"),
                *(f"--proto_path={PACKAGE / 'protos'}", f"--descriptor_set_out={compiled.name}"),
                "local_service.proto",
            ],
            check=True,
        )
        files = descriptor_pb2.FileDescriptorSet.FromString(Path(compiled.name).read_bytes())
    pool = descriptor_pool.DescriptorPool()
    for file in files.file:
        pool.Add(file)
    return pool
