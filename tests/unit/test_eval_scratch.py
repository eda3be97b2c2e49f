import contextlib
import os
import subprocess
from pathlib import Path

from nixmill.edge.evaluator import scratch


def test_what_a_dead_process_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    dead = subprocess.Popen(["true"])
    dead.wait()
    for name in (f"nixmill-{dead.pid}-a", f"nixmill-{os.getpid()}-b", "nixmill-logs-c", f"other-{dead.pid}-d"):
        (tmp_path / name / "inside").mkdir(parents=True)
    scratch.sweep(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        f"nixmill-{os.getpid()}-b",
        "nixmill-logs-c",
        f"other-{dead.pid}-d",
    ]


def test_a_temporary_directory_goes_with_its_stack() -> None:
    with contextlib.ExitStack() as stack:
        made = [Path(stack.enter_context(scratch.temporary(in_memory=there))) for there in (False, True)]
        assert all(path.is_dir() for path in made)
        assert f"-{os.getpid()}-" in made[0].name
    assert not any(path.exists() for path in made)
