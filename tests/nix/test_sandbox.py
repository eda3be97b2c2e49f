"""Evaluations for strangers: the same results as without a sandbox, and nothing else of this machine.

T1, T3, T5 and T6 are tests of the security model; T2 and T4 are with the store proxy and with names.
"""

import asyncio
import contextlib
import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest

from nixmill.core.evaluation import (
    EvalFault,
    EvaluationFailedError,
    EvaluationLimits,
    EvaluationSettings,
)
from nixmill.core.isolation import Property
from nixmill.edge.daemon.settings import DaemonSettings
from nixmill.edge.evaluator import NixEvalJobsEvaluator, OwnEvaluator, scratch
from nixmill.edge.nix_installation import output_of
from nixmill.edge.sandbox import SandboxLimits, attempts
from nixmill.edge.sandbox.sandbox import Network
from nixmill.edge.sandbox.trial import try_isolation
from nixmill.edge.sandbox.upstream import connector
from nixmill.nix.store_path import parse
from tests.support.eval_project import JOB, Project, bad, collect, commit, ended, good, project, request
from tests.support.nix_world import nix_version
from tests.support.processes import evaluating
from tests.support.programs import script
from tests.support.sandboxes import listener, sandbox
from tests.support.scratch_store import CONFIGURATION, ScratchStore

FILES = {
    "default.nix": f"""let {JOB} in {{
        a = job "a"; b = job (builtins.readFile ./name); c = job "c-${{baseNameOf ./name}}";
        d = derivation {{ name = "d"; system = "x86_64-linux"; builder = "/bin/sh"; args = [ ./name (job "e") ]; }};
    }}""",
    "name": "bb",
    "flake.nix": "{ outputs = _: { checks.x86_64-linux = import ./.; }; }",
}
CANARY = "a-canary-of-the-server"


async def test_files_and_flakes_give_the_same_derivations_as_outside(store: ScratchStore, tmp_path: Path) -> None:
    """The tree is private to the server, and no file of it is readable for others."""
    made = project(tmp_path / "tree", FILES)
    inside, outside = OwnEvaluator(store.environment, sandbox=sandbox(store)), OwnEvaluator(store.environment)

    for target in (made.file(), made.flake("checks")):
        made.path.chmod(0o700)
        records = await collect(inside, request(target))
        assert {path[-1] for path in good(records)} == {"a", "b", "c", "d"}
        assert not bad(records)
        assert _paths(good(records)) == _paths(good(await collect(outside, request(target))))
        assert ended(records).peak_bytes > 2**20


def _paths(found: object) -> dict[object, str]:
    assert isinstance(found, dict)
    return {path: attribute.drv_path for path, attribute in found.items()}


async def test_a_locked_input_is_taken_from_the_store_where_the_evaluation_may_know_it(
    fresh_store: ScratchStore, tmp_path: Path
) -> None:
    other = project(tmp_path / "other", {"flake.nix": '{ outputs = _: { word = "from-the-input"; }; }'})
    commit(other.path)
    made = _with_input(fresh_store, tmp_path, other)
    reference = made.flake("checks")
    outside = await collect(OwnEvaluator(fresh_store.environment), request(reference))
    source = _source(fresh_store, "from-the-input")

    known = sandbox(fresh_store, readable=[parse(str(source), fresh_store.store_dir)])
    records = await collect(OwnEvaluator(fresh_store.environment, sandbox=known), request(reference))
    assert _paths(good(records)) == _paths(good(outside))

    unknown = sandbox(fresh_store)
    records = await collect(OwnEvaluator(fresh_store.environment, sandbox=unknown), request(reference))
    assert not good(records)
    assert len(bad(records)) == 1
    assert str(source) in unknown.refused[0]


@pytest.mark.parametrize("network", ["none", "proxy"])
async def test_an_input_that_the_store_has_is_fetched_again_and_not_told_as_refused(
    fresh_store: ScratchStore, tmp_path: Path, network: Network
) -> None:
    """Its name and hash are no right to read it: what proves that the evaluation may is that it can fetch it."""
    packed = _packed(tmp_path / "input", {"flake.nix": '{ outputs = _: { word = "from-the-input"; }; }'})
    async with _serving(packed) as port:
        flake = f"""{{
          inputs.other.url = "http://127.0.0.1:{port}/other.tar.gz";
          outputs = {{ other, ... }}: let {JOB} in {{ checks.x86_64-linux.a = job other.word; }};
        }}"""
        made = project(tmp_path / "tree", {"flake.nix": flake})
        commit(made.path)
        await output_of(["nix", "flake", "lock", str(made.path)], fresh_store.environment)
        reference = made.flake("checks")
        outside = _paths(good(await collect(OwnEvaluator(fresh_store.environment), request(reference))))
        used = sandbox(fresh_store, network=network, allow=lambda _, wanted: wanted == port)
        records = await collect(OwnEvaluator(fresh_store.environment, sandbox=used), request(reference))
    source = str(_source(fresh_store, "from-the-input"))
    if network == "proxy":
        assert _paths(good(records)) == outside
        assert used.refused == []
    else:
        assert [error.fault for error in bad(records).values()] == [EvalFault.OTHER]
        assert [source in sentence for sentence in used.refused] == [True]


def _packed(place: Path, files: Mapping[str, str]) -> bytes:
    made = project(place / "top", files)
    subprocess.run(["tar", "-czf", "../packed.tar.gz", "-C", "..", "top"], check=True, cwd=made.path)
    return (place / "packed.tar.gz").read_bytes()


def _with_input(store: ScratchStore, tmp_path: Path, other: Project) -> Project:
    flake = f"""{{
      inputs.other.url = "git+file://{other.path}";
      outputs = {{ other, ... }}: let {JOB} in {{ checks.x86_64-linux.a = job other.word; }};
    }}"""
    made = project(tmp_path / "tree", {"flake.nix": flake})
    commit(made.path)
    subprocess.run(["nix", "flake", "lock"], check=True, cwd=made.path, env=store.environment, capture_output=True)
    return made


def _source(store: ScratchStore, word: str) -> Path:
    sources = [path / "flake.nix" for path in Path(store.store_dir).glob("*-source") if path.is_dir()]
    [found] = [path.parent for path in sources if word in path.read_text()]
    return found


IFD = """
let
  common = { system = "x86_64-linux"; builder = "/bin/sh"; };
  built = derivation (common // { name = "built"; args = [ "-c" "echo hi > $out" ]; });
in { a = derivation (common // { name = builtins.substring 0 2 (builtins.readFile built); }); }
"""


async def test_t1_a_flake_cannot_switch_import_from_derivation_on(store: ScratchStore, tmp_path: Path) -> None:
    flake = f"""{{
      nixConfig.allow-import-from-derivation = true;
      outputs = _: {{ checks.x86_64-linux = {IFD.strip()}; }};
    }}"""
    made = project(tmp_path, {"flake.nix": flake})
    accepting = store.environment | {"NIX_CONFIG": f"{CONFIGURATION}accept-flake-config = true\n"}
    inside = OwnEvaluator(accepting, sandbox=sandbox(store, accepting))
    [error] = bad(await collect(inside, request(made.flake("checks")))).values()
    assert "allow-import-from-derivation" in error.message


async def test_import_from_derivation_works_where_it_is_allowed(store: ScratchStore, tmp_path: Path) -> None:
    made = project(tmp_path, {"default.nix": IFD})
    allowed = EvaluationSettings(allow_import_from_derivation=True)
    records = await collect(
        OwnEvaluator(store.environment, sandbox=sandbox(store)), request(made.file(), settings=allowed)
    )
    assert [attribute.name for attribute in good(records).values()] == ["hi"]


@pytest.mark.parametrize("network", ["none", "proxy"])
async def test_t3_no_connection_reaches_this_machine(store: ScratchStore, tmp_path: Path, network: Network) -> None:
    used = sandbox(store, network=network)
    with listener() as here:
        made = project(tmp_path, {"flake.nix": _fetching(here.port, b"x")})
        [error] = bad(
            await collect(OwnEvaluator(store.environment, sandbox=used), request(made.flake("checks")))
        ).values()
        assert not here.was_reached()
    assert "unable to download" in error.message
    assert error.fault is EvalFault.OTHER
    assert list(used.hosts.refused) == ([f"127.0.0.1:{here.port}"] if network == "proxy" else [])


async def test_what_the_proxy_allows_can_be_fetched(store: ScratchStore, tmp_path: Path) -> None:
    async with _serving(b"hello") as port:
        used = sandbox(store, network="proxy", allow=lambda _, wanted: wanted == port)
        made = project(tmp_path, {"flake.nix": _fetching(port, b"hello")})
        records = await collect(OwnEvaluator(store.environment, sandbox=used), request(made.flake("checks")))
    assert [attribute.name for attribute in good(records).values()] == ["hello"]
    assert used.hosts.reached == (f"127.0.0.1:{port}",)


def _fetching(port: int, content: bytes) -> str:
    fetch = (
        f'builtins.fetchurl {{ url = "http://127.0.0.1:{port}/x"; sha256 = "{hashlib.sha256(content).hexdigest()}"; }}'
    )
    return f"{{ outputs = _: let {JOB} in {{ checks.x86_64-linux.a = job (builtins.readFile ({fetch})); }}; }}"


@contextlib.asynccontextmanager
async def _serving(content: bytes) -> AsyncIterator[int]:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%b" % (len(content), content))
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]


@pytest.mark.parametrize("path", ["/etc/passwd", "/etc/hostname", "/proc/1/environ", "/proc/self/environ"])
async def test_t5_files_of_this_machine_cannot_be_read(store: ScratchStore, tmp_path: Path, path: str) -> None:
    made = project(
        tmp_path,
        {
            "default.nix": f'let {JOB} in {{ a = job (builtins.readFile "{path}"); }}',
            "flake.nix": "{ outputs = _: { checks.x86_64-linux = import ./.; }; }",
        },
    )
    inside = OwnEvaluator(store.environment, sandbox=sandbox(store))
    for target in (made.file(), made.flake("checks")):
        records = await collect(inside, request(target))
        assert not good(records)
        assert len(bad(records)) == 1


async def test_a_file_of_the_server_cannot_be_fetched(store: ScratchStore, tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir()
    (state / "secret").write_text(CANARY)
    fetch = f'builtins.fetchTree {{ type = "path"; path = "{state}"; rev = "{"a" * 40}"; }}'
    made = project(
        tmp_path / "tree",
        {"default.nix": f'let {JOB} in {{ a = job (builtins.readFile ((toString ({fetch})) + "/secret")); }}'},
    )
    if nix_version(store) < (2, 20):
        outside = await collect(OwnEvaluator(store.environment), request(made.file()))
        assert good(outside), "this is the way that is closed; newer versions close it themselves"

    [error] = bad(await collect(OwnEvaluator(store.environment, sandbox=sandbox(store)), request(made.file()))).values()
    assert any(said in error.message for said in ("No such file", "does not exist", "is forbidden in restricted mode"))


async def test_t6_no_native_code_runs(store: ScratchStore, tmp_path: Path) -> None:
    flake = f"""{{
      nixConfig.allow-unsafe-native-code-during-evaluation = true;
      outputs = _: let {JOB} in {{ checks.x86_64-linux.a = job (if builtins ? exec then "exec" else "none"); }};
    }}"""
    made = project(tmp_path, {"flake.nix": flake})
    liberal = f"{CONFIGURATION}accept-flake-config = true\nallow-unsafe-native-code-during-evaluation = true\n"
    environment = store.environment | {"NIX_CONFIG": liberal}
    inside = OwnEvaluator(environment, sandbox=sandbox(store, environment))
    records = await collect(inside, request(made.flake("checks")))
    assert [attribute.name for attribute in good(records).values()] == ["none"]


async def test_secrets_of_the_environment_do_not_get_in(store: ScratchStore, tmp_path: Path) -> None:
    names = ["TOKEN", "NIX_CONFIG", "HOME", "PATH", "NIX_REMOTE"]
    text = " + ".join(f'(builtins.getEnv "{name}")' for name in names)
    made = project(tmp_path, {"default.nix": f'let {JOB} in {{ a = builtins.trace ("seen " + {text}) (job "a"); }}'})
    environment = store.environment | {"TOKEN": CANARY, "NIX_CONFIG": f"{CONFIGURATION}access-tokens = x={CANARY}\n"}
    inside = OwnEvaluator(environment, sandbox=sandbox(store, environment))
    [attribute] = good(await collect(inside, request(made.file()))).values()
    assert any(trace.startswith("seen") for trace in attribute.traces)
    assert CANARY not in "".join(attribute.traces)


async def test_a_memory_bomb_ends_one_attribute(store: ScratchStore, tmp_path: Path) -> None:
    bomb = (
        'builtins.deepSeq (builtins.genList (x: builtins.genList (y: "${toString x}-${toString y}") 4000) 100000) "x"'
    )
    made = project(tmp_path, {"default.nix": f'let {JOB} in {{ good = job "good"; bomb = job ({bomb}); }}'})
    limits = EvaluationLimits(workers=1, memory_bytes=150 * 2**20, time_s=100)
    records = await collect(
        OwnEvaluator(store.environment, sandbox=sandbox(store)), request(made.file(), limits=limits)
    )
    assert bad(records)[("bomb",)].fault is EvalFault.OUT_OF_MEMORY
    assert good(records).keys() == {("good",)}
    assert ended(records).peak_bytes > 100 * 2**20
    assert not evaluating(store)


async def test_output_without_end_stops_the_evaluation(store: ScratchStore, tmp_path: Path) -> None:
    noise = 'builtins.foldl\' (a: n: builtins.trace (toString n) a) "x" (builtins.genList (n: n) 10000000)'
    made = project(tmp_path, {"default.nix": f"let {JOB} in {{ a = job ({noise}); }}"})
    used = sandbox(store, limits=SandboxLimits(output_bytes=2**20))
    with pytest.raises(EvaluationFailedError, match=r"said more than 1 MiB"):
        await collect(OwnEvaluator(store.environment, sandbox=used), request(made.file()))
    assert not evaluating(store)


ENDLESS = f"""
let {JOB} sum = builtins.foldl' (a: b: a + b) 0; numbers = n: builtins.genList (x: x) n;
in {{ good = job "good"; bad = job (toString (sum (map (x: sum (numbers 100000)) (numbers 100000)))); }}
"""


async def test_what_takes_too_long_is_ended_with_all_its_processes(store: ScratchStore, tmp_path: Path) -> None:
    made = project(tmp_path, {"default.nix": ENDLESS})
    limits = EvaluationLimits(workers=1, attribute_time_s=0.5, time_s=60)
    records = await collect(
        OwnEvaluator(store.environment, sandbox=sandbox(store)), request(made.file(), limits=limits)
    )
    assert bad(records)[("bad",)].fault is EvalFault.TIMEOUT
    assert good(records).keys() == {("good",)}
    assert not evaluating(store)


async def test_a_crash_is_the_fault_of_one_attribute(store: ScratchStore, tmp_path: Path) -> None:
    made = project(
        tmp_path,
        {"default.nix": f'let {JOB} f = x: f (x + 1) + 1; in {{ deep = job (toString (f 1)); good = job "g"; }}'},
    )
    records = await collect(OwnEvaluator(store.environment, sandbox=sandbox(store)), request(made.file()))
    outside = await collect(OwnEvaluator(store.environment), request(made.file()))
    assert bad(records)[("deep",)].fault is bad(outside)[("deep",)].fault
    assert good(records).keys() == {("good",)}


def _make_foreign_path(store: ScratchStore) -> None:
    (Path(store.store_dir) / f"{'a' * 32}-foreign").mkdir(parents=True, exist_ok=True)


async def test_every_attempt_to_break_out_fails(store: ScratchStore, tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    connect = connector("stdio", DaemonSettings.from_environment(store.environment))
    _make_foreign_path(store)
    found = await try_isolation(store.environment, connect, files=(tmp_path / "state",), sockets=())
    assert found.unavailable == ""
    assert {name: how for name, how in found.escapes.items() if how} == {}
    assert set(found.escapes) == set(Property)


def test_the_attempts_succeed_where_nothing_keeps_them(store: ScratchStore, tmp_path: Path) -> None:
    """Else they would prove nothing: run as a plain process, nearly each finds a way."""
    _make_foreign_path(store)
    (tmp_path / "file").write_text(CANARY)
    with listener() as here:
        bait = {
            "secret": CANARY,
            "files": [str(tmp_path / "file")],
            "sockets": [],
            "port": here.port,
            "proxy_port": here.port,
            "store": store.store_dir,
            "store_paths": [],
            "closure": [],
            "shown": [str(tmp_path)],
            "processes_seen": 2,
            "too_much_memory": 2**20,
            "too_many_processes": 3,
        }
        names = ["_files", "_environment", "_store", "_loopback", "_writing", "_neighbours", "_memory", "_processes"]
        made = f"[list(getattr(attempts, name)(json.loads(sys.argv[1]))) for name in {names}]"
        code = f"import attempts, json, sys; print(json.dumps({made}))"
        ran = subprocess.run(
            [sys.executable, "-c", code, json.dumps(bait)],
            check=True,
            cwd=tmp_path,
            capture_output=True,
            env={"PYTHONPATH": str(Path(attempts.__file__).parent), "TOKEN": CANARY},
        )
    assert all(json.loads(ran.stdout)), ran.stdout


async def test_where_there_is_no_bubblewrap_it_is_said(store: ScratchStore) -> None:
    without = sandbox(store, bwrap="no-such-bwrap")
    assert await without.unavailable() == "Evaluations cannot be isolated: There is no `no-such-bwrap` on PATH."


async def test_a_real_sandbox_is_tried_before_it_is_relied_on(store: ScratchStore, tmp_path: Path) -> None:
    assert await sandbox(store).unavailable(tmp_path) == ""
    broken = sandbox(store, bwrap="false")
    assert await broken.unavailable() == "Evaluations cannot be isolated: the trial ended with status 1."


async def test_nix_eval_jobs_runs_in_the_sandbox_too(store: ScratchStore, tmp_path: Path) -> None:
    """The program is a stand-in; what it leaves unanswered is asked of our own evaluator, in a sandbox as well."""
    (tmp_path / "bin").mkdir()
    line = '{"attr": "t0.a", "attrPath": ["t0", "a"], "error": "\'$(id -u) $(ls /var 2>&1 | head -c 3)\'"}'
    script(tmp_path / "bin", "nix-eval-jobs", f"echo '{line}'\nexit 1")
    environment = store.environment | {"PATH": f"{tmp_path}/bin:{store.environment['PATH']}"}
    made = project(tmp_path / "tree", {"default.nix": f'let {JOB} in {{ a = job "a"; b = job "b"; }}'})
    jobs = NixEvalJobsEvaluator(environment, sandbox=sandbox(store, environment))
    records = await collect(jobs, request(made.file()))
    assert bad(records)[("a",)].message == "65534 ls:"
    assert good(records).keys() == {("b",)}


@pytest.mark.skipif(os.geteuid() != 0, reason="without root the files of others cannot be made")
async def test_the_sandbox_has_no_more_rights_than_nobody(store: ScratchStore, tmp_path: Path) -> None:
    """A file in the tree that belongs to somebody else, and is private, stays so."""
    made = project(tmp_path, {"default.nix": f"let {JOB} in {{ a = job (builtins.readFile ./x); }}", "x": "x"})
    os.chown(tmp_path / "x", 12345, 12345)
    (tmp_path / "x").chmod(0o600)
    [error] = bad(await collect(OwnEvaluator(store.environment, sandbox=sandbox(store)), request(made.file()))).values()
    assert "Permission denied" in error.message


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
async def test_each_evaluation_is_another_user_of_this_machine(store: ScratchStore) -> None:
    used = sandbox(store)
    users = set()
    for _ in range(2):
        async with used.enclosure("nix", allow_builds=False) as enclosure:
            process = await enclosure.start(["nix", "repl"], shown=(), memory_bytes=2**28)
            users.add(Path(f"/proc/{process.measured_pid}").stat().st_uid)  # noqa: ASYNC240 - one stat
            await process.kill()
    assert len(users) == 2
    assert not users & {0, 65534}


async def test_two_workers_see_what_the_other_has_made(store: ScratchStore, tmp_path: Path) -> None:
    sets = "\n".join(
        f'j{n} = derivation {{ name = "j{n}"; system = "x86_64-linux"; builder = shared; args = [ ./f ]; }};'
        for n in range(120)
    )
    made = project(tmp_path, {"default.nix": f'let {JOB} shared = job "shared"; in {{ {sets} }}', "f": "x"})
    records = await collect(OwnEvaluator(store.environment, sandbox=sandbox(store)), request(made.file()))
    assert len(good(records)) == 120
    assert not bad(records)


async def test_a_worker_is_ready_soon(store: ScratchStore) -> None:
    """A generous bound for a busy machine; it is 0.06 s on an idle one."""
    began = time.monotonic()
    assert await sandbox(store).unavailable() == ""
    assert time.monotonic() - began < 5


KEEPER = """
import asyncio, sys
from tests.support.sandboxes import sandbox
from tests.support.scratch_store import ScratchStore
import json, pathlib

async def main():
    store = ScratchStore(pathlib.Path("/"), json.loads(sys.argv[1]))
    async with sandbox(store).enclosure("nix", allow_builds=False) as enclosure:
        process = await enclosure.start(["nix", "repl"], shown=(), memory_bytes=2**28)
        print(process.measured_pid, process.pid, flush=True)
        await asyncio.sleep(1000)

asyncio.run(main())
"""


async def test_when_the_server_is_killed_nothing_is_left(store: ScratchStore) -> None:
    keeper = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", KEEPER, json.dumps(store.environment)),
        stdout=asyncio.subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    )
    assert keeper.stdout is not None
    try:
        pids = [int(word) for word in (await keeper.stdout.readline()).split()]
        assert len(pids) == 2
        assert all(map(_runs, pids))
    finally:
        keeper.kill()
        await keeper.wait()
    async with asyncio.timeout(20):
        while any(map(_runs, pids)):  # noqa: ASYNC110 - the kernel tells nobody
            await asyncio.sleep(0.01)


def _runs(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


async def test_a_tree_of_the_store_is_seen_as_such(store: ScratchStore, tmp_path: Path) -> None:
    (tmp_path / "default.nix").write_text(f'let {JOB} in {{ a = job "a"; }}')
    added = (await output_of(["nix-store", "--add", str(tmp_path)], store.environment)).strip()
    records = await collect(
        OwnEvaluator(store.environment, sandbox=sandbox(store)), request(Project(Path(added)).file())
    )
    assert good(records).keys() == {("a",)}


async def test_an_evaluation_that_is_given_up_leaves_nothing(store: ScratchStore, tmp_path: Path) -> None:
    made = project(tmp_path, {"default.nix": ENDLESS})
    used = sandbox(store, network="proxy")
    groups = OwnEvaluator(store.environment, sandbox=used).evaluate(request(made.file()))
    assert await anext(groups)
    assert evaluating(store)
    await groups.aclose()
    assert not evaluating(store)
    assert not list(Path(scratch.MEMORY).glob(f"nixmill-{os.getpid()}-*"))  # noqa: ASYNC240 - one listing
