"""nix-eval-jobs as an evaluator, with the same records as our own.

It is given the walker's tree, so that what is a job and which sets are opened is decided in one place (`walker.nix`).
What it leaves unanswered is asked of our own evaluator: everything that was left when it gave up (a lost worker ends
all of it; so do limits that it does not keep itself), and attributes whose names it cannot address.
Source: nix-eval-jobs 2.9 to 2.33, `src/`. Its workers drop temporary roots when they restart, hence `--gc-roots-dir`.
"""

import contextlib
import re
import secrets
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from nixmill.core.evaluation import Attribute, EvalError, EvalRecord, EvaluationEnded, EvaluationRequest
from nixmill.edge.evaluator import confine
from nixmill.edge.evaluator.account import Account, Groups, carried_through
from nixmill.edge.evaluator.jobs_run import JobsRun
from nixmill.edge.evaluator.own import OwnEvaluator
from nixmill.edge.evaluator.probe import Probe, run
from nixmill.edge.evaluator.process import EvalProcess
from nixmill.edge.evaluator.source_text import Group, groups, tree_expression
from nixmill.nix.attr_path import AttrPath

if TYPE_CHECKING:
    from nixmill.edge.sandbox import Sandbox

_VERSION: Final = re.compile(r"\d+(\.\d+)+\S*")


class NixEvalJobsEvaluator:
    """The door `Evaluator`, over `nix-eval-jobs` and, for what that leaves over, `nix`."""

    def __init__(
        self,
        environment: Mapping[str, str],
        program: str = "nix-eval-jobs",
        nix: str = "nix",
        *,
        hidden: tuple[Path, ...] = (),
        sandbox: "Sandbox | None" = None,
    ) -> None:
        """Run `program` and `nix` with `environment` (all of it: nothing is inherited), unable to read `hidden`.

        With a sandbox the processes are in it, and of the environment nothing reaches them.
        """
        self._environment = environment
        self._program = program
        self._probe = Probe(environment, nix, hidden)
        self._own = OwnEvaluator(environment, nix, hidden=hidden, sandbox=sandbox)
        self._sandbox = sandbox

    async def identity(self) -> str:
        """Return name and version, such as `nix-eval-jobs 2.33.1 (nix 2.33.0)`."""
        status, out, said = await run([self._program, "--version"], self._environment)
        found = _VERSION.search(out + said) if status == 0 else None
        return f"nix-eval-jobs {found[0] if found else 'of unknown version'} (nix {await self._probe.version()})"

    def evaluate(self, request: EvaluationRequest) -> Groups:
        """Yield records as they are made; see the door."""
        account = Account(request.limits)
        return carried_through(self._all(request, account), account, self.identity)

    async def _all(self, request: EvaluationRequest, account: Account) -> Groups:
        for group in groups(request.targets):
            part = msgspec.structs.replace(request, targets=group.targets)
            answered: set[AttrPath] = set()
            jobs = await self._jobs(group, part, account)
            async with contextlib.aclosing(jobs.groups()) as parcels:
                async for records in parcels:
                    answered.update(record.path for record in records if isinstance(record, Attribute | EvalError))
                    yield records
            if not jobs.complete:
                async with contextlib.aclosing(self._rest(part, answered, account)) as rest:
                    async for records in rest:
                        yield records

    async def _jobs(self, group: Group, request: EvaluationRequest, account: Account) -> JobsRun:
        token = f"nixmill-{secrets.token_hex(8)}-"
        things = contextlib.AsyncExitStack()
        jobs = JobsRun(group, request, token, account, things)
        expression = tree_expression(token, group.targets, request.settings)
        try:
            directory = things.enter_context(tempfile.TemporaryDirectory(prefix="nixmill-"))
            jobs.begin(await self._process(group, request, expression, directory, things))
        except BaseException:
            await things.aclose()
            raise
        return jobs

    async def _process(
        self,
        group: Group,
        request: EvaluationRequest,
        expression: str,
        directory: str,
        stack: contextlib.AsyncExitStack,
    ) -> EvalProcess:
        launch = await self._probe.launch()
        memory = request.limits.memory_bytes
        roots = f"{directory}/roots" if self._sandbox is None else ""
        argv = launch.jobs(self._program, request.settings, group.tree_path, request.limits, roots)
        if self._sandbox is None:
            return await EvalProcess.start(
                confine.command([*argv, expression], launch.hidden, group, launch.environment),
                environment=launch.environ(directory, memory),
                directory=group.tree_path or directory,
                output=True,
            )
        allowed = request.settings.allow_import_from_derivation
        enclosure = await stack.enter_async_context(self._sandbox.enclosure(self._program, allow_builds=allowed))
        return await enclosure.start(
            [*argv, expression],
            shown=confine.needed(group),
            directory=group.tree_path or "/",
            environment=launch.heap(memory),
            memory_bytes=memory,
            output=True,
        )

    async def _rest(self, request: EvaluationRequest, answered: set[AttrPath], account: Account) -> Groups:
        left = msgspec.structs.replace(request.limits, time_s=max(1.0, account.left_s()))
        groups_of_rest = self._own.evaluate(msgspec.structs.replace(request, limits=left))
        async with contextlib.aclosing(groups_of_rest):
            async for records in groups_of_rest:
                for record in records:
                    if isinstance(record, EvaluationEnded):
                        account.measured(record.peak_bytes, record.workers)
                yield [record for record in records if _is_new(record, answered)]


def _is_new(record: EvalRecord, answered: set[AttrPath]) -> bool:
    if isinstance(record, Attribute | EvalError):
        return record.path not in answered
    return not isinstance(record, EvaluationEnded)
