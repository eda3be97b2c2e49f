"""Reads what an explanation asks for: `core.why_changed` decides, this file looks at the store, a level at a time."""

import asyncio
from collections.abc import Mapping

from nixmill.core.why_changed import Explainer, Explanation
from nixmill.doors import Store
from nixmill.nix.attr_path import AttrPath
from nixmill.nix.derivation import Derivation
from nixmill.nix.store_path import StorePath


async def explain(store: Store, explainer: Explainer, old: StorePath, new: StorePath) -> Explanation:
    """Return why derivation `old` became `new`."""
    asking = explainer.explain(old, new)
    found: Mapping[StorePath, Derivation] | None = None
    while True:
        try:
            wanted = next(asking) if found is None else asking.send(found)
        except StopIteration as end:
            explanation: Explanation = end.value
            return explanation
        read = await asyncio.gather(*(store.full_derivation(path) for path in wanted))
        found = {path: derivation for path, derivation in zip(wanted, read, strict=True) if derivation is not None}


async def explain_all(
    store: Store, pairs: Mapping[AttrPath, tuple[StorePath, StorePath]]
) -> dict[AttrPath, Explanation]:
    """Explain several attributes of one diff; what they share is read once."""
    explainer = Explainer()
    return {path: await explain(store, explainer, old, new) for path, (old, new) in pairs.items()}
