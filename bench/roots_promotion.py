"""How long a merge of very many attributes takes: `python -m bench.roots_promotion [COUNT]`; 1 above the limit.

A whole server checks a branch that is not pinned; all its results are in the store. Then the branch is merged by
fast-forward: the same tree, so that nothing is evaluated or built, and every attribute is rooted and pinned.
"""

import argparse
import asyncio
import sys
import time
from typing import Final

from bench.server_world import a_server, hint, started
from tests.support.kept import branch, roots_of
from tests.support.server import ServerProgram

COUNT: Final = 10_000
LIMIT_S: Final = 5.0
BATCH: Final = 500
TOML: Final = '[watch]\nbranches = ["main", "change"]\n'
FLAKE: Final = """\
{
  outputs = { self }: {
    checks.x86_64-linux = builtins.listToAttrs (builtins.genList (i: rec {
      name = "attribute-${toString i}";
      value = derivation {
        inherit name;
        system = "x86_64-linux";
        builder = "/bin/sh";
        outputHashMode = "flat";
        outputHashAlgo = "sha256";
        outputHash = builtins.hashString "sha256" name;
      };
    }) COUNT);
  };
}
"""


def _put_outputs(server: ServerProgram, count: int) -> None:
    """Put the outputs of all derivations into the store."""
    files = []
    for number in range(count):
        file = server.state.parent / f"attribute-{number}"
        file.write_text(file.name)
        files.append(str(file))
    for at in range(0, count, BATCH):
        added = server.project.nix_store("--add-fixed", "sha256", *files[at : at + BATCH])
        assert added.count("\n") == len(files[at : at + BATCH]), added


async def _measured(count: int) -> float:
    """Print the figures; return the seconds that the merge's run took."""
    text = FLAKE.replace("COUNT", str(count))
    with a_server(flake__nix=FLAKE.replace("COUNT", "1"), nixmill__toml=TOML) as server:
        _put_outputs(server, count)
        async with started(server) as eye:
            branch(server.project, "change", flake__nix=text)
            await hint(server)
            checked = (await eye.ended(2, 600.0, 0.5))["run"]
            assert checked["verdict"] == "passed", checked
            server.project.git("merge", "-q", "--ff-only", "change")
            pushed = time.perf_counter()
            await hint(server)
            merged = (await eye.ended(3, 600.0, 0.05))["run"]
            seen_s = time.perf_counter() - pushed
        assert merged["verdict"] == "passed", merged
        assert len(roots_of(server.project.store)) >= count
        seconds: float = merged["ended_at"] - merged["started_at"]
        print(f"the branch's run, with its evaluation: {checked['ended_at'] - checked['started_at']:.1f} s")
        print(f"promoting {count:,} attributes: {seconds:.2f} s, {seen_s:.2f} s from the push   limit {LIMIT_S:.0f} s")
        print(merged["sentence"])
    return seconds


def main() -> int:
    """Return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("count", type=int, nargs="?", default=COUNT)
    return int(asyncio.run(_measured(parser.parse_args().count)) > LIMIT_S)


if __name__ == "__main__":
    sys.exit(main())
