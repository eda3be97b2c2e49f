"""What the command line of a sandbox says, and what of a system gets into it."""

import os
import sys
from pathlib import Path

import pytest

from nixmill.core.errors import InputError
from nixmill.core.evaluation import FlakeTarget
from nixmill.edge.evaluator import confine
from nixmill.edge.evaluator.source_text import Group
from nixmill.edge.sandbox import private_etc, strange_user, system_parts
from nixmill.edge.sandbox.bwrap_command import Interior, command
from tests.support.programs import script

INTERIOR = Interior(
    store_dir="/nix/store",
    etc="/made/etc",
    system=("/usr",),
    links={"/bin": "usr/bin"},
    shown=("/state/tree", "/other"),
    sockets={"store.sock": "/made/s1"},
    scratch_bytes=4096,
)
WORDS = command("/usr/bin/bwrap", INTERIOR, ["/usr/bin/python", "inside.py"])


def _given(option: str, count: int) -> list[list[str]]:
    return [WORDS[at + 1 : at + 1 + count] for at, word in enumerate(WORDS) if word == option]


def test_every_namespace_is_its_own() -> None:
    kinds = ("user", "pid", "net", "ipc", "uts")
    assert {f"--unshare-{kind}" for kind in kinds} <= set(WORDS)
    assert "--share-net" not in WORDS
    assert {"--as-pid-1", "--die-with-parent"} <= set(WORDS)


def test_nothing_of_this_machine_can_be_written_to() -> None:
    assert not _given("--bind", 2)
    assert _given("--ro-bind-try", 2) == [["/state/tree"] * 2, ["/other"] * 2]
    assert _given("--remount-ro", 1) == [["/dev"], ["/"]]
    assert [size for (size,) in _given("--size", 1)].count("4096") == 2


def test_the_tree_comes_after_what_it_may_lie_in() -> None:
    """A tree below the temporary directory is seen in the sandbox's own."""
    assert WORDS.index("/state/tree") > max(at for at, word in enumerate(WORDS) if word == "--tmpfs")


def test_the_program_is_the_last_word() -> None:
    assert WORDS[-3:] == ["--", "/usr/bin/python", "inside.py"]


def test_the_store_is_empty_and_the_real_one_hidden() -> None:
    assert ["/nix/store", "/.nixmill/store"] in _given("--ro-bind", 2)
    assert ["/nix/store"] in _given("--tmpfs", 1)


def test_the_generated_etc_has_nothing_of_the_machine(tmp_path: Path) -> None:
    private_etc.write(tmp_path / "etc", "", online=False)
    made = {str(path.relative_to(tmp_path / "etc")) for path in (tmp_path / "etc").rglob("*") if path.is_file()}
    assert made - {"ld.so.cache"} == {"passwd", "group", "nsswitch.conf", "hosts", "gitconfig", "nix/nix.conf"}
    text = (tmp_path / "etc/nix/nix.conf").read_text()
    assert "include" not in text
    assert "access-tokens =\n" in text
    assert "root" not in (tmp_path / "etc/passwd").read_text()


@pytest.mark.parametrize("online", [False, True])
def test_proxies_are_named_only_where_there_is_one(online: bool) -> None:  # noqa: FBT001 - the case
    made = private_etc.environment("/usr/bin", "/nix/store", online=online)
    assert ("https_proxy" in made) is online
    assert "no_proxy" not in made
    assert "NIX_STORE_DIR" not in made


async def test_programs_are_found_without_links(tmp_path: Path) -> None:
    real = script(tmp_path, "nix-2.0", "")
    (tmp_path / "nix").symlink_to(real)
    found = await system_parts.find(["nix", "no-such-program"], {"PATH": str(tmp_path)})
    assert found.programs["nix"] == str(real)
    assert "no-such-program" not in found.programs
    assert str(real) in found.places
    assert found.path.split(":")[0] == str(tmp_path)
    assert found.python == os.path.realpath(sys.executable)  # noqa: ASYNC240 - as good as none


async def test_the_closure_of_programs_of_a_store_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on NixOS, where programs are links into the store."""
    store = tmp_path / "store"
    program = store / ("a" * 32 + "-nix") / "bin" / "nix"
    program.parent.mkdir(parents=True)
    script(program.parent, "nix", "")
    script(tmp_path, "nix-store", f'echo "$@" > {tmp_path}/asked; echo {store}/x; echo {store}/a')
    monkeypatch.setattr(system_parts, "DEFAULT_STORE_DIR", str(store))
    found = await system_parts.find(["nix"], {"PATH": f"{program.parent}:{tmp_path}:/usr/bin:/bin"})
    assert found.closure == (f"{store}/a", f"{store}/x")
    assert f"--query --requisites {program.parent.parent}" in (tmp_path / "asked").read_text()
    assert not any(place.startswith(str(store)) for place in found.places)


async def test_without_nix_there_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no program 'nix'"):
        await system_parts.find(["nix"], {"PATH": str(tmp_path)})


@pytest.mark.parametrize(
    ("maps", "there"),
    [("0 0 4294967295\n", True), ("0 100000 65536\n", False), ("0 1000 1\n1879048192 5 10\n", True), ("", False)],
)
def test_a_user_of_its_own_is_taken_where_there_can_be_one(maps: str, there: bool) -> None:  # noqa: FBT001 - the case
    assert strange_user.is_mapped(strange_user.FIRST, maps) is there


@pytest.mark.parametrize(
    ("reference", "places"),
    [
        ("git+file:///cache/repositories/x%20y?rev=1", ["/cache/repositories/x y"]),
        ("path:/cache/trees/x", ["/cache/trees/x"]),
        ("/cache/trees/x", ["/cache/trees/x"]),
        ("git+https://example.org/etc", []),
        ("git+file://host/etc", []),
        ("git+ssh://git@example.org/root", []),
        ("github:owner/repository", []),
        ("git+file:///", []),
        ("nixpkgs", []),
    ],
)
def test_only_places_of_this_machine_are_shown_for_a_flake(reference: str, places: list[str]) -> None:
    group = Group((FlakeTarget(reference=reference, attr=()),))
    assert list(map(str, confine.needed(group))) == places
