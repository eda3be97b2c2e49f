"""Garbage is collected without a pause while runs go through; `bench/roots_stress.py` does the same with many more."""

from pathlib import Path

from tests.support.kept_stress import stressed
from tests.support.scratch_store import ScratchStore

RUNS = 12


async def test_collections_without_a_pause_break_no_run(tmp_path: Path, fresh_store: ScratchStore) -> None:
    made = await stressed(tmp_path, fresh_store, RUNS)
    assert made.faults == []
    assert made.runs >= RUNS - 4
    assert made.collections > 0
    assert made.deleted > 0
