"""The sample project of `make demo` is what its manifest says, by Nix itself."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from nixmill.core.evaluation import EvalFault
from nixmill.core.outcome import Outcome
from nixmill.nix.attr_path import AttrPath, quote, show
from tests.support.scratch_store import ScratchStore

SAMPLE = Path(__file__).parents[2] / "examples/sample"

PATHS_OF_JOBS = """
  let
    derivation = v: (builtins.tryEval (v.type or null == "derivation")).value;
    walk = path: set: builtins.concatMap (name:
      let v = set.${name}; here = path ++ [ name ]; in
      if builtins.elem here unevaluable then [ here ]
      else if derivation v then [ here ]
      else if v.recurseForDerivations or false == true then walk here v else [ ]
    ) (builtins.filter (name: name != "recurseForDerivations") (builtins.attrNames set));
  in walk [ ] (import ./release.nix { system = "x86_64-linux"; })
"""
NIX_SAYS = {
    EvalFault.THROW: "sold and can no longer be built|says that it leaks",
    EvalFault.INFINITE_RECURSION: "infinite recursion encountered",
    EvalFault.MISSING_ATTRIBUTE: "attribute 'key-under-the-mat' missing",
    EvalFault.ASSERTION: "assertion .* failed|while evaluating the condition of the assertion",
    EvalFault.TYPE_ERROR: "cannot add a string to an integer|cannot coerce|expected an integer",
    EvalFault.MISSING_FILE: "No such file or directory|does not exist",
}


class Row(NamedTuple):
    path: AttrPath
    becomes: str
    evaluates: bool


ROWS = [
    Row(tuple(row["path"]), row["becomes"], row["evaluates"])
    for row in json.loads((SAMPLE / "manifest.json").read_text())
]
UNEVALUABLE = [row for row in ROWS if not row.evaluates]


def instantiate(store: ScratchStore, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["nix-instantiate", *arguments],
        cwd=SAMPLE,
        env=store.environment,
        capture_output=True,
        text=True,
        check=False,
    )


def evaluated(store: ScratchStore, expression: str) -> Any:  # noqa: ANN401 - JSON
    done = instantiate(store, "--eval", "--strict", "--json", "-E", expression)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def nix_list(paths: list[AttrPath]) -> str:
    return "[ " + " ".join("[ " + " ".join(quote(name) for name in path) + " ]" for path in paths) + " ]"


def test_the_manifest_lists_exactly_the_attributes(store: ScratchStore) -> None:
    unevaluable = nix_list([row.path for row in UNEVALUABLE])
    found = {tuple(path) for path in evaluated(store, f"let unevaluable = {unevaluable}; in {PATHS_OF_JOBS}")}
    assert found == {row.path for row in ROWS}
    assert len(ROWS) >= 60


def test_every_other_attribute_instantiates(store: ScratchStore) -> None:
    """By expression: in a selection on the command line Nix knows no escapes, so some names cannot be written there."""
    paths = nix_list([row.path for row in ROWS if row.evaluates])
    select = 'builtins.foldl\' (set: name: set.${name}) (import ./release.nix { system = "x86_64-linux"; })'
    done = instantiate(store, "-E", f"map ({select}) {paths}")
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.split()) == len(ROWS) - len(UNEVALUABLE)
    assert "the old scale is worn" in done.stderr


@pytest.mark.parametrize("row", UNEVALUABLE, ids=lambda row: row.path[-1])
def test_an_attribute_that_does_not_evaluate_fails_as_listed(store: ScratchStore, row: Row) -> None:
    done = instantiate(store, "release.nix", "-A", show(row.path))
    assert done.returncode != 0
    assert re.search(NIX_SAYS[EvalFault(row.becomes)], done.stderr), done.stderr


def test_what_becomes_of_a_build_is_one_of_our_words() -> None:
    words = {row.becomes for row in ROWS if row.evaluates}
    assert words <= {str(outcome) for outcome in Outcome}
    assert {"succeeded", "build failed", "dependency failed", "timed out", "hash mismatch"} <= words


@pytest.mark.parametrize("name", [row.path[0] for row in ROWS if row.becomes == "dependency failed"])
def test_what_cannot_be_built_depends_on_the_dam(store: ScratchStore, name: str) -> None:
    requisites = f"{{ inherit (import ./release.nix {{ system = {quote('x86_64-linux')}; }}) dam {name}; }}"
    dam, dependent = instantiate(store, "-E", requisites).stdout.split()
    closure = subprocess.run(
        ["nix-store", "--query", "--requisites", dependent],
        env=store.environment,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert dam in closure


def test_the_flake_gives_the_same_derivations(store: ScratchStore) -> None:
    done = subprocess.run(
        ["nix", "eval", "--raw", f"path:{SAMPLE}#checks.x86_64-linux.village.drvPath"],
        env=store.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    plain = instantiate(store, "release.nix", "--argstr", "system", "x86_64-linux", "-A", "village")
    assert plain.stdout.strip() == done.stdout
