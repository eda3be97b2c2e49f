"""Who may import whom: `nix ← core ← doors ← engine`; `edge`, `web` and `cli` hang off the doors; `app` joins them."""

from pathlib import Path
from typing import Final

import pytest

from tests.support.house import Module, imported, modules, parse

MAY_IMPORT: Final = {
    "nix": {"nix"},
    "core": {"nix", "core"},
    "doors": {"nix", "core", "doors"},
    "config": {"nix", "core", "config"},
    "engine": {"nix", "core", "doors", "config", "engine"},
    "edge": {"nix", "core", "doors", "config", "edge"},
    "web": {"nix", "core", "doors", "config", "engine", "web"},
    "cli": {"nix", "core", "doors", "config", "engine", "cli"},
    "app": {"nix", "core", "doors", "config", "engine", "edge", "web", "cli", "app"},
    "__main__": {"app"},
    "__init__": set[str](),
}


def trespasses(module: Module) -> list[str]:
    """Return a sentence for each import that goes against the layers."""
    allowed = MAY_IMPORT[module.layer] | {"__init__"}
    return [
        f"{module.where(node)}: {module.layer} may not import {name}"
        for name, node in imported(module)
        if name.split(".")[0] == "nixmill" and _layer(name) not in allowed
    ]


def _layer(name: str) -> str:
    part = [*name.split("."), "__init__"][1]
    return part if part in MAY_IMPORT else "__init__"


@pytest.mark.parametrize("module", modules(), ids=lambda module: module.name)
def test_imports_follow_the_layers(module: Module) -> None:
    assert trespasses(module) == []


def test_every_part_of_the_house_has_its_place() -> None:
    assert {module.layer for module in modules()} <= set(MAY_IMPORT)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("nixmill.core.x", "from nixmill.doors import Clock"),
        ("nixmill.nix.x", "import nixmill.core.plan"),
        ("nixmill.engine.x", "from nixmill.edge import git"),
        ("nixmill.engine.x", "def f():\n    from nixmill import edge"),
        ("nixmill.cli.x", "from ..edge.git import GitSource"),
        ("nixmill.edge.x", "import nixmill.app"),
    ],
)
def test_a_trespass_is_noticed(name: str, text: str) -> None:
    assert len(trespasses(parse(name, Path(__file__), text))) == 1
