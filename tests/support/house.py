"""The source files of nixmill, parsed once, for the tests that watch over the house."""

import ast
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
SOURCES = ROOT / "src"


class Module(NamedTuple):
    """One file."""

    name: str
    """Dotted: `nixmill.core.plan`."""
    path: Path
    tree: ast.Module
    lines: int

    @property
    def layer(self) -> str:
        """The part of the house: `core`, `edge`, …; for a file at the top its own name."""
        return [*self.name.split("."), "__init__"][1]

    def where(self, node: ast.AST) -> str:
        """Return a place that editors open."""
        return f"{self.path.relative_to(ROOT)}:{getattr(node, 'lineno', 1)}"


def parse(name: str, path: Path, text: str) -> Module:
    """Return a module from its text."""
    return Module(name, path, ast.parse(text), text.count("\n"))


@lru_cache
def modules() -> tuple[Module, ...]:
    """Return all modules of nixmill."""
    return tuple(parse(_dotted(path), path, path.read_text()) for path in sorted((SOURCES / "nixmill").rglob("*.py")))


def _dotted(path: Path) -> str:
    parts = path.relative_to(SOURCES).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(module: Module) -> list[tuple[str, ast.AST]]:
    """Return the dotted names a module imports, wherever in the file, with the place."""
    found: list[tuple[str, ast.AST]] = []
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            found += [(alias.name, node) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found += [(f"{_from(module, node)}.{alias.name}", node) for alias in node.names]
    return found


def _from(module: Module, node: ast.ImportFrom) -> str:
    if not node.level:
        return node.module or ""
    package = module.name if module.path.name == "__init__.py" else module.name.rpartition(".")[0]
    parents = package.split(".")[: len(package.split(".")) - node.level + 1]
    return ".".join([*parents, *([node.module] if node.module else [])])


def functions(module: Module) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Return every function and method of a module, nested ones too."""
    return [node for node in ast.walk(module.tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
