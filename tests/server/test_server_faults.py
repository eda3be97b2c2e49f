"""What goes wrong around a server: a clear sentence where a person will see it, and the server keeps serving.

Most tests share one server that watches many repositories, each with a fault of its own.
"""

import asyncio
import contextlib
import hashlib
import hmac
import os
import signal
import sqlite3
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from tests.support.git_server import GitServer, git_server
from tests.support.mill import Mill, a_mill, gated
from tests.support.postgres import running_postgres
from tests.support.processes import cpu_seconds, evaluating
from tests.support.program import NIXMILL, Project, flake, job
from tests.support.scratch_store import ScratchStore, scratch_store
from tests.support.server import PASSWORD, free_port

LOCKED_S = 10.0
"""How long a database is away."""
STORM = 200


class Crowd(Mill):
    """The repositories that most tests share."""

    git: GitServer
    commits: dict[str, str]

    def populate(self, git: GitServer) -> None:
        self.git = git
        good = flake(hello=job("hello"))
        self.commits = {
            "malformed": self.project("malformed").commit(flake__nix=good, nixmill__toml="targets = [\n"),
            "unknown": self.project("unknown").commit(flake__nix=good, nixmill__toml="[evaluate]\nspeed = 3\n"),
            "bare": self.project("bare").commit(README="nothing here"),
            "throws": self.project("throws").commit(flake__nix='{ outputs = _: throw "no outputs today"; }\n'),
            "fine": self.project("fine").commit(flake__nix=good),
        }
        self.project("empty").git("init", "-q")
        self.project("closed", f"https://127.0.0.1:{free_port()}/closed.git")
        self.project("hangs", git.url("hangs/.git"), visibility='"public"').commit(flake__nix=good)
        self.project("storm", git.url("storm/.git"), poll_s=0).commit(flake__nix=good)


@pytest.fixture(scope="module")
def crowd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Crowd]:
    """One server with many faulty repositories."""
    top = tmp_path_factory.mktemp("crowd")
    with scratch_store() as store, git_server(top) as git:
        mill = Crowd(top, store, "insecure-git = true\n")
        mill.populate(git)
        git.silent = threading.Event()
        mill.server.start()
        asyncio.run(mill.server.ready())
        try:
            yield mill
        finally:
            mill.server.kill()


# What is wrong with a repository is told by the run or the project; the others go on.


@pytest.mark.parametrize(
    ("name", "verdict", "sentence"),
    [
        ("malformed", "evaluation failed", "nixmill.toml"),
        ("unknown", "evaluation failed", "speed"),
        ("bare", "evaluation failed", "flake.nix"),
        ("throws", "evaluation failed", "no outputs today"),
        ("fine", "passed", ""),
    ],
)
async def test_what_is_wrong_with_a_commit_is_its_verdict(crowd: Crowd, name: str, verdict: str, sentence: str) -> None:
    run = (await crowd.run_of(name, crowd.commits[name]))["run"]
    assert (run["verdict"], sentence in run["sentence"]) == (verdict, True), run["sentence"]


async def test_a_repository_without_commits_waits_for_one(crowd: Crowd) -> None:
    page = await crowd.page("empty", lambda page: page["polled"] is not None)
    assert (page["runs"], page["refs"]) == ([], [])
    commit = crowd.projects["empty"].commit(flake__nix=flake(hello=job("hello")))
    assert (await crowd.run_of("empty", commit))["run"]["verdict"] == "passed"


async def test_a_repository_that_cannot_be_reached_is_said(crowd: Crowd) -> None:
    page = await crowd.page("closed", lambda page: page["polled"] is not None)
    assert "closed" in page["polled"]["fault"]
    home = await crowd.server.get("/")
    assert next(line["fault"] for line in home["projects"] if line["project"]["name"] == "closed")


async def test_a_remote_that_does_not_answer_holds_up_nobody(crowd: Crowd) -> None:
    git = crowd.git
    assert await asyncio.to_thread(git.asked.wait, 30)
    assert (await crowd.page("hangs"))["polled"] is None, "it is still being asked"
    commit = crowd.projects["fine"].commit(more="1")
    assert (await crowd.run_of("fine", commit))["run"]["verdict"] == "passed"
    silent, git.silent = git.silent, None
    assert silent is not None
    silent.set()
    page = await crowd.page("hangs", lambda page: bool(page["runs"]))
    assert (await crowd.server.ended(page["runs"][0]["number"]))["run"]["verdict"] == "passed"


async def test_a_storm_of_webhooks_is_acknowledged_and_looks_are_few(crowd: Crowd) -> None:
    crowd.git.silent = None
    number = (await crowd.page("storm"))["project"]["id"]
    key = (crowd.server.state / "webhook.key").read_bytes()
    secret = hmac.new(key, b"webhook %d" % number, hashlib.sha256).hexdigest()
    body = b"{}"
    signed = f"sha256={hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()}"
    before = len(crowd.git.requests)
    async with httpx2.AsyncClient(base_url=crowd.server.url, timeout=30) as client:

        async def post(index: int) -> int:
            headers = {"X-Nixmill-Signature": signed, "X-Nixmill-Delivery": f"d{index}"}
            return (await client.post("/hook/storm", content=body, headers=headers)).status_code

        answers = await asyncio.gather(*(post(index) for index in range(STORM)))
    assert set(answers) == {202}
    page = await crowd.page("storm", lambda page: bool(page["runs"]))
    await crowd.server.ended(page["runs"][0]["number"])
    page = await crowd.page("storm")
    assert len(page["runs"]) == 1, "one commit, one run"
    looks = [path for path in crowd.git.requests[before:] if path.startswith("/storm/.git/info/refs")]
    assert len(looks) <= STORM / 5, "posts that come during a look share the next one"


async def test_logs_that_cannot_be_written_are_said(crowd: Crowd) -> None:
    """As root no directory refuses: a file stands in its place."""
    logs = crowd.server.state / "logs"
    logs.mkdir(exist_ok=True)
    hidden = logs.rename(crowd.server.state / "hidden")
    logs.write_text("")
    commit = crowd.projects["fine"].commit(flake__nix=flake(loud=job("loud", "echo words; echo > $out")))
    page = await crowd.run_of("fine", commit)
    logs.unlink()
    hidden.rename(logs)
    assert page["run"]["verdict"] == "passed", "a build does not fail for its log"
    assert any("log" in notice for notice in page["notices"]), page


async def test_a_second_server_on_the_same_state_is_refused(crowd: Crowd) -> None:
    done = await asyncio.to_thread(_serve, crowd.server.config, crowd.store)
    assert done.returncode == 2
    assert "Another server works in" in done.stderr
    assert await crowd.server.get("/") is not None


async def test_a_database_that_somebody_locks_is_waited_for(crowd: Crowd) -> None:
    await crowd.run_of("fine", crowd.projects["fine"].git("rev-parse", "HEAD"))
    with contextlib.closing(sqlite3.connect(crowd.server.state / "nixmill.sqlite", isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        commit = crowd.projects["fine"].commit(flake__nix=flake(locked=job("locked")))
        end = time.monotonic() + LOCKED_S
        while time.monotonic() < end:
            assert await crowd.server.get("/") is not None, "pages are read all the time"
            await asyncio.sleep(0.5)
        other.execute("ROLLBACK")
    assert (await crowd.run_of("fine", commit))["run"]["verdict"] == "passed"


async def test_a_killed_evaluator_is_no_failure_of_the_project(crowd: Crowd) -> None:
    commit = crowd.projects["fine"].commit(flake__nix=_slow_evaluation())
    await crowd.page("fine", lambda page: any(run["state"] == "evaluating" for run in page["runs"]))
    await _killed(crowd, "nix", busy_s=0.2)
    page = await crowd.run_of("fine", commit)
    assert page["run"]["verdict"] in {"passed", "our trouble"}, page["run"]["sentence"]


async def test_a_killed_builder_is_no_failure_of_the_project(crowd: Crowd) -> None:
    gate = crowd.top / "building"
    commit = crowd.projects["fine"].commit(flake__nix=flake(building=gated("building", gate)))
    await crowd.page("fine", lambda page: any(run["state"] == "building" for run in page["runs"]))
    await crowd.server.until("/queue", lambda page: any(line["status"] == "running" for line in page["lines"]))
    await _killed(crowd, "nix-daemon")
    gate.touch()
    page = await crowd.run_of("fine", commit)
    assert page["run"]["verdict"] in {"passed", "our trouble"}, page["run"]["sentence"]


def _slow_evaluation() -> str:
    slow = "builtins.seq (builtins.foldl' (a: b: a + b) 0 (builtins.genList (x: x) 5000000))"
    return flake(slow=f"({slow} ({job('slow')}))", other=job("other"))


async def _killed(crowd: Crowd, name: str, busy_s: float = 0.0) -> None:
    """Kill the first process that works on the store by a program and has been busy for a while."""
    async with asyncio.timeout(30):
        while True:
            for process in evaluating(crowd.store, name):
                if cpu_seconds(process) >= busy_s:
                    os.kill(process, signal.SIGKILL)
                    return
            await asyncio.sleep(0.01)


def _serve(config: Path, store: ScratchStore) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        (*NIXMILL, "serve", "--config", str(config)),
        env=store.environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


# What happens to a server of its own.


async def test_what_vanishes_while_it_waits_has_a_verdict_and_sigterm_loses_nothing(tmp_path: Path) -> None:
    """One place for runs: while the first one builds, a branch is deleted and another one rewritten."""
    gate = tmp_path / "gate"
    with a_mill(tmp_path, "runs-at-once = 1\n") as mill:
        side = mill.project("side")
        first = side.commit(flake__nix=flake(hello=job("hello")))
        mill.server.start()
        await mill.server.ready()
        await mill.run_of("side", first)
        long = mill.project("long").commit(flake__nix=flake(long=gated("long", gate), short=job("short")))
        assert mill.server.stop() == 0
        mill.server.start()
        await mill.server.ready()
        await mill.server.until("/queue", lambda page: any(line["status"] == "running" for line in page["lines"]))
        doomed = _branch(side, "doomed")
        rewritten = _branch(side, "rewritten")
        await mill.page("side", lambda page: len(page["runs"]) == 3)
        _forget(side, "doomed", "rewritten")
        assert mill.server.stop() == 0, "in the middle of a run"
        after = _branch(side, "rewritten")
        mill.server.start()
        await mill.server.ready()
        gate.touch()
        assert (await mill.run_of("long", long))["run"]["verdict"] == "passed"
        for lost in (doomed, rewritten):
            run = (await mill.run_of("side", lost))["run"]
            assert run["verdict"] in {"evaluation failed", "cancelled"}, run
            assert any(word in run["sentence"] for word in (lost[:7], "superseded", "newer", "was deleted")), run
        assert (await mill.run_of("side", after))["run"]["verdict"] == "passed"
        assert [len((await mill.page(name))["runs"]) for name in ("long", "side")] == [1, 4], "nothing ran twice"


def _branch(project: Project, name: str) -> str:
    """Make a branch with a commit of its own, all at once; return that."""
    project.git("checkout", "-q", "--detach")
    commit = project.commit(**{name: f"{name} {time.monotonic()}"})
    project.git("branch", name)
    project.git("checkout", "-q", "main")
    return commit


def _forget(project: Project, *branches: str) -> None:
    """Delete branches with all that only they had."""
    project.git("branch", "-q", "-D", *branches)
    project.git("reflog", "expire", "--expire=now", "--all")
    project.git("gc", "-q", "--prune=now")


async def test_postgresql_that_is_gone_in_the_middle_of_a_run_loses_nothing(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    with running_postgres() as cluster, a_mill(tmp_path, f'database = "{cluster.url(cluster.new())}"\n') as mill:
        checks = {f"job{number}": job(f"job{number}") for number in range(4)}
        long = mill.project("long").commit(flake__nix=flake(long=gated("long", gate), **checks))
        mill.server.start()
        await mill.server.ready()
        await mill.server.until("/queue", lambda page: any(line["status"] == "running" for line in page["lines"]))
        cluster.stop()
        gate.touch()
        await asyncio.sleep(LOCKED_S)  # how long it is away: nothing is waited for
        cluster.start()
        page = await mill.run_of("long", long)
        assert page["run"]["verdict"] == "passed", page["run"]["sentence"]
        assert page["counts"]["all"] == 5, page["counts"]
        after = mill.projects["long"].commit(flake__nix=flake(after=job("after")))
        assert (await mill.run_of("long", after))["run"]["verdict"] == "passed", "the queue goes on, too"
        assert len((await mill.page("long"))["runs"]) == 2


async def test_a_full_disk_is_said_and_room_mends_it(tmp_path: Path) -> None:
    state = tmp_path / "state"
    with _small_disk(state, "80m"), a_mill(tmp_path, "min-free-mib = 0\n", state=state) as mill:
        project = mill.project("fine")
        first = project.commit(flake__nix=flake(hello=job("hello")))
        mill.server.command("user", "create", "mia", "--admin", "--password-stdin", stdin=f"{PASSWORD}\n")
        mill.server.start()
        await mill.server.ready()
        assert (await mill.run_of("fine", first))["run"]["verdict"] == "passed"
        async with mill.server.administrator() as browser:
            filler = _fill(state)
            second = project.commit(flake__nix=flake(hello=job("hello", "echo more > $out")))
            await mill.server.until("/p/fine", lambda _: "disk is full" in mill.server.log)
            home = await browser.get("/")
            assert "State and logs" in home.text
            assert "is full: 0 MiB are free" in home.text
            filler.unlink()
            assert (await mill.run_of("fine", second))["run"]["verdict"] == "passed"
            assert "is full: 0 MiB are free" not in (await browser.get("/")).text


async def test_a_disk_that_fills_during_a_run_is_a_notice_of_that_run(tmp_path: Path) -> None:
    state, gate = tmp_path / "state", tmp_path / "gate"
    with _small_disk(state, "24m"), a_mill(tmp_path, "min-free-mib = 0\n", state=state) as mill:
        commit = mill.project("fine").commit(flake__nix=flake(long=gated("long", gate), short=job("short")))
        mill.server.start()
        await mill.server.ready()
        await mill.server.until("/queue", lambda page: any(line["status"] == "running" for line in page["lines"]))
        filler = _fill(state)
        gate.touch()
        await mill.server.until("/p/fine", lambda _: bool(list((mill.store.root / "store").glob("*-long"))))
        told = mill.server.log.count("disk is full")
        await mill.server.until("/p/fine", lambda _: mill.server.log.count("disk is full") > told)
        filler.unlink()
        page = await mill.run_of("fine", commit)
        assert page["run"]["verdict"] == "passed", page["run"]["sentence"]
        assert any("disk is full" in notice for notice in page["notices"]), page["notices"]


async def test_nothing_begins_while_a_disk_is_nearly_full(tmp_path: Path) -> None:
    state, ballast = tmp_path / "state", tmp_path / "state" / "ballast"
    with _small_disk(state, "120m"), a_mill(tmp_path, "min-free-mib = 60\n", state=state) as mill:
        commit = mill.project("fine").commit(flake__nix=flake(hello=job("hello")))
        ballast.write_bytes(bytes(70 * 2**20))
        mill.server.start()
        await mill.server.ready()
        await mill.server.until("/p/fine", lambda page: page["runs"])
        await mill.server.until("/r/1", lambda page: "60 MiB have to be" in page["run"]["wait"])
        ballast.unlink()
        assert (await mill.run_of("fine", commit))["run"]["verdict"] == "passed"


def _fill(directory: Path) -> Path:
    """Fill the disk to its last byte; return the file to delete."""
    filler = directory / "filler"
    with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
        while file.write(bytes(4096)):
            pass
    return filler


@contextlib.contextmanager
def _small_disk(directory: Path, size: str) -> Iterator[None]:
    directory.mkdir()
    done = subprocess.run(
        ("mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(directory)), capture_output=True, check=False
    )
    if done.returncode:
        pytest.skip("only root may mount a small disk")
    try:
        yield
    finally:
        subprocess.run(("umount", "--lazy", str(directory)), check=True)


def test_all_mistakes_of_the_settings_are_told_at_once(tmp_path: Path, store: ScratchStore) -> None:
    file = tmp_path / "server.toml"
    file.write_text('listen = "nowhere"\nruns-at-once = 0\nspeed = 3\n')
    done = _serve(file, store)
    assert done.returncode == 2
    assert all(word in done.stderr for word in ("runs-at-once", "speed")), done.stderr
    file.write_text('url = "nothing"\nlisten = "nowhere"\n[credentials]\nkey = "/nonexistent"\n')
    done = _serve(file, store)
    assert done.returncode == 2
    assert all(word in done.stderr for word in ("'nothing'", "'nowhere'", "/nonexistent")), done.stderr


@pytest.mark.parametrize(
    ("database", "sentence"),
    [
        ("mysql://root@localhost/mill", "PostgreSQL address"),
        ("postgresql://mill@localhost:1/mill", "does not answer"),
    ],
)
def test_a_wrong_database_is_said(tmp_path: Path, store: ScratchStore, database: str, sentence: str) -> None:
    file = tmp_path / "server.toml"
    file.write_text(f'state = "{tmp_path / "state"}"\ndatabase = "{database}"\n')
    done = _serve(file, store)
    assert done.returncode != 0
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr
