"""What can be done to caches at the command line, beside a server that may be running."""

from dataclasses import dataclass

from nixmill.doors.cache import Uploads
from nixmill.engine.cache_keeper import CacheKeeper
from nixmill.engine.cache_verifier import CacheVerifier


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheTools:
    """The caches of a server's settings, opened."""

    keeper: CacheKeeper
    verifier: CacheVerifier
    uploads: Uploads
