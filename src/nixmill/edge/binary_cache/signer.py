"""The one place where paths and realisations are signed."""

from collections.abc import Iterable, Sequence

import msgspec

from nixmill.nix.path_info import PathInfo
from nixmill.nix.realisation import Realisation, fingerprint
from nixmill.nix.signature import PublicKey, SecretKey, public_key


class Signer:
    """Signs with several keys; never shows any."""

    def __init__(self, keys: Sequence[SecretKey]) -> None:
        """Sign with each of `keys`; with none, nothing is signed."""
        self._keys = tuple(keys)
        self.public: tuple[PublicKey, ...] = tuple(public_key(key.public()) for key in keys)

    def signed(self, info: PathInfo) -> PathInfo:
        """Return the path with the signatures that it had and one of each key that had not signed it truly."""
        lacking = [key for key, public in zip(self._keys, self.public, strict=True) if not public.verifies(info)]
        if not lacking:
            return info
        kept = _without(info.signatures, {key.name for key in lacking})
        return msgspec.structs.replace(info, signatures=(*kept, *(key.sign(info) for key in lacking)))

    def realised(self, realisation: Realisation) -> Realisation:
        """Return a realisation with a signature of each key in place of those that it had."""
        text = fingerprint(realisation)
        return msgspec.structs.replace(realisation, signatures=tuple(key.sign_bytes(text) for key in self._keys))


def _without(signatures: Iterable[str], names: set[str]) -> list[str]:
    """Leave out signatures under names of ours that do not hold: they are of a lost key, or of other contents."""
    return [signature for signature in signatures if signature.partition(":")[0] not in names]
