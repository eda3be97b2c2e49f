"""Telling a process from another one that has its number."""

import os
import subprocess

from nixmill.edge.process_identity import identity, runs


def test_this_process_runs_under_its_identity() -> None:
    assert identity(os.getpid())
    assert runs(os.getpid(), identity(os.getpid()))


def test_the_same_number_with_another_start_is_another_process() -> None:
    assert not runs(os.getpid(), identity(os.getpid()) + "0")


def test_a_process_that_ended_does_not_run() -> None:
    with subprocess.Popen(["sleep", "1000"]) as process:
        known_as = identity(process.pid)
        assert runs(process.pid, known_as)
        assert runs(process.pid, "")
        process.kill()
    assert identity(process.pid) == ""
    assert not runs(process.pid, known_as)
    assert not runs(process.pid, "")
