"""Fixtures that every tier may use."""

from collections.abc import Iterator

import pytest

from tests.support.scratch_store import ScratchStore, scratch_store
from tests.support.screens import pytest_addoption

__all__ = ["pytest_addoption"]


@pytest.fixture(scope="session")
def store() -> Iterator[ScratchStore]:
    """One scratch store for the whole session; tests must not rely on it being empty."""
    with scratch_store() as made:
        yield made


@pytest.fixture
def fresh_store() -> Iterator[ScratchStore]:
    """A scratch store of the test's own."""
    with scratch_store() as made:
        yield made
