"""Steps that the parts of the forge suite share."""

import msgspec
import pytest

from nixmill.core.posting import CheckState, Posting
from tests.contract.forge_world import Feature, ForgeWorld


def posting(world: ForgeWorld, number: int, state: CheckState = CheckState.RUNNING, **changes: object) -> Posting:
    """Return a status for the head of a pull request."""
    standard = Posting(
        forge="forge", project=1, repository=world.path, commit=world.head(number), context="nixmill", state=state,
        title="12 of 214 attributes changed", summary="**Nothing** failed.", url="https://ci.example.org/runs/7", run=7,
        generation=113, pull_request=number, started_at=1_700_000_000.0,
    )  # fmt: skip
    return msgspec.structs.replace(standard, **changes)


def needs(world: ForgeWorld, feature: Feature) -> None:
    """Skip a test on a forge that lacks something."""
    if feature not in world.features:
        pytest.skip(f"this forge has no such thing as {feature.name}")
