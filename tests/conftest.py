"""Fixtures that every tier may use."""

from collections.abc import Iterator

import pytest

pytest.register_assert_rewrite("tests.contract.forge_suite", "tests.contract.forge_suite_entrance")

from tests.support.scratch_store import ScratchStore, scratch_store  # noqa: E402 - after what says how they are rewritten
from tests.support.screens import pytest_addoption  # noqa: E402

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
