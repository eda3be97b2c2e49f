"""`kill -9` of a run at ten random points, then the same run again: nothing is lost, repeated, locked or leaked."""

import os
import random
import signal
import time
from pathlib import Path

import pytest

from tests.support.program import Project, flake, job
from tests.support.scratch_store import ScratchStore

KILLS = 10
JOBS = 24


@pytest.fixture
def project(tmp_path: Path, fresh_store: ScratchStore) -> Project:
    top = tmp_path / "mill"
    top.mkdir()
    made = Project(top, fresh_store)
    diary = tmp_path / "diary"
    diary.touch()
    script = f'echo "$name" >> {diary}; sleep 0.15; echo > $out'
    checks, last = {}, ""
    for number in range(JOBS):
        name = f"job{number}"
        checks[name] = last = job(name, script, f"dep = {last};" if last and number % 3 else "")
    made.commit(flake__nix=flake(**checks))
    return made


def processes_of(store: ScratchStore) -> list[int]:
    """Return processes that were started with this store's environment, this test's own excepted."""
    marker = f"NIX_STORE_DIR={store.store_dir}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal() or int(entry.name) == os.getpid():
            continue
        try:
            if marker in (entry / "environ").read_bytes().split(b"\0"):
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def command_of(process: int) -> str:
    try:
        return Path(f"/proc/{process}/cmdline").read_text().replace("\0", " ")
    except OSError:
        return "gone"


def wait_until_gone(store: ScratchStore, seconds: float) -> None:
    end = time.monotonic() + seconds
    while left := processes_of(store):
        assert time.monotonic() < end, f"still there: {[(one, command_of(one)) for one in left]}"
        time.sleep(0.02)


def test_ten_kills_lose_nothing_and_repeat_nothing(project: Project, tmp_path: Path) -> None:
    chance = random.Random(7)  # noqa: S311 - any points will do, the same ones each time
    diary = tmp_path / "diary"
    done_before: set[str] = set()
    for _ in range(KILLS):
        begun = len(diary.read_text().split())
        running = project.start("run", "-j", "2", "--plain")
        time.sleep(chance.uniform(0.2, 1.6))  # the point of the kill, not a wait for anything
        running.send_signal(signal.SIGKILL)
        running.communicate()
        wait_until_gone(project.store, 5.0)
        again = set(diary.read_text().split()[begun:]) & done_before
        assert not again, f"built again though it was there: {again}"
        done_before = valid_jobs(project)
    finished = project.nixmill("run", "-j", "2", "--json")
    assert finished.code == 0, finished.err
    assert {attribute["outcome"] for attribute in finished.report["attributes"]} == {"succeeded"}
    built = {attempt["name"] for attempt in finished.report["attempts"]}
    assert not built & done_before
    runs = project.nixmill("runs")
    assert "was killed" in runs.out


def test_nothing_is_rooted_or_running_afterwards(project: Project) -> None:
    running = project.start("run", "-j", "2", "--plain")
    time.sleep(1.0)  # somewhere in the middle
    running.send_signal(signal.SIGKILL)
    running.communicate()
    wait_until_gone(project.store, 5.0)
    project.nix_store("--gc")
    left = [
        path for path in Path(project.store.store_dir).iterdir() if "job" in path.name and not path.name.startswith(".")
    ]
    assert left == []


def valid_jobs(project: Project) -> set[str]:
    """Return the names of jobs whose outputs are valid."""
    store = Path(project.store.store_dir)
    outputs = [path for path in store.glob("*-job*") if not path.name.endswith((".drv", ".lock", ".check"))]
    valid = project.nix_store("--check-validity", "--print-invalid", *map(str, outputs)).split() if outputs else []
    return {path.name.partition("-")[2] for path in outputs if str(path) not in valid}
