"""Objects of a cache in a bucket of an S3 service.

Small objects are put by one request that the service refuses where there is one already (If-None-Match); one that does
not know that condition is asked first. Large ones go up in parts. The client is used from threads; requests that fail
for a reason that passes are tried again by it.
Source: Amazon S3 API reference, "Conditional writes"; https://developmentseed.org/obstore.
"""

import asyncio
import concurrent.futures
import contextlib
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final, ParamSpec, TypeVar

import msgspec
import obstore
from obstore.exceptions import (
    AlreadyExistsError,
    BaseError,
    NotSupportedError,
    PermissionDeniedError,
    PreconditionError,
    UnauthenticatedError,
)
from obstore.store import S3Store

from nixmill.doors import DoorError
from nixmill.doors.cache import StoredObject
from nixmill.edge.binary_cache.batches import Content, Layer
from nixmill.edge.binary_cache.faults import fault
from nixmill.edge.binary_cache.names import LISTING, NARINFO, check_name, is_name
from nixmill.nix import narinfo

if TYPE_CHECKING:
    from obstore import GetResult
    from obstore.store import S3Config  # neither exists when the program runs

P = ParamSpec("P")
T = TypeVar("T")

THREADS: Final = 32
"""Requests at a time."""
PART_BYTES: Final = 16 * 1024 * 1024
"""Of a large object; a service takes 10,000 parts of one, 160 GB."""
PARTS_AT_ONCE: Final = 4
WHOLE_MAX: Final = PART_BYTES
"""Largest object that is put by one request."""
CHUNK_BYTES: Final = 1024 * 1024
LISTED: Final = 1000
DELETED: Final = 1000
"""What one request lists or deletes."""
RETRIES: Final = 6
RETRY_FOR: Final = timedelta(seconds=120)
CONNECT: Final = timedelta(seconds=10)
REQUEST: Final = timedelta(minutes=10)
_FORBIDDEN: Final = (PermissionDeniedError, UnauthenticatedError)
_MEDIA_TYPES: Final = {NARINFO: narinfo.MEDIA_TYPE, LISTING: "application/json", ".zst": "application/zstd"}
_UNKNOWN_CONDITION: Final = ("NotImplemented", "not implemented", "501")


class S3Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where a bucket is, and who may write to it."""

    bucket: str
    endpoint: str = ""
    """URL of the service; empty: that of AWS."""
    region: str = "us-east-1"
    prefix: str = ""
    """In front of all names."""
    access_key: str = ""
    """Empty, with `secret_key`: whatever the environment says."""
    secret_key: str = ""

    def __repr__(self) -> str:
        """Show no key."""
        return f"<bucket {self.bucket} at {self.endpoint or 'AWS'}>"


class S3Objects:
    """A bucket, or the part of one below a prefix."""

    def __init__(self, place: S3Place) -> None:
        """Ask nothing of the service yet."""
        self.name = f"the bucket {place.bucket}" + (f" at {place.endpoint}" if place.endpoint else "")
        self._store = _store(place)
        self._threads = concurrent.futures.ThreadPoolExecutor(THREADS, "s3")
        self._conditional = True

    async def size(self, name: str) -> int | None:
        """Return the bytes of an object; None where there is none."""
        return await self._do("look into", name, self._size, check_name(name))

    async def read(self, name: str, start: int = 0, length: int | None = None) -> AsyncIterator[bytes]:
        """Yield (a part of) an object; nothing where there is none."""
        check_name(name)
        if length is not None and length <= 0:
            return
        chunks = await self._do("read from", name, self._open, name, start, length)
        while chunk := await self._do("read from", name, next, chunks, b""):
            yield chunk

    async def put(self, name: str, content: Content, *, replace: bool = False) -> bool:
        """Store an object, durable on return; False where there was one, which stays unless `replace`."""
        return await self._do("write to", name, self._put, check_name(name), content, replace)

    async def put_all(self, layers: Sequence[Layer]) -> Sequence[Sequence[bool]]:
        """Store objects, those of a layer at once; see `Batches`."""
        for name in (name for layer in layers for name, _ in layer):
            check_name(name)
        answers = []
        for layer in layers:
            puts = [asyncio.ensure_future(self.put(name, content)) for name, content in layer]
            await asyncio.gather(*puts, return_exceptions=True)  # none is still under way when one has failed
            answers.append([put.result() for put in puts])
        return answers

    async def delete(self, names: Collection[str]) -> None:
        """Delete objects; those that are not there are none the worse for it."""
        doomed = [check_name(name) for name in names]
        for at in range(0, len(doomed), DELETED):
            await self._do("delete from", doomed[at], self._delete, doomed[at : at + DELETED])

    async def names(self, prefix: str = "") -> AsyncIterator[Sequence[StoredObject]]:
        """Yield all objects whose names begin so, many at a time, in no order."""
        pages = await self._do("list", prefix, self._pages, prefix)
        while (page := await self._do("list", prefix, next, pages, None)) is not None:
            if page:
                yield page

    async def close(self) -> None:
        """Let the threads go once they have done what they are at."""
        await asyncio.to_thread(self._threads.shutdown)

    async def _do(self, action: str, name: str, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `work` on a thread; tell what the service refuses as an error of the doors."""
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._threads, lambda: work(*args, **kwargs))
        except (BaseError, OSError) as error:
            raise self._fault(error, action, name) from error

    def _fault(self, error: Exception, action: str, name: str) -> DoorError:
        forbidden = isinstance(error, _FORBIDDEN)
        advice = (
            "Give the credentials named access-key and secret-key the right to list, read, write and delete there."
            if forbidden
            else "It is tried again; look at the service, and at endpoint, region and bucket in the settings."
        )
        reason = str(error).partition("\n")[0][:300]
        return fault(
            f"The server could not {action} {self.name} ({name}): {reason}. {advice}",
            action=action,
            subject=name,
            retryable=not forbidden,
        )

    def _size(self, name: str) -> int | None:
        try:
            return obstore.head(self._store, name)["size"]
        except FileNotFoundError:
            return None

    def _open(self, name: str, start: int, length: int | None) -> Iterator[bytes]:
        try:
            if (start, length) == (0, None):
                return _chunks(obstore.get(self._store, name))
            size = obstore.head(self._store, name)["size"]
            end = size if length is None else min(size, start + length)
            if start >= end:  # a service has no answer to that
                return iter(())
            return _chunks(obstore.get(self._store, name, options={"range": (start, end)}))
        except FileNotFoundError:
            return iter(())

    def _put(self, name: str, content: Content, replace: bool) -> bool:  # noqa: FBT001 - passed on as it came
        size = content.stat().st_size if isinstance(content, Path) else len(content)
        if size <= WHOLE_MAX and self._conditional:
            with contextlib.suppress(_ConditionUnknownError):
                return self._put_once(name, content, replace=replace)
        there = self._size(name) is not None
        if there and not replace:
            return False
        self._send(name, content, whole=size <= WHOLE_MAX)
        return not there

    def _put_once(self, name: str, content: Content, *, replace: bool) -> bool:
        """Put where there is nothing, by one request; where there is something, a second one replaces it."""
        data = content.read_bytes() if isinstance(content, Path) else content
        try:
            obstore.put(self._store, name, data, mode="create", use_multipart=False, attributes=_attributes(name))
        except (AlreadyExistsError, PreconditionError):
            if replace:
                self._send(name, data, whole=True)
            return False
        except BaseError as error:
            if isinstance(error, NotSupportedError) or any(word in str(error) for word in _UNKNOWN_CONDITION):
                self._conditional = False
                raise _ConditionUnknownError from error
            raise
        return True

    def _send(self, name: str, content: Content, *, whole: bool) -> None:
        obstore.put(
            self._store,
            name,
            content,
            use_multipart=not whole,
            chunk_size=PART_BYTES,
            max_concurrency=PARTS_AT_ONCE,
            attributes=_attributes(name),
        )

    def _delete(self, names: list[str]) -> None:
        with contextlib.suppress(FileNotFoundError):
            obstore.delete(self._store, names)

    def _pages(self, prefix: str) -> Iterator[list[StoredObject]]:
        """List from the last whole directory of the prefix on: the client knows no others."""
        directory = prefix.rpartition("/")[0]
        for page in obstore.list(self._store, directory or None, chunk_size=LISTED):
            yield [
                StoredObject(found["path"], found["size"], found["last_modified"].timestamp())
                for found in page
                if found["path"].startswith(prefix) and is_name(found["path"])
            ]


class _ConditionUnknownError(Exception):
    """The service does not know If-None-Match."""


def _chunks(found: "GetResult") -> Iterator[bytes]:
    return (bytes(chunk) for chunk in found.stream(min_chunk_size=CHUNK_BYTES))


def _store(place: S3Place) -> S3Store:
    config: S3Config = {"region": place.region}
    if place.endpoint:
        config["endpoint"] = place.endpoint
    if place.access_key:
        config |= {"access_key_id": place.access_key, "secret_access_key": place.secret_key}
    return S3Store(
        place.bucket,
        prefix=place.prefix.strip("/") or None,
        config=config,
        client_options={
            "allow_http": place.endpoint.startswith("http://"),
            "connect_timeout": CONNECT,
            "timeout": REQUEST,
        },
        retry_config={"max_retries": RETRIES, "retry_timeout": RETRY_FOR},
    )


def _attributes(name: str) -> dict[str, str]:
    """Return what clients that read the bucket itself are told."""
    known = next((media for end, media in _MEDIA_TYPES.items() if name.endswith(end)), "text/plain")
    return {"Content-Type": known}
