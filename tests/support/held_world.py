"""A store in which something is needed that only a cache of ours holds, and the doors that get it from there."""

import contextlib
import itertools
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from nixmill.edge.binary_cache.holdings import CacheHoldings, Limits, ReadCache
from nixmill.edge.daemon import DaemonBuilder, open_store
from nixmill.edge.daemon.store import DaemonStore
from nixmill.edge.daemon.with_caches import BuilderWithCaches, StoreWithCaches
from nixmill.nix import store_path
from nixmill.nix.store_path import StorePath
from tests.support.faulty_cache import publish
from tests.support.nix_world import Spec, instantiate, run, settings_of
from tests.support.scratch_store import ScratchStore

IMPATIENT = Limits(answer_s=0.5, rest_s=0.5, stall_s=0.5)
LIB = Spec("lib", "echo from the cache > $out")


@dataclass(frozen=True)
class Needs:
    """A derivation that needs what another one made, of which the store has nothing any more."""

    lib: StorePath
    app: StorePath
    outputs: Sequence[StorePath]
    """Of `lib`, the one that `app` reads first."""
    directory: Path
    """A binary cache that holds them."""


def needs(
    store: ScratchStore, lib: Spec = LIB, *, name: str = "app", signed: bool = True, compression: str = "zstd"
) -> Needs:
    """Build `lib`, publish it, delete it; `app` is not built."""
    app = Spec(name, "/bin/cat $inputs > $out", inputs=[lib])
    lib_drv, app_drv = (StorePath(drv.partition("!")[0]) for drv in instantiate(store, lib, app))
    outputs = [StorePath(line) for line in run(store, "nix-store", "--realise", lib_drv).split()]
    outputs.sort(key=store_path.name_part)
    directory = publish(store, *outputs, signed=signed, compression=compression)
    run(store, "nix-store", "--delete", *outputs)
    assert not any(Path(path).exists() for path in outputs)
    return Needs(lib_drv, app_drv, outputs, directory)


def deep(count: int) -> Spec:
    """Return a derivation of many outputs, of which each refers to the next."""
    names = [f"o{number:03}" for number in range(count)]
    lines = [f"echo ${following} > ${name}" for name, following in itertools.pairwise(names)]
    return Spec("deep", "; ".join([*lines, f"echo the end > ${names[-1]}"]), {"outputs": names})


@dataclass
class Restoring:
    """The doors over one store."""

    plain: DaemonStore
    holdings: CacheHoldings
    notices: list[str]
    store: StoreWithCaches = field(init=False)
    builder: BuilderWithCaches = field(init=False)

    def __post_init__(self) -> None:
        self.store = StoreWithCaches(self.plain, self.holdings, self.notices.append, self.holdings.public_keys)
        self.builder = BuilderWithCaches(DaemonBuilder(self.plain), self.store)


@contextlib.asynccontextmanager
async def restoring(
    store: ScratchStore, *caches: ReadCache, address: str = "stdio", limits: Limits = IMPATIENT
) -> AsyncIterator[Restoring]:
    """Open the store with these caches behind it."""
    notices: list[str] = []
    async with open_store(address, settings_of(store)) as plain:
        yield Restoring(plain, CacheHoldings(caches, store.store_dir, notices.append, limits), notices)
