"""Why a derivation changed, asked of derivations that Nix itself made."""

import subprocess
from pathlib import Path

import pytest

from nixmill.core.why_changed import Explainer, Root
from nixmill.nix.derivation import Derivation, decode, parse
from nixmill.nix.store_path import StorePath
from tests.support.scratch_store import ScratchStore

PROJECT = """
{ script ? "echo hi", version ? "1", extra ? false, hash ? "0" }:
let
  make = more: derivation ({ system = "x86_64-linux"; builder = "/bin/sh"; } // more);
  base = make { name = "base"; args = [ "-c" script ]; };
  tarball = make {
    name = "tarball"; outputHashAlgo = "sha256"; outputHashMode = "flat";
    outputHash = builtins.hashString "sha256" hash;
  };
  lib = make { name = "lib-${version}"; inherit base tarball version; file = ./source.txt; };
in make { name = "top"; inputs = [ lib base ] ++ (if extra then [ (make { name = "extra"; }) ] else [ ]); }
"""


def instantiate(store: ScratchStore, project: Path, arguments: str) -> StorePath:
    command = ["nix-instantiate", "--expr", f"import {project} {{ {arguments} }}"]
    result = subprocess.run(command, env=store.environment, capture_output=True, text=True, check=True)
    return StorePath(result.stdout.strip())


def roots(old: StorePath, new: StorePath) -> tuple[Root, ...]:
    asking = Explainer().explain(old, new)
    answer: dict[StorePath, Derivation] | None = None
    while True:
        try:
            wanted = next(asking) if answer is None else asking.send(answer)
        except StopIteration as end:
            found: tuple[Root, ...] = end.value.roots
            return found
        answer = {path: parse(decode(Path(path).read_bytes())) for path in wanted}


@pytest.mark.parametrize(
    ("arguments", "sentence", "way"),
    [
        ('script = "echo ho";', "arguments of base's builder changed", ("top", "base")),
        ('version = "2";', "version of lib-2 changed", ("top", "lib-2")),
        ("extra = true;", "top needs extra, which is new", ("top",)),
        ('hash = "1";', "content of tarball changed", ("top", "lib-1", "tarball")),
        ("", "source source.txt of lib-1 changed", ("top", "lib-1")),
    ],
)
def test_the_one_thing_that_was_changed_is_found(
    store: ScratchStore, tmp_path: Path, arguments: str, sentence: str, way: tuple[str, ...]
) -> None:
    project = tmp_path / "project.nix"
    project.write_text(PROJECT)
    (tmp_path / "source.txt").write_text("before")
    old = instantiate(store, project, "")
    if not arguments:
        (tmp_path / "source.txt").write_text("after")
    new = instantiate(store, project, arguments)

    (root,) = roots(old, new)
    assert (root.difference.sentence, root.way) == (sentence, way)
