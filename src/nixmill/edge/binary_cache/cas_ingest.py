"""NARs taken apart into blobs and directories, and judged: the hash and size that a path was published under."""

import hashlib

from blake3 import blake3

from nixmill.edge.binary_cache.cas_objects import blob_name, list_name
from nixmill.nix import castore, castore_chunks, nar_nodes
from nixmill.nix.castore import CastoreError
from nixmill.nix.castore_chunks import CHUNK_BYTES_MAX, Chunk, Cutter
from nixmill.nix.castore_tree import TreeBuilder
from nixmill.nix.nar_nodes import Found
from nixmill.nix.nar_tree import File
from nixmill.nix.path_info import PathInfo
from nixmill.nix.wire import ProtocolError, Reader


class IngestError(Exception):
    """The NAR is none, or not the one that was announced; the message is a sentence."""


class Ingest:
    """One NAR. For one thread at a time."""

    def __init__(self, info: PathInfo) -> None:
        """Expect the NAR of a path."""
        self._info = info
        self._reader = Reader()
        self._parser = nar_nodes.read(self._reader, self._found)
        self._sha256 = hashlib.sha256()
        self._size = 0
        self._ended = False
        self._tree = TreeBuilder()
        self._file: _OpenFile | None = None
        self.blobs: dict[str, bytes] = {}
        """Blobs and chunks by name that were found since whoever stores them cleared this."""
        self.lists: dict[str, bytes] = {}
        """Lists of chunks by name."""

    @property
    def directories(self) -> dict[bytes, bytes]:
        """Encoded directories by digest."""
        return self._tree.directories

    def add(self, data: bytes) -> None:
        """Take the next bytes; raise `IngestError` where they are of no NAR."""
        self._size += len(data)
        self._sha256.update(data)
        self._reader.feed(data)
        try:
            if not self._ended:
                next(self._parser)
        except StopIteration:
            self._ended = True
        except (ProtocolError, CastoreError) as error:
            raise IngestError(f"What was sent for {self._info.path} is no NAR: {error}") from error
        if self._ended and len(self._reader):
            raise IngestError(f"Something comes after the NAR of {self._info.path}.")

    def root(self) -> castore.Node:
        """Return the root once all was added; raise `IngestError` where that is not what was announced."""
        if not self._ended:
            raise IngestError(f"The NAR of {self._info.path} breaks off after {self._size} bytes.")
        if (f"sha256:{self._sha256.hexdigest()}", self._size) != (self._info.nar_hash, self._info.nar_size):
            raise IngestError(
                f"The NAR of {self._info.path} has {self._size} bytes and the hash sha256:{self._sha256.hexdigest()}; "
                f"the store says {self._info.nar_size} and {self._info.nar_hash}. It may be corrupt: verify the store."
            )
        return self._tree.root()

    def _found(self, found: Found) -> None:
        match found:
            case bytes():
                if self._file is not None and self._file.add(found, self.blobs):
                    self._end_file(self._file)
            case File():
                self._file = _OpenFile(found)
                if not found.size:
                    self._end_file(self._file)
            case _:
                self._tree.add(found)

    def _end_file(self, file: "_OpenFile") -> None:
        digest = file.end(self.blobs, self.lists)
        self._tree.add(File(file.node.name, digest, file.node.size, file.node.executable))
        self._file = None


class _OpenFile:
    """A file whose bytes are coming by."""

    def __init__(self, node: File[None]) -> None:
        self.node = node
        self._left = node.size
        self._cutter = Cutter()
        self._whole = blake3() if node.size > CHUNK_BYTES_MAX else None
        self._chunks: list[Chunk] = []

    def add(self, data: bytes, blobs: dict[str, bytes]) -> bool:
        """Take bytes; say whether they were the last."""
        self._left -= len(data)
        if self._whole is not None:
            self._whole.update(data)
        for chunk in self._cutter.add(data):
            self._keep(chunk, blobs)
        return not self._left

    def end(self, blobs: dict[str, bytes], lists: dict[str, bytes]) -> bytes:
        """Return the digest of the file; an empty one is kept nowhere."""
        for chunk in self._cutter.rest():
            self._keep(chunk, blobs)
        if self._whole is None:
            return self._chunks[0].digest if self._chunks else castore.digest(b"")
        digest = self._whole.digest()
        lists[list_name(digest)] = castore_chunks.encode(self._chunks)
        return digest

    def _keep(self, data: bytes, blobs: dict[str, bytes]) -> None:
        chunk = Chunk(castore.digest(data), len(data))
        self._chunks.append(chunk)
        blobs[blob_name(chunk.digest)] = data
