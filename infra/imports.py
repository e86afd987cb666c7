"""What Python files import, read from their text: nothing is run, nothing must be installed."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from pathlib import Path

from local.root import ROOT


def airflow_files(root: Path = ROOT) -> list[Path]:
    """The files of dags/ and plugins/, and those of beam_jobs/ that they import, also through each other.

    Composer gets these and no others. Sorted, relative to `root`.
    """
    found = {path.relative_to(root) for room in ("dags", "plugins") for path in (root / room).rglob("*.py")}
    waiting = list(found)
    while waiting:
        for module in imported_modules(root / waiting.pop()):
            if path := _beam_jobs_file(root, module):
                new = {path, Path("beam_jobs/__init__.py")} - found
                found |= new
                waiting += new
    return sorted(found)


def imported_modules(path: Path) -> set[str]:
    """The dotted names that a file imports when it is imported or when its functions run.

    `from a import b` gives both a and a.b, since b may be a module. What only a type checker imports is left
    out.
    """
    return set(_modules(ast.parse(path.read_text(encoding="utf-8"), str(path)).body))


def _modules(nodes: Iterable[ast.AST]) -> Iterator[str]:
    for node in nodes:
        match node:
            case ast.If(test=ast.Name(id="TYPE_CHECKING")):
                yield from _modules(node.orelse)
            case ast.Import():
                yield from (alias.name for alias in node.names)
            case ast.ImportFrom(level=0, module=str(module)):
                yield module
                yield from (f"{module}.{alias.name}" for alias in node.names)
            case ast.ImportFrom():
                raise ValueError(f"line {node.lineno} has a relative import; write the package's name out")
            case ast.expr():
                pass  # holds no statement, and is most of a file
            case _:
                yield from _modules(ast.iter_child_nodes(node))


def _beam_jobs_file(root: Path, module: str) -> Path | None:
    path = Path(*module.split(".")).with_suffix(".py")
    return path if path.parts[0] == "beam_jobs" and (root / path).is_file() else None
