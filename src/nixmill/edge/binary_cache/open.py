"""Caches of our own as the settings describe them."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from nixmill.config.caches import CacheKind, CacheSettings
from nixmill.edge.binary_cache.cache import BinaryCache
from nixmill.edge.binary_cache.cas import CasCache
from nixmill.edge.binary_cache.faults import explained, fault
from nixmill.edge.binary_cache.keys import read_keys
from nixmill.edge.binary_cache.objects_disk import DiskObjects
from nixmill.edge.binary_cache.objects_s3 import S3Objects, S3Place
from nixmill.edge.private_files import make_directory


def open_cache(settings: CacheSettings, credentials: Mapping[str, Path], state: Path, store_dir: str) -> BinaryCache:
    """Return a cache of kind `disk` or `s3` in the format that is set; ask nothing of it yet.

    Raises `DoorError` where a credential is not what it should be.
    """
    keys = read_keys(settings.keys, credentials)
    objects: DiskObjects | S3Objects
    scratch: Callable[[], Path]
    if settings.kind is CacheKind.DISK:
        objects = DiskObjects(disk_directory(settings, state), private=settings.private)
        scratch = objects.make_scratch
    elif settings.kind is CacheKind.S3:
        objects = S3Objects(s3_place(settings, credentials))
        scratch = partial(_made, state / "packing" / settings.name)
    else:
        raise ValueError(f"a cache of kind {settings.kind} is not one of ours")
    level, priority = settings.compression_level, settings.priority
    match settings.format:
        case "nar":
            return BinaryCache(objects, keys, store_dir=store_dir, scratch=scratch, level=level, priority=priority)
        case "cas":
            return CasCache(objects, keys, store_dir=store_dir, level=level, priority=priority)


def disk_directory(settings: CacheSettings, state: Path) -> Path:
    """Return where the objects of a cache of kind `disk` are."""
    return settings.directory or state / "caches" / settings.name


def s3_place(settings: CacheSettings, credentials: Mapping[str, Path]) -> S3Place:
    """Return where the bucket of a cache of kind `s3` is."""
    return S3Place(
        bucket=settings.bucket,
        endpoint=settings.endpoint,
        region=settings.region,
        prefix=settings.prefix,
        access_key=_secret(settings.access_key, credentials),
        secret_key=_secret(settings.secret_key, credentials),
    )


def _made(directory: Path) -> Path:
    make_directory(directory)
    return directory


def _secret(name: str, credentials: Mapping[str, Path]) -> str:
    if not name:
        return ""
    if name not in credentials:
        raise fault(f"There is no credential {name}. Name its file in [credentials].", action="read", subject=name)
    with explained(f"read the credential {name} for", str(credentials[name])):
        return credentials[name].read_text(encoding="utf-8").strip()
