"""How caches look on a terminal. Pure."""

from collections.abc import Sequence

import msgspec

from nixmill.cli.render.paint import Paint
from nixmill.cli.render.table import table
from nixmill.config.caches import CacheKind, CacheSettings
from nixmill.core import cache_use
from nixmill.core.terminal_text import counted, number, sanitise, size
from nixmill.core.upload import ResultClass
from nixmill.engine.cache_desk import retention
from nixmill.engine.cache_verifier import Trouble


class CacheRow(msgspec.Struct, frozen=True, kw_only=True):
    """A cache in a list."""

    name: str
    kind: CacheKind
    results: ResultClass
    paths: int | None
    """None: only the other side knows."""
    size: int | None
    """Bytes, likewise."""
    waiting: int
    """Uploads under way."""
    failed: int
    """Uploads that were given up or refused."""


def listing(rows: Sequence[CacheRow], paint: Paint, columns: int) -> list[str]:
    """Return a table of caches."""
    head = ("name", "kind", "results", "paths", "size", "waiting", "failed")
    cells = [head, *(_cells(row) for row in rows)]
    return table(cells, "lllrrrr", paint, columns, indent="")


def page(row: CacheRow, cache: CacheSettings, keys: Sequence[str], url: str) -> list[str]:
    """Return all that those need who look after a cache, or read from it."""
    kept = retention(cache)
    lines = [f"{row.name}: {row.results} results, kind {row.kind}", *_contents(row), *([kept] if kept else []), ""]
    if cache.kind is CacheKind.COPY:
        return [*lines, f"Published to {sanitise(cache.url, colour=False)}"]
    if cache.kind is CacheKind.COMMAND:
        return [*lines, f"Published by {sanitise(' '.join(cache.command), colour=False)}"]
    address = f"{url.rstrip('/')}/cache/{row.name}"
    lines += ["In nix.conf of whoever reads it:"]
    lines += [f"  {line}" for line in cache_use.nix_conf(address, keys).splitlines()]
    if not keys:
        lines.append("  # It is not signed: clients refuse it, but for a root with `require-sigs = false`.")
    return [*lines, *(_private(address) if cache.private else [])]


def trouble(found: Trouble) -> list[str]:
    """Return what is wrong with a path, and what became of it."""
    lines = [found.path, *(f"  {sanitise(fault, colour=False)}" for fault in found.faults)]
    return [*lines, f"  {sanitise(found.repair, colour=False)}"] if found.repair else lines


def _cells(row: CacheRow) -> tuple[str, ...]:
    paths = "" if row.paths is None else number(row.paths)
    bytes_ = "" if row.size is None else size(row.size)
    return row.name, row.kind, row.results, paths, bytes_, number(row.waiting), number(row.failed)


def _contents(row: CacheRow) -> list[str]:
    lines = []
    if row.paths is not None and row.size is not None:
        lines.append(f"{counted(row.paths, 'path')}, {size(row.size)}")
    lines.append(f"uploads: {number(row.waiting)} waiting, {number(row.failed)} given up")
    if row.failed:
        lines.append(f"To try those again: nixmill cache retry {row.name}")
    return lines


def _private(address: str) -> list[str]:
    return [
        "",
        "Reading needs a token, in the file that `netrc-file` of nix.conf names (/etc/nix/netrc), mode 0600:",
        f"  {cache_use.netrc(address).strip()}",
        "A token: one of the cache's `readers`, or your own with the scope read (Account, Tokens).",
    ]
