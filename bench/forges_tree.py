"""What a stranger's tree costs more than one's own: merging it into its base, and evaluating it in a sandbox."""

import asyncio
import contextlib
import statistics
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Final

from bench.server_world import Figure, Options, percentile
from nixmill.core.evaluation import Attribute, EvaluationLimits, EvaluationRequest, FileTarget, FlakeTarget, Target
from nixmill.edge.evaluator import OwnEvaluator
from nixmill.edge.git_merge import merged
from nixmill.edge.git_mirror import Mirror
from tests.support.sandboxes import sandbox
from tests.support.scratch_store import ScratchStore, scratch_store

WORKER_MS: Final = 300.0
"""What the sandbox of one worker may cost."""
RATIO: Final = 4.0
"""How many times as long 1,000 attributes may take in the sandbox."""
MERGE_RATIO: Final = 4.0
"""So many times as long as git's three commands one after another a merge may take; it also looks at both commits."""
FILES: Final = 5_000
JOBS: Final = """\
let
  job = i: derivation {
    name = "job-${toString i}";
    system = "x86_64-linux";
    builder = "/bin/sh";
    args = [ "-c" "exit ${toString i}" ];
  };
in builtins.listToAttrs (builtins.genList (i: { name = "job-${toString i}"; value = job (i + SALT); }) COUNT)
"""


async def sandboxed(options: Options) -> AsyncIterator[Figure]:
    """Evaluate in the sandbox and without it, derivations that are new to the store; one attribute costs a worker."""
    rounds = 1 if options.quick else 3
    for count, workers in ((1, 1), (1_000, 1), (1_000, 2)):
        for kind in ("file", "flake"):
            with _tree(count) as tree, scratch_store() as store:
                pairs = [await _pair(store, tree, kind, count, workers, turn) for turn in range(rounds + 1)][1:]
            name = f"{count:,} attribute{'s' * (count > 1)}, {kind}, {workers} worker{'s' * (workers > 1)}"
            inside, outside = (statistics.median(each) for each in zip(*pairs, strict=True))
            ratio = statistics.median(one / other for one, other in pairs)
            if count == 1:
                more = statistics.median(one - other for one, other in pairs) * 1e3
                yield Figure(f"{name}: more for the sandbox", more, "ms", WORKER_MS, f"{outside * 1e3:.0f} without")
            else:
                yield Figure(f"{name}: ratio", ratio, "×", RATIO, f"{inside:.2f} s against {outside:.2f} s")


async def _pair(store: ScratchStore, tree: Path, kind: str, count: int, workers: int, turn: int) -> tuple[float, float]:
    """Evaluate inside and outside, each derivations that are new to the store; return how many seconds each took."""
    inside = OwnEvaluator(store.environment, sandbox=sandbox(store))
    found = []
    for at, evaluator in enumerate((inside, OwnEvaluator(store.environment))):
        target = _target(tree, kind, count, salt=count * 2 * (2 * turn + at + 1))
        request = EvaluationRequest(targets=(target,), limits=EvaluationLimits(workers=workers))
        began, good = time.perf_counter(), 0
        async with contextlib.aclosing(evaluator.evaluate(request)) as groups:
            async for records in groups:
                good += sum(isinstance(record, Attribute) for record in records)
        found.append(time.perf_counter() - began)
        assert good == count, (good, count)
    return found[0], found[1]


@contextlib.contextmanager
def _tree(count: int) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="nixmill-bench-") as place:
        tree = Path(place) / "tree"
        tree.mkdir()
        (tree / "flake.nix").write_text("{ outputs = _: { checks.x86_64-linux = import ./.; }; }")
        _git(tree, "init", "-q")
        _target(tree, "file", count, 0)
        yield tree


def _target(tree: Path, kind: str, count: int, salt: int) -> Target:
    """Commit a tree whose derivations are all others than with another salt."""
    (tree / "default.nix").write_text(JOBS.replace("SALT", str(salt)).replace("COUNT", str(count)))
    _git(tree, "add", "-A")
    _git(tree, "commit", "-q", "--allow-empty", "-m", f"{salt}")
    if kind == "file":
        return FileTarget(file=str(tree / "default.nix"), tree_path=str(tree))
    return FlakeTarget(reference=f"git+file://{tree}?rev={_git(tree, 'rev-parse', 'HEAD')}", attr=("checks",))


def _git(place: Path, *arguments: str) -> str:
    who = ("-c", "user.name=n", "-c", "user.email=n@localhost", "-c", "init.defaultBranch=main", "-c", "gc.auto=0")
    command = ("git", "-C", str(place), *who, *arguments)
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


async def merge(options: Options) -> AsyncIterator[Figure]:
    """Merge heads into a base in a mirror of 5,000 files, by ours and by git's commands by hand."""
    count = 5 if options.quick else 50
    with tempfile.TemporaryDirectory(prefix="nixmill-bench-") as place:
        base, heads = _history(Path(place) / "repo", count)
        _git(Path(place), "clone", "-q", "--mirror", "repo", "mirror")
        mirror, bare = Mirror(Path(place) / "mirror"), []
        took = []
        for head in heads:
            began = time.perf_counter()
            made = await merged(mirror, head, base, "main")
            took.append(time.perf_counter() - began)
            assert made.commit not in {head, base}
            began = time.perf_counter()
            await asyncio.to_thread(_by_hand, mirror.directory, base, head)
            bare.append(time.perf_counter() - began)
    ratio = statistics.median(one / other for one, other in zip(took, bare, strict=True))
    yield Figure(f"a merge, median of {count}", statistics.median(took) * 1e3, "ms")
    yield Figure("a merge, p95", percentile(took, 0.95) * 1e3, "ms")
    remark = f"{statistics.median(bare) * 1e3:.1f} ms by hand"
    yield Figure("against git by hand, median of ratios", ratio, "×", MERGE_RATIO, remark)


def _by_hand(mirror: Path, base: str, head: str) -> None:
    _git(mirror, "merge-base", base, head)
    tree = _git(mirror, "merge-tree", "--write-tree", base, head)
    _git(mirror, "commit-tree", tree, "-p", base, "-p", head, "-m", "merged")


def _history(repository: Path, count: int) -> tuple[str, list[str]]:
    """Make a repository whose main went on after all heads left it; return the tip of main and the heads."""
    repository.mkdir()
    _git(repository, "init", "-q")
    _write(
        repository,
        {f"d{at % 100}/f{at}": "".join(f"line {line} of {at}\n" for line in range(20)) for at in range(FILES)},
    )
    _git(repository, "add", "-A")
    _git(repository, "commit", "-q", "-m", "first")
    heads = []
    for number in range(count):
        _git(repository, "checkout", "-q", "-b", f"change-{number}", "main")
        _write(repository, {f"d{at}/f{at + 100 * number % FILES}": f"changed by {number}\n" for at in range(5)})
        _git(repository, "commit", "-q", "-a", "-m", f"change {number}")
        heads.append(_git(repository, "rev-parse", "HEAD"))
    _git(repository, "checkout", "-q", "main")
    _write(repository, {f"d{at}/f{at + 4900}": "changed on main\n" for at in range(50, 100)})
    _git(repository, "commit", "-q", "-a", "-m", "main went on")
    return _git(repository, "rev-parse", "HEAD"), heads


def _write(place: Path, files: Mapping[str, str]) -> None:
    for name, text in files.items():
        file = place / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)
