"""Whatever another system's files say: an import ends in files that nixmill reads, or in sentences."""

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nixmill.cli.importing import Asked, System, look, texts
from nixmill.core.errors import InputError
from nixmill.core.importing import server_options
from nixmill.core.importing.report import report

_NAMES = sorted({part for option in server_options.NIXBOT for part in option.name.split(".")} - {"*"})
_GARNIX = ["builds", "include", "exclude", "branch", "actions", "run", "servers", "artifacts", "package", "flakeDir"]
_WORDS = [
    "*.x86_64-linux.*",
    "packages.*.*",
    "nixosConfigurations.*",
    "a.b",
    "\x1b[2J.b",
    "../x",
    "https://example.org",
]


def _values(names: list[str]) -> st.SearchStrategy[Any]:
    leaves = st.none() | st.booleans() | st.integers(-5, 5000) | st.sampled_from(_WORDS) | st.text(max_size=5)
    keys = st.sampled_from(names) | st.text(max_size=3)
    return st.recursive(
        leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=6), max_leaves=20
    )


def _ends_well(asked: Asked) -> None:
    said, files = _outcome(asked)
    assert all(line.isprintable() for line in said.splitlines())
    assert all(tomllib.loads(text) for text in files.values())


def _outcome(asked: Asked) -> tuple[str, dict[str, str]]:
    try:
        imported = look(asked)
    except InputError as error:
        return str(error), {}
    return report(imported), texts(imported)


@pytest.mark.parametrize("system", ["buildbot-nix", "nixbot"])
@given(data=st.data())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_settings_of_a_server(system: System, data: st.DataObject, tmp_path: Path) -> None:
    table = data.draw(st.dictionaries(st.sampled_from(_NAMES), _values(_NAMES), max_size=8))
    table |= data.draw(
        st.sampled_from([{}, {"domain": "x.org", "gitea": {"enable": True, "instanceUrl": "https://g"}}])
    )
    (tmp_path / "old.json").write_text(json.dumps(table))
    _ends_well(Asked(system=system, server=str(tmp_path / "old.json")))


@given(table=st.dictionaries(st.sampled_from(_GARNIX), _values(_GARNIX), max_size=6))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_garnix_yaml(table: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "garnix.yaml").write_text(json.dumps(table))
    _ends_well(Asked(system="garnix", paths=(str(tmp_path),)))


@given(text=st.text(alphabet="ab: -[]{}&*!'\"\n|>#%@", max_size=60))
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_text_as_yaml(text: str, tmp_path: Path) -> None:
    (tmp_path / "garnix.yaml").write_text(text)
    _ends_well(Asked(system="garnix", paths=(str(tmp_path),)))
