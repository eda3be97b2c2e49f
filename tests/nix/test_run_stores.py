"""`nixmill run` with several stores, caches that answer and caches that do not."""

import contextlib
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.program import Project, flake, job
from tests.support.remote_store import remote_store
from tests.support.scratch_store import CONFIGURATION, ScratchStore, scratch_store


@pytest.fixture
def project(tmp_path: Path, fresh_store: ScratchStore) -> Project:
    top = tmp_path / "mill"
    top.mkdir()
    return Project(top, fresh_store)


@contextlib.contextmanager
def black_hole() -> Iterator[str]:
    """A server that accepts every connection and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=200) as server:
        kept: list[socket.socket] = []

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    kept.append(server.accept()[0])

        threading.Thread(target=accept, daemon=True).start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
        server.shutdown(socket.SHUT_RDWR)
        for connection in kept:
            connection.close()


def many_jobs(count: int) -> str:
    return flake(**{f"job{number}": job(f"job{number}") for number in range(count)})


def test_a_cache_that_never_answers_costs_two_seconds_once_and_not_per_path(tmp_path: Path) -> None:
    with black_hole() as url, scratch_store(CONFIGURATION.replace("substituters =", f"substituters = {url}")) as store:
        (tmp_path / "mill").mkdir()
        project = Project(tmp_path / "mill", store)
        project.commit(flake__nix=many_jobs(30))
        began = time.monotonic()
        done = project.nixmill("run")
        took = time.monotonic() - began
    assert done.code == 0, done.err
    assert url in done.err
    assert "did not answer" in done.err
    assert took < 12


def test_what_a_cache_has_is_fetched_instead_of_built(project: Project, tmp_path: Path) -> None:
    cache = f"file://{tmp_path}/cache?trusted=1"
    project.commit(flake__nix=many_jobs(3))
    first = project.nixmill("run", "--json")
    paths = [path for one in first.report["attributes"] for path in one["outputs"].values()]
    copy = ("nix", "--extra-experimental-features", "nix-command", "copy", "--to", f"file://{tmp_path}/cache", *paths)
    subprocess.run(copy, env=project.store.environment, check=True, capture_output=True)
    project.nix_store("--delete", *paths)
    assert not any(Path(path).exists() for path in paths)
    configuration = CONFIGURATION.replace("substituters =", f"substituters = {cache}")
    plan = project.nixmill("run", "--no-base", "--dry-run", NIX_CONFIG=configuration)
    assert "fetch" in plan.out
    done = project.nixmill("run", "--no-base", "--json", NIX_CONFIG=configuration)
    assert done.code == 0, done.err
    assert {one["how"] for one in done.report["attributes"]} == {"fetched"}
    assert all(Path(path).read_text() == "made\n" for path in paths)


def test_another_machine_builds_and_the_results_come_home(project: Project) -> None:
    lib = job("lib", "echo from afar > $out")
    project.commit(flake__nix=flake(lib=lib, app=job("app", "read x < $dep; echo $x > $out", f"dep = {lib};")))
    with remote_store(project.store) as machine:
        builders = f"unix://{machine.socket} x86_64-linux - 2"
        done = project.nixmill("run", "--json", "-j", "0", "--builders", builders)
    assert done.code == 0, done.err
    assert {attempt["machine"] for attempt in done.report["attempts"]} == {f"unix://{machine.socket}"}
    outputs = {one["name"]: one["outputs"]["out"] for one in done.report["attributes"]}
    assert Path(outputs["app"]).read_text() == "from afar\n"


def test_what_no_machine_can_build_says_so_at_once(project: Project) -> None:
    project.commit(
        flake__nix=flake(special=job("special", "echo > $out", 'requiredSystemFeatures = [ "unobtainable" ];'))
    )
    done = project.nixmill("run", "--json")
    assert done.code == 5
    (attribute,) = done.report["attributes"]
    assert attribute["outcome"] == "no machine can build it"
    assert "unobtainable" in attribute["how"]
    assert done.report["attempts"] == []


def test_a_machine_that_cannot_be_reached_is_our_trouble_and_says_so(project: Project) -> None:
    project.commit(flake__nix=flake(special=job("special", "echo > $out", 'requiredSystemFeatures = [ "mill" ];')))
    done = project.nixmill(
        "run", "--json", "--retries", "0", "--builders", "unix:///nowhere/sock x86_64-linux - 1 1 mill"
    )
    assert done.code == 5
    (attribute,) = done.report["attributes"]
    assert attribute["outcome"] == "infrastructure"
    assert "/nowhere/sock" in done.err


def test_a_store_that_may_not_be_written_is_not_allowed(project: Project) -> None:
    done = project.nixmill("run", "--store", "unix:///nowhere/sock", "-E", job("x"))
    assert done.code in {4, 5}
    assert "/nowhere/sock" in done.err
    assert "Traceback" not in done.err
