"""An evaluation of very many attributes on its way through the server.

All derivations differ, and all have the same output, which is there: nothing is built, so that what is measured is
evaluating, recording and showing. Memory is that of the server's process; evaluators are processes of their own.
"""

import asyncio
import contextlib
import hashlib
import time
from collections.abc import AsyncIterator
from typing import Any, Final

import httpx2

from bench.server_world import MIB, Eye, Figure, Options, a_server, hint, percentile, process_of, started
from tests.support.server import ServerProgram

SIZES: Final = (10_000, 20_000)
LARGE: Final = 100_000
PAGE_MS: Final = 300.0
ROUNDS: Final = 20
CONTENT: Final = "the same\n"
FLAKE: Final = """\
{
  outputs = { self }: {
    checks.x86_64-linux = builtins.listToAttrs (builtins.genList (i: {
      name = "attribute-${toString i}";
      value = derivation {
        name = "same";
        system = "x86_64-linux";
        builder = "/bin/sh";
        args = [ "-c" "exit 1 # ${toString i} ${if i / 100 * 100 == i then "SALT" else ""}" ];
        outputHashMode = "flat";
        outputHashAlgo = "sha256";
        outputHash = "HASH";
      };
    }) COUNT);
  };
}
"""


async def large(options: Options) -> AsyncIterator[Figure]:
    """Measure time and memory of large evaluations, and their pages."""
    sizes = (1000,) if options.quick else (*SIZES, LARGE) if options.large else SIZES
    for size in sizes:
        with a_server(flake__nix=_flake(1, "first")) as server:
            _put_output(server)
            async with started(server) as eye:
                for number, salt in ((2, "a"), (3, "b")):
                    kind = "all new" if number == 2 else "1 % changed"
                    async for figure in _ingest(server, eye, number, _flake(size, salt), size):
                        yield figure._replace(name=f"{size:,}, {kind}: {figure.name}")
                async for figure in _pages(server, 3, size):
                    yield figure


def _flake(count: int, salt: str) -> str:
    digest = hashlib.sha256(CONTENT.encode()).hexdigest()
    return FLAKE.replace("COUNT", str(count)).replace("SALT", salt).replace("HASH", digest)


def _put_output(server: ServerProgram) -> None:
    """Put the output of all derivations into the store."""
    file = server.state.parent / "same"
    file.write_text(CONTENT)
    said = server.project.nix_store("--add-fixed", "sha256", str(file))
    assert said.strip().endswith("-same"), said


async def _ingest(server: ServerProgram, eye: Eye, number: int, text: str, size: int) -> AsyncIterator[Figure]:
    process = process_of(server)
    before, cpu = process.resident, process.cpu_s
    process.forget_peak()
    server.project.commit(flake__nix=text)
    pushed = time.perf_counter()
    await hint(server)
    asking = asyncio.create_task(_ask_on(server))
    await eye.until(f"/r/{number}", lambda page: bool(_all(page)), 900, 0.1)
    first = time.perf_counter() - pushed
    page = await eye.ended(number, 900, 0.5)
    ended = time.perf_counter() - pushed
    asking.cancel()
    waits = await asking
    assert page["run"]["verdict"] == "passed", page["run"]
    assert _all(page) == size, page["counts"]
    peak = process.peak
    yield Figure("first attribute visible", first, "s")
    yield Figure("verdict", ended, "s", remark=f"{(process.cpu_s - cpu):.1f} s of them processor time of the server")
    yield Figure("memory before", before, "MiB")
    yield Figure("most memory", peak, "MiB", remark=f"{(peak - before) * MIB / size:,.0f} bytes per attribute")
    yield Figure("memory afterwards", process.resident, "MiB")
    yield Figure("others wait for the home page meanwhile, p95", percentile(waits, 0.95), "ms")
    yield Figure("… largest", max(waits), "ms", remark=f"of {len(waits)}")


def _all(page: Any) -> int:  # noqa: ANN401 - the JSON twin of a page
    return int(page["counts"].get("all", 0))


async def _ask_on(server: ServerProgram) -> list[float]:
    """Ask for the home page four times a second until cancelled; return how many milliseconds each took."""
    waits: list[float] = []
    async with httpx2.AsyncClient(base_url=server.url, timeout=60) as client:
        with contextlib.suppress(asyncio.CancelledError):
            while True:
                waits.append(await _took(client, "/"))
                await asyncio.sleep(0.25)
    return waits


async def _took(client: httpx2.AsyncClient, path: str) -> float:
    before = time.perf_counter()
    answer = await client.get(path, headers={"Accept": "text/html"})
    assert answer.status_code == 200, (path, answer.status_code)
    return (time.perf_counter() - before) * 1e3


async def _pages(server: ServerProgram, number: int, size: int) -> AsyncIterator[Figure]:
    last = f"/r/{number}?show=all&page={size // 200}"
    async with httpx2.AsyncClient(base_url=server.url, timeout=60) as client:
        for path in (f"/r/{number}", f"/r/{number}?show=all", last, f"/r/{number}?show=all&find=attribute-77"):
            took = [await _took(client, path) for _ in range(ROUNDS)]
            yield Figure(f"{size:,}: {path}, median of {ROUNDS}", percentile(took, 0.5), "ms", PAGE_MS)
            yield Figure(f"{size:,}: {path}, p95", percentile(took, 0.95), "ms", PAGE_MS)
