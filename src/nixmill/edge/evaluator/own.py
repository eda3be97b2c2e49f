"""Our own evaluator: needs nothing but the nix command, 2.8 or newer.

Carries a request through: groups of targets one after another, each walked by a crew; records to the consumer as they
are made. The walk is `walker.nix`, the queue `segments.py`, the reading `records.py`, the workers `crew.py`.
"""

import asyncio
import contextlib
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from nixmill.core.evaluation import EvaluationRequest, FileTarget
from nixmill.edge.evaluator import complaints, scratch
from nixmill.edge.evaluator.account import Account, Groups, carried_through
from nixmill.edge.evaluator.crew import Crew, Parcel
from nixmill.edge.evaluator.probe import Probe
from nixmill.edge.evaluator.records import Context, TargetFailedError, UnknownAttributeError
from nixmill.edge.evaluator.segments import Frontier
from nixmill.edge.evaluator.source_text import Group, groups
from nixmill.edge.evaluator.worker import PureWorker, ReplWorker, Site, Worker

if TYPE_CHECKING:
    from nixmill.edge.sandbox import Sandbox


class OwnEvaluator:
    """The door `Evaluator`, over `nix`."""

    def __init__(
        self,
        environment: Mapping[str, str],
        program: str = "nix",
        *,
        hidden: tuple[Path, ...] = (),
        sandbox: "Sandbox | None" = None,
    ) -> None:
        """Run `program` with `environment` (all of it: nothing is inherited), unable to read what is `hidden`.

        With a sandbox the processes are in it, and of the environment nothing reaches them.
        """
        self._probe = Probe(environment, program, hidden)
        self._program = program
        self._sandbox = sandbox

    async def identity(self) -> str:
        """Return name and version, such as `nix repl 2.8.0`."""
        return f"nix repl {await self._probe.version()}"

    def evaluate(self, request: EvaluationRequest) -> Groups:
        """Yield records as they are made; see the door."""
        account = Account(request.limits)
        return carried_through(self._all(request, account), account, self.identity)

    async def _all(self, request: EvaluationRequest, account: Account) -> Groups:
        for group in groups(request.targets):
            async with contextlib.aclosing(self._group(group, request, account)) as parcels:
                async for records in parcels:
                    yield records

    async def _group(self, group: Group, request: EvaluationRequest, account: Account) -> Groups:
        for target in group.targets:
            if isinstance(target, FileTarget) and not Path(target.file).exists():  # noqa: ASYNC240 - one stat
                raise complaints.missing_file(target)
        async with contextlib.AsyncExitStack() as stack:
            site = await self._site(group, request, stack)
            async with contextlib.aclosing(self._crew(site, request, account)) as parcels:
                async for records in parcels:
                    yield records

    async def _crew(self, site: Site, request: EvaluationRequest, account: Account) -> Groups:
        group = site.group
        parcels: asyncio.Queue[Parcel | None] = asyncio.Queue(maxsize=2 * request.limits.workers)
        crew = Crew(
            start=_Starter(site, repl=bool(group.tree_path) or await self._probe.repl_is_pure()),
            frontier=Frontier(tuple(target.attr for target in group.targets)),
            context=Context(tree_path=group.tree_path, show_trace=request.settings.show_trace),
            limits=request.limits,
            governed=not request.settings.allow_import_from_derivation,
            deliver=parcels.put,
        )
        walk = asyncio.create_task(_walk(crew, parcels))
        try:
            while (parcel := await account.within_time(parcels.get(), crew.busy)) is not None:
                there = [parcel, *_rest(parcels)]
                yield [record for _, records in there for record in records]
                for hand, _ in there:
                    hand.consumed()
            await walk
        except (TargetFailedError, UnknownAttributeError) as error:
            raise _complaint(group, error) from None
        finally:
            walk.cancel()
            await asyncio.gather(walk, return_exceptions=True)
            await crew.close()
            account.measured(crew.peak_bytes, crew.started)

    async def _site(self, group: Group, request: EvaluationRequest, stack: contextlib.AsyncExitStack) -> Site:
        settings = request.settings
        enclosure = None
        if self._sandbox is not None:
            opening = self._sandbox.enclosure(self._program, allow_builds=settings.allow_import_from_derivation)
            enclosure = await stack.enter_async_context(opening)
        return Site(
            launch=await self._probe.launch(),
            group=group,
            settings=settings,
            memory_bytes=request.limits.memory_bytes,
            token=f"nixmill-{secrets.token_hex(8)}-",
            directory=stack.enter_context(scratch.temporary()),
            fast_directory=stack.enter_context(scratch.temporary(in_memory=True)),
            enclosure=enclosure,
        )


class _Starter:
    """Starts workers of the kind that a group needs."""

    def __init__(self, site: Site, *, repl: bool) -> None:
        self._site = site
        self._repl = repl

    async def __call__(self) -> Worker:
        return await (ReplWorker.start(self._site) if self._repl else PureWorker.start(self._site))


def _rest(parcels: asyncio.Queue[Parcel | None]) -> list[Parcel]:
    """Return what else is there, but leave the end where it is."""
    found: list[Parcel] = []
    while not parcels.empty():
        parcel = parcels.get_nowait()
        if parcel is None:
            # Nobody else puts anything after the end, so there is room.
            parcels.put_nowait(None)
            break
        found.append(parcel)
    return found


async def _walk(crew: Crew, parcels: asyncio.Queue[Parcel | None]) -> None:
    try:
        await crew.run()
    except Exception:
        await parcels.put(None)
        raise
    await parcels.put(None)


def _complaint(group: Group, error: TargetFailedError | UnknownAttributeError) -> Exception:
    if isinstance(error, TargetFailedError):
        return complaints.failed(group.targets[error.target], error.text)
    return complaints.unknown(group.targets[error.found.target], error.found.index, error.found.names)
