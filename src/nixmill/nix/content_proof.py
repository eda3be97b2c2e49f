"""Proof that a NAR has a content address: the hash of its contents as they pass by.

What this file does not know: paths. Source: `src/libstore/content-address.cc`, `hashCAPath` (Nix 2.34).
"""

import hashlib

from nixmill.nix import nar
from nixmill.nix.content_address import ContentAddress
from nixmill.nix.wire import ProtocolError, Reader


class ContentProof:
    """Is fed a NAR in pieces; says at its end whether the contents are those of the address."""

    def __init__(self, address: ContentAddress) -> None:
        """Start with nothing."""
        self._address = address
        self._hash = hashlib.new(address.method.algorithm, usedforsecurity=False)  # the address chose it
        self._reader = Reader()
        self._file = None if address.method.kind == "nar" else nar.copy_file(self._reader, self._hash.update)
        self._complete = self._file is None

    def feed(self, piece: bytes) -> None:
        """Take the next piece; raise `ProtocolError` where one file was expected and this is none."""
        if self._file is None:
            self._hash.update(piece)
            return
        self._reader.feed(piece)
        if self._complete:
            raise ProtocolError("Something follows a NAR.")
        try:
            next(self._file)
        except StopIteration:
            self._complete = True

    @property
    def holds(self) -> bool:
        """Say whether everything was seen, and has the address."""
        return self._complete and not len(self._reader) and self._hash.digest() == self._address.digest
