"""A small world for pages: projects, runs and what they found, made by the real writers."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from nixmill.core.access import Visibility
from nixmill.core.change import Change as Asked
from nixmill.core.change import ChangeState, Origin, Progress
from nixmill.core.evaluation import Attribute, EvalError, EvalFault
from nixmill.core.history import AttemptRow, AttributeRow, DifferenceRow, EvaluationRow
from nixmill.core.outcome import Outcome
from nixmill.core.project import Polled, Project, Ref
from nixmill.core.run_event import Change, Verdict, Work
from nixmill.edge.database.changes import SqlChanges
from nixmill.edge.database.database import Database
from nixmill.edge.database.history import SqlHistory
from nixmill.edge.database.projects import SqlProjects
from nixmill.edge.database.refs import SqlRefs
from nixmill.nix.store_path import StorePath

NOW: Final = 1_800_000_000.0
_HASHED: Final = "0123456789abcdfghijklmnpqrsvwxyz"


def drv(name: str) -> StorePath:
    """Return the path of a derivation; each name has a hash of its own."""
    number = int.from_bytes(name.encode().rjust(20, b"\0")[-20:])
    digits = "".join(_HASHED[number >> (5 * place) & 31] for place in range(32))
    return StorePath(f"/nix/store/{digits}-{name}.drv")


def attribute(name: str, version: str = "1") -> Attribute:
    """Return `checks.x86_64-linux.NAME`."""
    return Attribute(
        path=("checks", "x86_64-linux", name),
        name=f"{name}-{version}",
        system="x86_64-linux",
        drv_path=drv(f"{name}-{version}"),
        outputs={"out": StorePath(drv(f"{name}-{version}").removesuffix(".drv"))},
        description=f"About {name}",
        maintainers=("somebody@example.org",),
    )


class Fate(NamedTuple):
    """What becomes of an attribute."""

    outcome: Outcome = Outcome.SUCCEEDED
    change: Change = Change.SAME
    culprit: str = ""
    version: str = "1"
    built: bool = False


class World:
    """Writes what a server would write."""

    def __init__(self, database: Database) -> None:
        """Write to `database`."""
        self.database = database
        self.projects = SqlProjects(database, self.now)
        self.refs = SqlRefs(database, self.now)
        self.changes = SqlChanges(database, self.now)
        self.history = SqlHistory(database, self.now)
        self._ticks = itertools.count(1)

    @staticmethod
    def now() -> float:
        """Return the one instant at which pages are looked at."""
        return NOW

    async def project(self, name: str, visibility: Visibility = Visibility.PUBLIC, *refs: str) -> Project:
        """Add a project whose default branch is `main`."""
        made = await self.projects.save_project(
            Project(
                name=name,
                title=f"The {name}",
                url=f"https://example.org/{name}.git",
                default_branch="main",
                visibility=visibility,
            )
        )
        seen = [Ref(name=ref, commit="c" * 40) for ref in ("refs/heads/main", *refs)]
        await self.refs.saw(made.id, Polled(at=NOW - 60, default_branch="main"), seen, [])
        return made

    async def start(self, project: Project, ref: str = "refs/heads/main", **fields: object) -> int:
        """Accept a change; return its number."""
        tick = next(self._ticks)
        commit = f"{tick:07x}{'a' * 33}"
        asked = {"commit": commit, "origin": Origin.PUSH, "requested_at": NOW - 3600 + tick, "jobset": None, **fields}
        return (await self.changes.accept([Asked(project=project.id, ref=ref, **asked)]))[0]  # type: ignore[arg-type]

    async def evaluate(
        self,
        run: int,
        attributes: Sequence[Attribute],
        errors: Sequence[EvalError] = (),
        *,
        key: str = "",
        base: str = "",
    ) -> str:
        """Record a run's evaluation; return its key."""
        key = key or f"key-{run}"
        row = EvaluationRow(
            key=key,
            run=run,
            tree_hash=f"tree-{run}",
            commit="",
            seconds=1.5,
            attributes=tuple(attributes),
            errors=tuple(errors),
        )
        await self.history.record([row])
        await self.changes.progress(
            Progress(
                number=run,
                state=ChangeState.BUILDING,
                started_at=NOW - 600,
                evaluation=key,
                base_evaluation=base,
                subject=f"Change {run}",
                author="A. Author",
                tree_hash=f"tree-{run}",
            )
        )
        return key

    async def attempt(
        self,
        run: int,
        name: str,
        outcome: Outcome | None = Outcome.SUCCEEDED,
        *,
        seconds: float = 3.0,
        machine: str = "local",
    ) -> int:
        """Record a try at a build of the derivation called `name`."""
        number = await self.history.next_attempts(1)
        row = AttemptRow(
            number=number,
            run=run,
            drv_path=drv(name),
            name=name.rpartition("-")[0],
            system="x86_64-linux",
            work=Work.BUILD,
            machine=machine,
            started_at=NOW - 500 + number,
            seconds=seconds,
            outcome=outcome,
            message="" if outcome in {None, Outcome.SUCCEEDED} else f"builder for {name} failed",
            exit_status=None,
            log=f"/logs/{number}",
            output_bytes=1000,
        )
        await self.history.record([row])
        return number

    async def settle(self, run: int, key: str, fates: Mapping[str, Fate]) -> None:
        """Record the outcomes of attributes by their name."""
        rows = []
        for name, fate in fates.items():
            of = attribute(name, fate.version)
            if fate.built:
                await self.attempt(run, f"{name}-{fate.version}", fate.outcome)
            rows.append(
                AttributeRow(
                    run=run,
                    evaluation=key,
                    path=of.path,
                    drv_path=of.drv_path,
                    outcome=fate.outcome,
                    change=fate.change,
                    how="built" if fate.outcome is Outcome.SUCCEEDED else "failed",
                    culprit=drv(fate.culprit) if fate.culprit else None,
                    seconds=3.0,
                )
            )
        await self.history.record(rows)

    async def end(self, run: int, verdict: Verdict = Verdict.GOOD, **fields: object) -> None:
        """End a run."""
        await self.changes.progress(
            Progress(number=run, verdict=verdict, sentence=f"It {verdict.value}.", ended_at=NOW - 100, **fields)  # type: ignore[arg-type]
        )

    async def whole(
        self,
        project: Project,
        verdict: Verdict = Verdict.GOOD,
        names: Sequence[str] = ("a",),
        ref: str = "refs/heads/main",
        **fields: object,
    ) -> int:
        """Make a run from its start to its end; where it is not good, everything failed."""
        run = await self.start(project, ref, **fields)
        key = await self.evaluate(run, [attribute(name) for name in names])
        outcome = Outcome.SUCCEEDED if verdict is Verdict.GOOD else Outcome.BUILD_FAILED
        await self.settle(run, key, {name: Fate(outcome, Change.UNKNOWN, built=True) for name in names})
        await self.end(run, verdict)
        return run

    async def rich(self, project: Project) -> int:
        """Make a run that has a bit of everything, after one that was good; return its number."""
        names = ("new-fail", "victim", "old-fail", "fixed", "gone", "same", "other", "hidden", "late")
        before = await self.whole(project, names=names)
        run = await self.start(project)
        attributes = [attribute(name, "2") for name in ("new-fail", "victim", "changed", "other")]
        attributes += [attribute(name) for name in ("old-fail", "fixed", "new", "same", "trouble", "late")]
        errors = [broken("bad", "oh no\nreally"), broken("worse", "no!")]
        key = await self.evaluate(run, attributes, errors, base=f"key-{before}")
        await self.history.record(
            [
                DifferenceRow(run=run, path=attribute("gone").path, change=Change.REMOVED, renamed_to=("a", "new one")),
                DifferenceRow(run=run, path=attribute("hidden").path, change=Change.REMOVED, hidden_by=("a", "bad")),
                DifferenceRow(run=run, path=errors[0].path, change=Change.NEWLY_FAILING),
                DifferenceRow(run=run, path=errors[1].path, change=Change.SAME),
            ]
        )
        await self.attempt(run, "lib-2", Outcome.BUILD_FAILED)
        await self.settle(run, key, FATES)
        return run


def broken(name: str, message: str) -> EvalError:
    """Return an attribute that does not evaluate."""
    return EvalError(
        path=("checks", "x86_64-linux", name), fault=EvalFault.THROW, message=message, position="flake.nix:1:2"
    )


FATES: Final = {
    "new-fail": Fate(Outcome.DEPENDENCY_FAILED, Change.NEWLY_FAILING, "lib-2", "2"),
    "victim": Fate(Outcome.DEPENDENCY_FAILED, Change.NEWLY_FAILING, "lib-2", "2"),
    "changed": Fate(Outcome.SUCCEEDED, Change.CHANGED, "", "2", built=True),
    "other": Fate(Outcome.BUILD_FAILED, Change.CHANGED, "", "2", built=True),
    "old-fail": Fate(Outcome.BUILD_FAILED, Change.SAME),
    "fixed": Fate(Outcome.SUCCEEDED, Change.FIXED, built=True),
    "new": Fate(Outcome.SUCCEEDED, Change.NEW, built=True),
    "same": Fate(Outcome.SUCCEEDED, Change.SAME),
    "trouble": Fate(Outcome.INFRASTRUCTURE, Change.CHANGED),
}
