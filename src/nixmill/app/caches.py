"""Opens the binary caches of the settings: as places to publish to, to read from, and to serve."""

import functools
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

import structlog

from nixmill.config.caches import CacheKind, CacheSettings
from nixmill.config.server import ServerSettings
from nixmill.core.errors import InputError
from nixmill.core.installation import NixInstallation
from nixmill.core.publish import takes_project
from nixmill.core.upload import ResultClass
from nixmill.doors import DoorError, Logs
from nixmill.doors.cache import Destination
from nixmill.doors.serving import CacheInfo, Served
from nixmill.edge.binary_cache.cache import BinaryCache
from nixmill.edge.binary_cache.cas import CasCache
from nixmill.edge.binary_cache.cas_served import CasServed
from nixmill.edge.binary_cache.disk_served import DiskServed
from nixmill.edge.binary_cache.holdings import ReadCache
from nixmill.edge.binary_cache.holdings_http import HttpFiles
from nixmill.edge.binary_cache.keys import read_keys
from nixmill.edge.binary_cache.objects_disk import DiskObjects
from nixmill.edge.binary_cache.objects_served import ObjectsServed
from nixmill.edge.binary_cache.open import open_cache
from nixmill.edge.binary_cache.realisations import WithRealisations
from nixmill.edge.binary_cache.served_files import ServedFiles
from nixmill.edge.binary_cache.store_destination import StoreDestination
from nixmill.edge.binary_cache.store_logs import AttemptLogs
from nixmill.edge.binary_cache.store_served import StoreServed
from nixmill.edge.binary_cache.with_logs import WithLogs
from nixmill.edge.binary_cache.with_server_logs import WithServerLogs
from nixmill.edge.daemon.store import DaemonStore
from nixmill.edge.database.database import Database
from nixmill.edge.database.published_logs import SqlPublishedLogs
from nixmill.edge.database.realisations import SqlRealisations
from nixmill.edge.database.shelf import SqlShelf
from nixmill.edge.database.uploads import RECHECK_S
from nixmill.edge.notify.credentials import Credentials
from nixmill.edge.publish_command import CommandDestination
from nixmill.edge.publish_copy import CopyDestination
from nixmill.edge.publish_remembered import Remembered
from nixmill.edge.system_clock import SystemClock
from nixmill.engine.cache_keeper import OwnCache, limits_of
from nixmill.engine.owed import rule_of
from nixmill.nix.signature import PublicKey, SecretKey, SigningKeyError, public_key

log = structlog.get_logger("nixmill.caches")


@dataclass(slots=True)
class OpenCaches:
    """All caches of a server."""

    destinations: dict[str, Destination] = field(default_factory=dict)
    own: list[OwnCache] = field(default_factory=list)
    served: dict[str, Served] = field(default_factory=dict)
    read: list[ReadCache] = field(default_factory=list)
    public_keys: dict[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheParts:
    """What caches are opened with."""

    settings: ServerSettings
    store: DaemonStore
    database: Database
    logs: Logs
    store_dir: str
    stack: AsyncExitStack
    """Closes what has to be closed."""

    def shelf(self, cache: CacheSettings, believed_s: float | None = None) -> SqlShelf:
        """Return what was published to a cache that keeps no list itself."""
        return SqlShelf(self.database, cache.name, self.store_dir, SystemClock().now, believed_s=believed_s)

    def published_logs(self, cache: CacheSettings) -> SqlPublishedLogs:
        """Return which logs readers of a cache may see."""
        takes = functools.partial(takes_project, rule_of(cache))
        return SqlPublishedLogs(self.database, self.store_dir, takes)

    def realisations(self, cache: CacheSettings) -> SqlRealisations:
        """Return what derivations came out as, as far as a cache may have it."""
        trusted = cache.results is not ResultClass.PULL_REQUEST
        return SqlRealisations(self.database, self.store_dir, trusted=trusted)


async def open_caches(parts: CacheParts) -> OpenCaches:
    """Open them all; one that cannot be reached now is none the less published to later."""
    opened, settings = OpenCaches(), parts.settings
    for cache in settings.caches:
        keys = read_keys(cache.keys, settings.credentials)
        opened.public_keys[cache.name] = tuple(key.public() for key in keys)
        scratch, environment = settings.state / "publishing", parts.store.settings.environment
        match cache.kind:
            case CacheKind.DISK | CacheKind.S3:
                await _open_own(opened, cache, parts)
            case CacheKind.STORE:
                _open_straight(opened, cache, keys, parts)
            case CacheKind.COPY:
                opened.destinations[cache.name] = CopyDestination(cache.url, scratch, environment)
                _read_over_http(opened, cache, parts.stack)
            case CacheKind.COMMAND:
                secrets = Credentials(settings.credentials)
                named = {name.upper().replace("-", "_"): secrets.of_settings(name) for name in cache.environment}
                command = CommandDestination(cache.command, scratch, environment, named)
                opened.destinations[cache.name] = Remembered(command, parts.shelf(cache, believed_s=RECHECK_S))
    return opened


async def _open_own(opened: OpenCaches, cache: CacheSettings, parts: CacheParts) -> None:
    """Open a cache whose objects are ours."""
    own = open_cache(cache, parts.settings.credentials, parts.settings.state, parts.store_dir)
    try:
        await own.prepare()
    except DoorError as error:
        log.warning("a cache cannot be reached now", cache=cache.name, fault=str(error))
    published_logs = parts.published_logs(cache)
    logged = WithLogs(own, parts.logs, published_logs.newest_of, log.bind(cache=cache.name))
    opened.destinations[cache.name] = WithRealisations(logged, own, parts.realisations(cache).of)
    opened.own.append(OwnCache(name=cache.name, stock=own, limits=limits_of(cache), keys=own.signer.public))
    served = _serve(own, _info(cache, parts))
    opened.served[cache.name] = WithServerLogs(served, AttemptLogs(parts.logs, published_logs.newest))
    keys = tuple(public_key(text) for text in opened.public_keys[cache.name])
    _read(opened, cache, ReadCache(name=cache.name, files=ServedFiles(served), keys=keys, unsigned=not keys))


def _open_straight(opened: OpenCaches, cache: CacheSettings, keys: Sequence[SecretKey], parts: CacheParts) -> None:
    """Open a cache that is served from the store; raise `InputError` where its files are not here."""
    if not parts.store.local:
        raise InputError(
            f"The cache {cache.name} is of kind `store`, and the store {parts.store.name} is not on this machine: its"
            " files cannot be served.",
            "Choose another kind for it, such as `disk`.",
        )
    clock = SystemClock()
    shelf = parts.shelf(cache)
    opened.destinations[cache.name] = StoreDestination(parts.store, shelf)
    opened.served[cache.name] = StoreServed(
        parts.store,
        shelf.member,
        keys,
        _info(cache, parts),
        monotonic=clock.monotonic,
        logs=AttemptLogs(parts.logs, parts.published_logs(cache).newest),
        realised=parts.realisations(cache).by_id,
    )


def _info(cache: CacheSettings, parts: CacheParts) -> CacheInfo:
    return CacheInfo(store_dir=parts.store_dir, priority=cache.priority, private=cache.private)


def trusted_keys(nix: NixInstallation, caches: Sequence[CacheSettings]) -> list[PublicKey]:
    """Return the keys that Nix believes; say which `upstream-keys` are not among them."""
    found = []
    for text in nix.settings.trusted_public_keys:
        try:
            found.append(public_key(text))
        except SigningKeyError as error:
            log.warning("one of Nix's trusted-public-keys cannot be read", reason=str(error))
    known = {key.name for key in found}
    for cache in caches:
        if unknown := [name for name in cache.upstream_keys if name not in known]:
            log.warning("upstream-keys that Nix does not trust excuse nothing", cache=cache.name, keys=unknown)
    return found


def _serve(own: BinaryCache | CasCache, info: CacheInfo) -> Served:
    objects = own.objects
    plain = DiskServed(objects, info) if isinstance(objects, DiskObjects) else ObjectsServed(objects, info)
    return CasServed(own.reader, plain) if isinstance(own, CasCache) else plain


def _read_over_http(opened: OpenCaches, cache: CacheSettings, stack: AsyncExitStack) -> None:
    """Read from a cache that is published to by HTTP, where its keys are known."""
    keys = tuple(public_key(text) for text in opened.public_keys[cache.name])
    if keys and cache.url.startswith(("https://", "http://")):
        files = HttpFiles(cache.url, cache.name)
        stack.push_async_callback(files.aclose)
        _read(opened, cache, ReadCache(name=cache.name, files=files, keys=keys))


def _read(opened: OpenCaches, cache: CacheSettings, files: ReadCache) -> None:
    """Let runs fetch from a cache, but never what pull requests built: here nobody could tell it from the rest."""
    if cache.results is not ResultClass.PULL_REQUEST:
        opened.read.append(files)
