"""Builds a derivation once more on this machine with its directory kept, to look into its failure."""

from nixmill.core.errors import InputError
from nixmill.core.machine import LOCAL
from nixmill.doors import BuildLimits, BuildObserver, Store
from nixmill.engine.planner import outputs_of
from nixmill.engine.request import RunDoors
from nixmill.nix.derivation import Derivation
from nixmill.nix.store_path import StorePath


async def fail_again(doors: RunDoors, drv_path: StorePath, observer: BuildObserver) -> Derivation:
    """Build it, and return the derivation once it has failed; raise `InputError` where it does not fail or start."""
    await doors.store.hold([drv_path])
    derivation = await doors.store.full_derivation(drv_path)
    if derivation is None:
        raise InputError(f"{drv_path} is no longer in the store.", "Evaluate it again: nixmill run")
    builder = doors.builders[LOCAL]
    absent = await builder.prepare(drv_path, await inputs_of(doors.store, derivation))
    if absent:
        raise InputError(f"{min(absent)}, which it needs, is not in the store.", "Build what it needs: nixmill run")
    result = await builder.build(drv_path, BuildLimits(keep_failed=True), observer)
    if result.good:
        raise InputError(f"{drv_path} builds now; there is no failed build to look into.", "Check again: nixmill run")
    return derivation


async def inputs_of(store: Store, derivation: Derivation) -> list[StorePath]:
    """Return every path a builder of this derivation reads."""
    needed = list(derivation.input_srcs)
    inputs = await store.derivations(list(derivation.input_drvs))
    for path, names in derivation.input_drvs.items():
        outputs = outputs_of(inputs[path]) if path in inputs else {}
        needed += [found for name in names if (found := outputs.get(name)) is not None]
    return needed
