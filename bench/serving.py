"""What a binary cache serves over loopback, beside nginx with the same files: one large archive, many narinfos.

`python -m bench.serving` prints both and fails below what was promised; `--quick` takes less of everything. The client
is curl for the archive, and 25 connections of raw sockets for narinfos: as many as Nix opens.
"""

import argparse
import asyncio
import contextlib
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import uvicorn

from nixmill.app.connection import ImpatientProtocol
from nixmill.doors.serving import CacheInfo
from nixmill.edge.binary_cache.disk_served import DiskServed
from nixmill.edge.binary_cache.objects_disk import DiskObjects
from nixmill.nix.hashes import base32
from nixmill.web.cache_front import CacheFront
from tests.support.cache_serving import beyond, connected
from tests.support.server import free_port

NAR_SHARE: Final = 0.7
"""Of nginx's speed that is promised for one large archive."""
NARINFOS_S: Final = 1000.0
CONNECTIONS: Final = 25
ROUNDS: Final = 5
NAR: Final = "nar/0000000000000000000000000000000000000000000000000000.nar.zst"
MIB: Final = 1024 * 1024

NGINX: Final = """
worker_processes 2; daemon off; pid {place}/nginx.pid; error_log {place}/error.log;
events {{ worker_connections 256; }}
http {{
  access_log off; sendfile on; tcp_nopush on; keepalive_requests 100000;
  client_body_temp_path {place}/b; proxy_temp_path {place}/p; fastcgi_temp_path {place}/f;
  uwsgi_temp_path {place}/u; scgi_temp_path {place}/s;
  server {{ listen 127.0.0.1:{port}; root {files}; }}
}}
"""


def main() -> int:
    """Measure, or serve for whoever measures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--serve", nargs=2, metavar=("PORT", "DIRECTORY"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        return _serve(int(options.serve[0]), Path(options.serve[1]))
    with tempfile.TemporaryDirectory(prefix="nixmill-bench-") as made:
        return _measure(Path(made), quick=options.quick)


def _serve(port: int, directory: Path) -> int:
    front = CacheFront(beyond, {"bench": DiskServed(DiskObjects(directory), CacheInfo())})
    config = uvicorn.Config(
        front, port=port, http=ImpatientProtocol, lifespan="off", log_config=None, access_log=False, proxy_headers=False
    )
    uvicorn.Server(config).run()
    return 0


def _measure(place: Path, *, quick: bool) -> int:
    files = place / "files"
    size, count = (128 * MIB, 300) if quick else (1024 * MIB, 1000)
    _fill(files, size, count)
    names = [_narinfo(number) for number in range(count)]
    requests = 2_000 if quick else 20_000
    with contextlib.ExitStack() as stack:
        ours = stack.enter_context(_running(lambda port: _ours(port, files)))
        servers = {"nixmill": ours}
        if shutil.which("nginx"):
            servers["nginx"] = stack.enter_context(_running(lambda port: _nginx(port, place, files)))
        else:
            print("nginx is not installed here, so there is nothing to compare with.")
        speeds = _speeds(servers, 2 if quick else ROUNDS)
        rates = {name: asyncio.run(_rate(url, names, requests)) for name, url in servers.items()}
    for name in servers:
        print(f"{name:8} {size // MIB} MiB at {speeds[name] / MIB:7.0f} MiB/s   {rates[name]:7.0f} narinfos a second")
    return _judged(speeds, rates)


def _judged(speeds: dict[str, float], rates: dict[str, float]) -> int:
    share = speeds["nixmill"] / speeds.get("nginx", speeds["nixmill"])
    print(f"of nginx's speed: {share:.0%} (promised: {NAR_SHARE:.0%}); narinfos promised: {NARINFOS_S:.0f} a second")
    return 0 if share >= NAR_SHARE and rates["nixmill"] >= NARINFOS_S else 1


def _fill(files: Path, size: int, count: int) -> None:
    (files / "nar").mkdir(parents=True)
    piece = os.urandom(MIB)
    with (files / NAR).open("wb") as file:
        for _ in range(size // MIB):
            file.write(piece)
    text = b"StorePath: /nix/store/x\n" + b"References: " + b"x" * 1000 + b"\n"
    for number in range(count):
        (files / _narinfo(number)).write_bytes(text)


def _narinfo(number: int) -> str:
    return f"{base32(number.to_bytes(20, 'little'))}.narinfo"


def _ours(port: int, files: Path) -> list[str]:
    return [sys.executable, "-m", "bench.serving", "--serve", str(port), str(files)]


def _nginx(port: int, place: Path, files: Path) -> list[str]:
    place.chmod(0o755)  # its workers are another user where this is root
    config = place / "nginx.conf"
    config.write_text(NGINX.format(place=place, files=files, port=port))
    return ["nginx", "-c", str(config), "-p", str(place)]


@contextlib.contextmanager
def _running(command: Callable[[int], list[str]]) -> Iterator[str]:
    port = free_port()
    process = subprocess.Popen(command(port), stderr=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"
    try:
        asyncio.run(_ready(url, process))
        yield url
    finally:
        process.terminate()
        process.wait()


async def _ready(url: str, process: "subprocess.Popen[bytes]") -> None:
    async with asyncio.timeout(20):
        while process.poll() is None:
            with contextlib.suppress(ConnectionError):
                async with connected(url):
                    return
            await asyncio.sleep(0.02)
    raise SystemExit(f"{process.args!r} ended before it answered.")


def _speeds(servers: dict[str, str], rounds: int) -> dict[str, float]:
    """Return the median speed of each, in bytes a second; they take turns."""
    seen: dict[str, list[float]] = {name: [] for name in servers}
    for _ in range(rounds):
        for name, url in servers.items():
            seen[name].append(_download(f"{url}/{NAR}"))
    return {name: statistics.median(values) for name, values in seen.items()}


def _download(url: str) -> float:
    done = subprocess.run(
        ["curl", "-sf", "-o", "/dev/null", "-w", "%{speed_download}", url], capture_output=True, text=True, check=True
    )
    return float(done.stdout)


async def _rate(url: str, names: list[str], requests: int) -> float:
    """Return requests a second over all connections, kept alive."""
    left = iter(range(requests))
    began = time.perf_counter()

    async def one() -> None:
        async with connected(url) as client:
            for number in left:
                reply = await client.ask(f"/{names[number % len(names)]}")
                assert reply.code == 200, reply

    await asyncio.gather(*(one() for _ in range(CONNECTIONS)))
    return requests / (time.perf_counter() - began)


if __name__ == "__main__":
    sys.exit(main())
