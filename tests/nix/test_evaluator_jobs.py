"""nix-eval-jobs' lines turned into records, and what it leaves unanswered asked of our own evaluator.

The program is a stand-in that prints recorded lines and ends as the real one does; the rest is real Nix.
"""

import json
import shlex
import sys
from pathlib import Path

import pytest

from nixmill.core.evaluation import (
    EvalFault,
    EvaluationFailedError,
    EvaluationLimits,
    EvaluationSettings,
    EvaluationTrace,
    ImportFromDerivation,
)
from nixmill.edge.evaluator import NixEvalJobsEvaluator, OwnEvaluator, choose
from tests.support.eval_project import JOB, Project, bad, collect, ended, good, of, project, request
from tests.support.processes import evaluating
from tests.support.scratch_store import ScratchStore

DRV = "/nix/store/4d93wjbyzwziijjac7izcwkakp5rsk00-said-1.drv"

STAND_IN = """\
#!{python}
import json, pathlib, re, sys, time
if "--version" in sys.argv:
    print("nix-eval-jobs 2.33.1")
    sys.exit()
here = pathlib.Path({here!r})
(here / "argv").write_text(json.dumps(sys.argv))
token = re.search(r"nixmill-[0-9a-f]+-", sys.argv[-1])[0]
print((here / "errors").read_text().replace("TOKEN", token), end="", file=sys.stderr, flush=True)
print((here / "lines").read_text(), end="", flush=True)
time.sleep(float((here / "sleep").read_text()))
sys.exit(int((here / "status").read_text()))
"""


class StandIn:
    def __init__(self, place: Path, store: ScratchStore) -> None:
        self.place = place
        place.mkdir()
        self.says([])
        program = place / "nix-eval-jobs"
        program.write_text(STAND_IN.format(python=sys.executable, here=str(place)))
        program.chmod(0o755)
        self.environment = store.environment | {"PATH": f"{place}:{store.environment['PATH']}"}
        self.evaluator = NixEvalJobsEvaluator(self.environment)

    def says(self, lines: list[object], errors: str = "", status: int = 0, sleep: float = 0) -> None:
        (self.place / "lines").write_text("".join(json.dumps(line) + "\n" for line in lines))
        (self.place / "errors").write_text(errors)
        (self.place / "status").write_text(str(status))
        (self.place / "sleep").write_text(str(sleep))

    @property
    def argv(self) -> list[str]:
        return list(map(str, json.loads((self.place / "argv").read_text())))


@pytest.fixture
def stand_in(store: ScratchStore, tmp_path: Path) -> StandIn:
    return StandIn(tmp_path / "bin", store)


@pytest.fixture
def made(tmp_path: Path) -> Project:
    jobs = f'let {JOB} in {{ a = job "a"; b = job "b"; "q\\"" = job "q"; bad = throw "really"; }}'
    return project(tmp_path / "tree", {"default.nix": jobs})


def job(*path: str) -> object:
    return {"attr": "", "attrPath": path, "name": "said-1", "system": "x86_64-linux", "drvPath": DRV, "outputs": {}}


def error(*path: str, text: str = "error: said") -> object:
    return {"attr": "", "attrPath": path, "error": text}


async def test_its_lines_become_records(stand_in: StandIn, made: Project) -> None:
    stand_in.says([job("t0", "a"), error("t0", "b", text=f"error: abc\n\n       at {made.path}/x.nix:1:2:")])

    records = await collect(stand_in.evaluator, request(made.file(attr=("set",))))

    assert good(records).keys() == {("set", "a")}
    found = bad(records)["set", "b"]
    assert (found.message, found.position, found.fault) == ("abc", "x.nix:1:2", EvalFault.THROW)
    assert ended(records).evaluator.startswith("nix-eval-jobs 2.33.1 (nix 2.")


async def test_it_is_told_all_limits_and_settings(stand_in: StandIn, made: Project) -> None:
    limits = EvaluationLimits(workers=3, memory_bytes=700 * 1024**2)
    await collect(stand_in.evaluator, request(made.file(), settings=EvaluationSettings(show_trace=True), limits=limits))

    line = shlex.join(stand_in.argv[1:-1])
    for part in ("--workers 3", "--max-memory-size 700", "--meta", "--gc-roots-dir", "restrict-eval true", "--expr"):
        assert part in line
    assert not Path(stand_in.argv[stand_in.argv.index("--gc-roots-dir") + 1]).parent.exists()


async def test_when_it_gives_up_our_own_evaluates_what_is_left(stand_in: StandIn, made: Project) -> None:
    stand_in.says([job("t0", "a")], errors="error: unexpected EOF reading a line\n", status=1)

    records = await collect(stand_in.evaluator, request(made.file()))

    assert {path: record.name for path, record in good(records).items()} == {
        ("a",): "said-1",
        ("b",): "b",
        ('q"',): "q",
    }
    assert bad(records)["bad",].message == "really"
    ended(records)


async def test_names_that_it_cannot_address_are_asked_of_our_own(stand_in: StandIn, made: Project) -> None:
    stand_in.says([job("t0", "a"), job("t0", "b"), error("t0", "bad"), error("t0", 'q"', text="error: not found")])

    records = await collect(stand_in.evaluator, request(made.file()))

    assert good(records)['q"',].name == "q"
    assert bad(records)["bad",].message == "said"
    assert good(records)["a",].name == "said-1"


async def test_an_error_of_the_target_itself_is_told_as_our_own_would(stand_in: StandIn, made: Project) -> None:
    (made.path / "default.nix").write_text("{ a = ; }")
    stand_in.says([error("t0", text="error: syntax error")])

    with pytest.raises(EvaluationFailedError, match="syntax error"):
        await collect(stand_in.evaluator, request(made.file()))


async def test_what_it_writes_aside_is_kept(stand_in: StandIn, made: Project) -> None:
    build = f'@nix {{"action":"start","id":3,"type":105,"level":3,"text":"building","fields":["{DRV}","",1,1]}}'
    stop = '@nix {"action":"stop","id":3}'
    trace = '@nix {"action":"msg","level":0,"msg":"trace: hello"}'
    stand_in.says([job("t0", "a")], errors=f"{trace}\n{build}\n{stop}\n{trace}\nerror: told again for people\n")

    records = await collect(stand_in.evaluator, request(made.file()))

    assert [record.text for record in of(records, EvaluationTrace)] == ["hello"]
    assert [record.drv_path for record in of(records, ImportFromDerivation)] == [DRV]


async def test_an_unknown_attribute_is_answered_with_those_that_exist(stand_in: StandIn, made: Project) -> None:
    unknown = {"action": "msg", "level": 0, "msg": 'trace: TOKENu{"t":0,"i":0,"n":["alpha"]}'}
    stand_in.says([], errors=f"@nix {json.dumps(unknown)}\n")

    with pytest.raises(EvaluationFailedError, match="Did you mean alpha"):
        await collect(stand_in.evaluator, request(made.file(attr=("alpah",))))


async def test_when_it_says_nothing_for_too_long_it_is_replaced(stand_in: StandIn, made: Project) -> None:
    stand_in.says([job("t0", "a")], sleep=1000)

    records = await collect(stand_in.evaluator, request(made.file(), limits=EvaluationLimits(attribute_time_s=1)))

    assert good(records).keys() == {("a",), ("b",), ('q"',)}


async def test_closing_ends_it(stand_in: StandIn, made: Project, store: ScratchStore) -> None:
    stand_in.says([job("t0", "a")], sleep=1000)
    groups = stand_in.evaluator.evaluate(request(made.file()))
    assert await anext(groups)
    assert evaluating(store, "nix-eval-jobs")

    await groups.aclose()

    assert not evaluating(store, "nix-eval-jobs")


def test_the_choice(stand_in: StandIn, store: ScratchStore) -> None:
    bare = store.environment | {"PATH": "/nowhere"}
    assert isinstance(choose(stand_in.environment, "nix-eval-jobs"), NixEvalJobsEvaluator)
    assert isinstance(choose(bare, "nix-eval-jobs"), OwnEvaluator)
    assert isinstance(choose(stand_in.environment), OwnEvaluator)
    assert isinstance(choose(stand_in.environment, "own"), OwnEvaluator)
