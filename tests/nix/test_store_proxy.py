"""The store proxy between real Nix programs and a real daemon."""

import asyncio
import contextlib
import json
from pathlib import Path

import pytest

from nixmill.nix.store_path import StorePath
from tests.support.nix_world import Spec, instantiate, run
from tests.support.proxied_store import proxied
from tests.support.scratch_store import ScratchStore

EVALUATE = ("nix-instantiate", "--eval", "--read-write-mode", "--expr")
SYSTEM = 'system = builtins.currentSystem; builder = "/bin/sh";'
SIMPLE = f"""
let tool = derivation {{ name = "tool"; {SYSTEM} }};
in derivation {{
  name = "thing"; {SYSTEM} inherit tool;
  script = builtins.toFile "script" "echo hello";
  source = builtins.path {{ path = ./source; name = "source"; }};
}}
"""


def source_tree(directory: Path) -> Path:
    (directory / "source").mkdir()
    (directory / "source" / "big").write_bytes(bytes(range(256)) * 4096)
    (directory / "source" / "small").write_text("small")
    expression = directory / "default.nix"
    expression.write_text(SIMPLE)
    return expression


def secret_of(store: ScratchStore, directory: Path) -> StorePath:
    """Return a path that is valid and none of the evaluation's business."""
    secret = directory / "secret"
    secret.mkdir()
    (secret / "flake.nix").write_text('{ outputs = _: { word = "swordfish"; }; }')
    return StorePath(run(store, "nix-store", "--add", str(secret)).strip())


async def test_an_evaluation_writes_the_same_derivations_as_directly(
    fresh_store: ScratchStore, store: ScratchStore, tmp_path: Path
) -> None:
    expression = source_tree(tmp_path)
    async with proxied(fresh_store) as world:
        done = await world.run("nix-instantiate", str(expression))
    assert done.code == 0, done.said
    assert run(fresh_store, "nix-instantiate", str(expression)) == done.output
    closure = set(run(fresh_store, "nix-store", "--query", "--requisites", done.output.strip()).split())
    assert closure == set(world.shown)
    assert not world.proxy.refused


async def test_what_is_readable_is_shown_when_it_is_asked_for(fresh_store: ScratchStore, tmp_path: Path) -> None:
    given = secret_of(fresh_store, tmp_path)
    expression = f'builtins.readFile ((builtins.storePath {given}) + "/flake.nix")'
    async with proxied(fresh_store, [given]) as world:
        assert world.shown == []
        done = await world.run("nix-instantiate", "--eval", "--expr", expression)
        assert "swordfish" in done.output
        assert world.shown == [given]


async def test_a_foreign_path_is_not_valid(fresh_store: ScratchStore, tmp_path: Path) -> None:
    foreign = secret_of(fresh_store, tmp_path)
    async with proxied(fresh_store) as world:
        for arguments in (
            ("nix-store", "--check-validity", foreign),
            ("nix-store", "--query", "--references", foreign),
            ("nix-store", "--dump-db", foreign),
            ("nix", "path-info", foreign),
            ("nix", "store", "cat", f"{foreign}/flake.nix"),
            (*EVALUATE, f"builtins.storePath {foreign}"),
            ("nix-store", "--realise", foreign),
        ):
            done = await world.run(*arguments)
            assert done.code != 0, arguments
            assert "swordfish" not in done.output + done.said
    assert world.shown == []


async def test_a_foreign_path_in_a_string_context_fails_alone(fresh_store: ScratchStore, tmp_path: Path) -> None:
    foreign = secret_of(fresh_store, tmp_path)
    stolen = f'builtins.appendContext "x" {{ "{foreign}" = {{ path = true; }}; }}'
    expression = f'derivation {{ name = "thief"; {SYSTEM} loot = {stolen}; }}'
    honest = f'(derivation {{ name = "honest"; {SYSTEM} }}).drvPath'
    async with proxied(fresh_store) as world:
        done = await world.run("nix", "repl", stdin=f"({expression}).drvPath\n{honest}\n")
    assert "-honest.drv" in done.output
    assert "-thief.drv" not in done.output
    assert f"Using {foreign} was refused" in done.said + done.output
    assert "Knowing the name of a path gives no right to read it" in world.proxy.refused[0]
    assert [path.split("-")[-1] for path in world.shown] == ["honest.drv"]


async def test_a_foreign_derivation_in_a_string_context_is_refused(fresh_store: ScratchStore) -> None:
    (foreign,) = instantiate(fresh_store, Spec("foreign", "echo > $out"))
    stolen = f'builtins.appendContext "x" {{ "{foreign}" = {{ outputs = [ "out" ]; }}; }}'
    async with proxied(fresh_store) as world:
        done = await world.run(
            "nix-instantiate", "--expr", f'derivation {{ name = "thief"; {SYSTEM} loot = {stolen}; }}'
        )
    assert done.code != 0
    assert foreign in world.proxy.refused[0]
    assert world.shown == []


@pytest.mark.parametrize("kind", ["tarball", "path"])
async def test_knowing_a_hash_gives_no_right_to_read(fresh_store: ScratchStore, tmp_path: Path, kind: str) -> None:
    foreign = secret_of(fresh_store, tmp_path)
    info = json.loads(run(fresh_store, "nix", "path-info", "--json", foreign))
    (facts,) = info if isinstance(info, list) else info.values()
    run_elsewhere = StorePath(run(fresh_store, "nix-store", "--add", str(tmp_path / "secret")).strip())
    assert run_elsewhere == foreign
    name = foreign.split("-", 1)[1]
    where = 'url = "http://127.0.0.1:1/secret.tar.gz"' if kind == "tarball" else 'path = "/nonexistent"'
    expression = (
        f'builtins.readFile ((builtins.fetchTree {{ type = "{kind}"; {where}; '
        f'narHash = "{facts["narHash"]}"; }}).outPath + "/flake.nix")'
    )
    tarball = f'url = "http://127.0.0.1:1/x.tar.gz"; name = "{name}"; sha256 = "{facts["narHash"]}";'
    fetch = f"builtins.fetchTarball {{ {tarball} }}"
    async with proxied(fresh_store) as world:
        for text in (expression, f'builtins.readFile ({fetch} + "/flake.nix")'):
            done = await world.run("nix", "eval", "--option", "download-attempts", "1", "--impure", "--expr", text)
            assert done.code != 0
            assert "swordfish" not in done.output
        assert foreign not in world.shown


NAMES = {
    "climbing": '"../../../../tmp/evil"',
    "slash": '"a/b"',
    "newline": '"a\\nb"',
    "markup": '"<img onerror>"',
    "dot": '"."',
    "derivation": '"x.drv"',
}


@pytest.mark.parametrize("name", NAMES)
async def test_names_that_are_paths_make_no_derivation(fresh_store: ScratchStore, name: str) -> None:
    async with proxied(fresh_store) as world:
        done = await world.run("nix-instantiate", "--expr", f"derivation {{ name = {NAMES[name]}; {SYSTEM} }}")
        good = await world.run(
            *EVALUATE,
            f'map (d: d.drvPath) (builtins.attrValues {{ {NAMES[name]} = derivation {{ name = "x"; {SYSTEM} }}; }})',
            "--strict",
        )
    assert done.code != 0
    assert good.code == 0
    assert [path[len(fresh_store.store_dir) + 34 :] for path in world.shown] == ["x.drv"]


ESCAPES = {
    "noChroot": "__noChroot = true;",
    "host paths": '__impureHostDeps = [ "/etc" ];',
    "profile": '__sandboxProfile = "(allow default)";',
    "networking": "__darwinAllowLocalNetworking = true;",
    "structured": "__structuredAttrs = true; __noChroot = true;",
}


@pytest.mark.parametrize("escape", ESCAPES)
async def test_derivations_that_leave_the_sandbox_are_refused(fresh_store: ScratchStore, escape: str) -> None:
    async with proxied(fresh_store) as world:
        done = await world.run("nix-instantiate", "--expr", f'derivation {{ name = "x"; {SYSTEM} {ESCAPES[escape]} }}')
    assert done.code != 0
    assert "asks for a build outside the sandbox" in done.said
    assert world.shown == []


async def test_a_derivation_written_as_a_file_is_judged_as_well(fresh_store: ScratchStore) -> None:
    text = 'Derive([("out","/etc/x","","")],[],[],"x86_64-linux","/bin/sh",[],[])'
    async with proxied(fresh_store) as world:
        done = await world.run(*EVALUATE, f"builtins.toFile \"x.drv\" ''{text}''")
    assert done.code != 0
    assert "is not a path in the store" in "".join(world.proxy.refused) or "is not a store path" in done.said


async def test_nothing_is_built_deleted_or_rooted(fresh_store: ScratchStore, tmp_path: Path) -> None:
    foreign = secret_of(fresh_store, tmp_path)
    marker = tmp_path / "built"
    expression = f'derivation {{ name = "x"; {SYSTEM} args = [ "-c" "echo > {marker}; echo > $out" ]; }}'
    async with proxied(fresh_store) as world:
        for arguments in (
            ("nix-build", "--no-out-link", "--expr", expression),
            ("nix-build", "--no-out-link", "--option", "build-hook", "/bin/false", "--expr", expression),
            (*EVALUATE, f"import ({expression})"),
            ("nix-store", "--gc"),
            ("nix", "store", "delete", foreign),
            ("nix-store", "--delete", foreign),
            ("nix", "store", "optimise"),
            ("nix-store", "--verify"),
            ("nix-store", "--add-root", str(tmp_path / "root"), "--realise", foreign),
            ("nix-store", "--query", "--roots", foreign),
        ):
            done = await world.run(*arguments)
            assert done.code != 0, arguments
            assert "refused" in done.said, (arguments, done.said)
    assert not marker.exists()
    assert await asyncio.to_thread(Path(foreign).exists)
    assert foreign not in world.shown


async def test_imports_from_derivations_are_built_where_they_are_allowed(fresh_store: ScratchStore) -> None:
    inner = f'derivation {{ name = "inner"; {SYSTEM} args = [ "-c" "echo 40 > $out" ]; }}'
    outer = f'derivation {{ name = "outer"; {SYSTEM} args = [ "-c" "echo ${{{inner}}} > $out" ]; }}'
    async with proxied(fresh_store, allow_builds=True) as world:
        done = await world.run(*EVALUATE, f"import ({inner}) + 2")
        assert done.output.strip() == "42", done.said
        deep = await world.run(*EVALUATE, f"builtins.readFile ({outer})")
        assert "-inner" in deep.output, deep.said
        (foreign,) = instantiate(fresh_store, Spec("foreign", "echo > $out"))
        refused = await world.run("nix-store", "--realise", foreign)
    assert refused.code != 0
    assert {path.split("-")[-1] for path in world.shown} == {"inner.drv", "inner", "outer.drv", "outer"}


async def test_a_build_ends_when_its_evaluation_does(fresh_store: ScratchStore, tmp_path: Path) -> None:
    marker = tmp_path / "begun"
    script = f"echo > {marker}; while :; do /bin/sleep 100; done"
    endless = f'derivation {{ name = "endless"; {SYSTEM} args = [ "-c" "{script}" ]; }}'
    async with proxied(fresh_store, allow_builds=True) as world:
        program = asyncio.ensure_future(world.run(*EVALUATE, f"import ({endless})"))
        async with asyncio.timeout(20):
            while not await asyncio.to_thread(marker.exists):  # noqa: ASYNC110 - a builder tells nobody
                await asyncio.sleep(0.01)
        program.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await program
        for process in world.programs:
            process.kill()
            await process.wait()
        async with asyncio.timeout(20):
            await asyncio.gather(*(daemon.wait() for daemon in world.daemons))


async def test_flakes_are_evaluated(fresh_store: ScratchStore, tmp_path: Path) -> None:
    library, flake = tmp_path / "library", tmp_path / "flake"
    library.mkdir()
    flake.mkdir()
    (library / "flake.nix").write_text('{ outputs = _: { word = "from the library"; }; }')
    thing = 'derivation { name = "thing"; system = "x86_64-linux"; builder = "/bin/sh"; word = library.word; }'
    (flake / "flake.nix").write_text(
        f'{{ inputs.library.url = "path:{library}"; outputs = {{ self, library }}: {{ '
        f"packages.x86_64-linux.thing = {thing}; checks.x86_64-linux.thing = self.packages.x86_64-linux.thing; }}; }}"
    )
    run(fresh_store, "nix", "flake", "lock", f"path:{flake}")
    async with proxied(fresh_store) as world:
        found = await world.run("nix", "eval", "--raw", f"path:{flake}#packages.x86_64-linux.thing.drvPath")
        assert found.output.endswith("-thing.drv"), found.said
        checked = await world.run("nix", "flake", "check", "--no-build", f"path:{flake}")
        assert checked.code == 0, checked.said
        refused = await world.run("nix", "flake", "check", f"path:{flake}")
        assert refused.code != 0
        assert "import-from-derivation" in "".join(world.proxy.refused)
    directly = run(fresh_store, "nix", "eval", "--raw", f"path:{flake}#packages.x86_64-linux.thing.drvPath")
    assert directly == found.output
