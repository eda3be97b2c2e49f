"""`nix/` and `core/` decide: they never wait, look, ask the time, roll dice, write a log, or recurse over a graph."""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.support.house import Module, functions, imported, modules, parse

_PURE_NAMES: Final = """
    __future__ abc base64 binascii bisect blake3 collections contextlib copy dataclasses datetime difflib enum fnmatch
    functools hashlib heapq html itertools json math msgspec nixmill operator posixpath re shlex statistics string
    struct textwrap types typing unicodedata zlib
"""
PURE_MODULES: Final = frozenset(_PURE_NAMES.split())
PURE_PARTS: Final = ("cryptography.exceptions.", "cryptography.hazmat.primitives.", "urllib.parse.", "xml.")
"""Of packages that also do other things."""
IMPURE_CALLS: Final = frozenset({"open", "print", "input", "eval", "exec", "breakpoint", "__import__"})
CLOCKS: Final = frozenset({"now", "utcnow", "today"})

PURE: Final = [module for module in modules() if module.layer in {"nix", "core"}]


def impurities(module: Module) -> list[str]:
    """Return a sentence for each thing that has no place in a decision."""
    found = [f"{module.where(node)}: imports {name}" for name, node in imported(module) if not _is_pure(name)]
    found += [f"{module.where(node)}: {what}" for node in ast.walk(module.tree) if (what := _impurity(node))]
    return found


def _is_pure(name: str) -> bool:
    return name.partition(".")[0] in PURE_MODULES or f"{name}.".startswith(PURE_PARTS)


def _impurity(node: ast.AST) -> str:
    match node:
        case ast.AsyncFunctionDef() | ast.AsyncFor() | ast.AsyncWith() | ast.Await():
            return "waits"
        case ast.Call(func=ast.Name(id=name)) if name in IMPURE_CALLS:
            return f"calls {name}"
        case ast.Call(func=ast.Attribute(value=ast.Name(id=owner), attr=name)) if name in CLOCKS:
            return f"calls {owner}.{name}" if owner in {"datetime", "date"} else ""
        case ast.Global():
            return "has global state"
        case _:
            return ""


def recursions(module: Module) -> list[str]:
    """Return the functions of a module that reach themselves through its own functions."""
    calls = {name: set(_called(function, name)) for name, function in _named(module)}
    return [name for name in calls if name in _reachable(calls, calls[name])]


def _named(module: Module) -> Iterator[tuple[str, ast.AST]]:
    """Yield functions by name, methods as `Class.method`; a class within a function counts like one of the module."""
    methods: dict[ast.AST, str] = {}
    for node in ast.walk(module.tree):
        if isinstance(node, ast.ClassDef):
            methods |= {item: f"{node.name}.{item.name}" for item in node.body if isinstance(item, ast.FunctionDef)}
    for function in functions(module):
        yield methods.get(function, function.name), function


def _called(function: ast.AST, name: str) -> Iterator[str]:
    owner = name.rpartition(".")[0]
    for node in ast.walk(function):
        match node:
            case ast.Call(func=ast.Name(id=called)):
                yield called
            case ast.Call(func=ast.Attribute(value=ast.Name(id="self" | "cls"), attr=called)):
                yield f"{owner}.{called}"


def _reachable(calls: dict[str, set[str]], start: set[str]) -> set[str]:
    seen: set[str] = set()
    todo = list(start)
    while todo:
        name = todo.pop()
        if name in calls and name not in seen:
            seen.add(name)
            todo += calls[name]
    return seen


@pytest.mark.parametrize("module", PURE, ids=lambda module: module.name)
def test_it_only_decides(module: Module) -> None:
    assert impurities(module) == []


@pytest.mark.parametrize("module", PURE, ids=lambda module: module.name)
def test_it_does_not_recurse(module: Module) -> None:
    """A chain of 50,000 derivations is a legal plan, and Python's stack ends at 1,000."""
    assert recursions(module) == []


@pytest.mark.parametrize(
    "text",
    [
        "import asyncio",
        "import os.path",
        "from pathlib import Path",
        "from urllib.request import urlopen",
        "async def f(): ...",
        "def f():\n    import random",
        "x = open('a')",
        "from datetime import datetime\nx = datetime.now()",
        "def f():\n    global x\n    x = 1",
    ],
)
def test_an_impurity_is_noticed(text: str) -> None:
    assert len(impurities(parse("nixmill.core.x", Path(__file__), text))) == 1


@pytest.mark.parametrize(
    "text",
    [
        "def walk(n):\n    return [walk(c) for c in n]",
        "def a(): b()\ndef b(): a()",
        "class A:\n    def f(self): self.g()\n    def g(self): self.f()",
    ],
)
def test_a_recursion_is_noticed(text: str) -> None:
    assert recursions(parse("nixmill.core.x", Path(__file__), text))
