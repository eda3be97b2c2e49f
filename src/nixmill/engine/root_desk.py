"""Implements `engine.office_roots.RootDesk`: pages about roots with sizes, pins by hand, dry runs of a collection."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from nixmill.config.roots import RootSettings
from nixmill.core.access import Sight
from nixmill.core.account import AuditEntry
from nixmill.core.closure import ClosureSize
from nixmill.core.errors import InputError
from nixmill.core.pin import HandPin
from nixmill.core.project import Project, default_branch, short
from nixmill.core.view.roots import (
    CollectionPage,
    HandPinLine,
    PinLine,
    ProjectRootsPage,
    RootFault,
    ServerRootsPage,
    Standing,
)
from nixmill.doors import Clock, DoorError, Store
from nixmill.doors.pages_roots import GoodResult, RootPages, RootsWanted
from nixmill.doors.roots import PinBook
from nixmill.doors.server import Members, Refs
from nixmill.engine import keeper
from nixmill.engine.dead_paths import DeadPaths
from nixmill.engine.office import Asker
from nixmill.engine.office_roots import HoldNow
from nixmill.engine.root_sizes import RootSizes
from nixmill.nix.attr_path import AttrPath, AttrPathError, parse, show
from nixmill.nix.store_path import StorePath, StorePathError
from nixmill.nix.store_path import parse as parse_store_path

REASON_MAX: Final = 500
"""Characters of a reason."""
NEWEST: Final = 200
"""Pins of which the largest closures are looked for."""
BIGGEST: Final = 10
DAY_S: Final = 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RootDoors:
    """What the desk works with."""

    pages: RootPages
    book: PinBook
    keeper: HoldNow
    store: Store
    sizes: RootSizes
    dead: DeadPaths
    refs: Refs
    members: Members
    clock: Clock
    settings: RootSettings
    store_dir: str


class StoreRootDesk:
    """See `RootDesk`."""

    def __init__(self, doors: RootDoors) -> None:
        """Work with `doors`."""
        self._doors = doors

    async def project(self, sight: Sight, name: str, wanted: RootsWanted) -> ProjectRootsPage | None:
        """See `RootDesk`."""
        page = await self._doors.pages.project(sight, name, wanted)
        if page is None:
            return None
        pins, hand = await self._measured(page.pins, page.hand)
        return msgspec.structs.replace(page, pins=pins, hand=hand)

    async def server(self, sight: Sight, wanted: RootsWanted) -> ServerRootsPage:
        """See `RootDesk`."""
        page = await self._doors.pages.server(sight, wanted)
        newest = await self._doors.pages.newest(sight, NEWEST)
        pins, hand = await self._measured(newest, page.hand)
        sized = sorted((pin for pin in pins if pin.size is not None), key=_closure, reverse=True)
        all_seeing = sight.everything and sight.only is None
        standing = _shown(await self._doors.keeper.standing()) if all_seeing else None
        return msgspec.structs.replace(
            page, hand=hand, biggest=tuple(sized[:BIGGEST]), measured=len(sized), standing=standing
        )

    async def pin(
        self, asker: Asker, project: Project | None, what: str, reason: str, until: float | None, ref: str = ""
    ) -> Sequence[StorePath]:
        """See `RootDesk`. Recorded first: the database says which roots should stand."""
        reason = reason.strip()
        if not reason or len(reason) > REASON_MAX:
            raise InputError("A pin needs a reason.", f"Say why it is kept, in at most {REASON_MAX} characters.")
        wanted = await self._wanted(project, what, ref)
        await self._must_be_valid([pin.store_path for pin in wanted])
        now = self._doors.clock.now()
        said = {"reason": reason, "user": asker.user, "who": asker.name, "at": now, "until": until}
        await self._stand([msgspec.structs.replace(pin, **said) for pin in wanted])
        paths = [pin.store_path for pin in wanted]
        await self._note(asker, "pin", what, project, f"{', '.join(paths)}: {reason}")
        return paths

    async def unpin(self, asker: Asker, project: Project | None, what: str, ref: str = "") -> Sequence[StorePath]:
        """See `RootDesk`."""
        subject = self._subject(project, what)
        number = project.id if project is not None else None
        pins = await self._doors.pages.pinned(number, subject, full_ref(ref))
        if not pins:
            where = f"for {project.name}" if project is not None else "for the server"
            raise InputError(f"{what[:200]} is not pinned by hand {where}.", "Look at what is: nixmill roots")
        paths = [pin.store_path for pin in pins]
        await self._doors.book.unpin(number, paths)
        await self._note(asker, "unpin", what, project, ", ".join(paths))
        return paths

    def collection(self) -> CollectionPage:
        """See `RootDesk`."""
        return self._doors.dead.page

    async def collect_dry(self, asker: Asker) -> CollectionPage:
        """See `RootDesk`."""
        return self._doors.dead.begin(asker.name)

    async def _wanted(self, project: Project | None, what: str, ref: str) -> list[HandPin]:
        """Return the pins that are meant, still without reason and time."""
        subject = self._subject(project, what)
        if isinstance(subject, str):
            number = project.id if project is not None else None
            return [HandPin(store_path=subject, project=number, reason="")]
        if project is None:
            raise InputError("An attribute belongs to a project.", "Name one: --project NAME")
        full = full_ref(ref) or await self._default(project)
        good = await self._doors.pages.good(project.id, full, subject)
        return [
            HandPin(store_path=path, project=project.id, ref=full, attribute=subject, reason="")
            for path in _outputs(good, subject, full)
        ]

    def _subject(self, project: Project | None, what: str) -> StorePath | AttrPath:
        """Return the store path or attribute that somebody typed."""
        said = what.strip()
        try:
            if said.startswith("/") or project is None:
                return parse_store_path(said, self._doors.store_dir)
            path = parse(said)
        except StorePathError as error:
            raise InputError(str(error)[:400], "Give a store path; an attribute needs a project.") from error
        except AttrPathError as error:
            raise InputError(str(error)[:400], "Give a store path or an attribute.") from error
        if not path:
            raise InputError("Nothing is named.", "Give a store path or an attribute.")
        return path

    async def _default(self, project: Project) -> str:
        branch = default_branch(project, await self._doors.refs.polled(project.id))
        if not branch:
            raise InputError(f"Nobody knows the default branch of {project.name} yet.", "Name a branch: --ref main")
        return full_ref(branch)

    async def _must_be_valid(self, paths: Collection[StorePath]) -> None:
        valid = await self._doors.store.valid(paths)
        absent = next((path for path in paths if path not in valid), None)
        if absent is not None:
            raise InputError(
                f"{absent} is not in the store of this server, so nothing can be kept of it.",
                "Have it built or fetched first: nixmill retry RUN --build ATTRIBUTE",
            )

    async def _stand(self, pins: Sequence[HandPin]) -> None:
        """Record pins and make their roots stand; where one does not, or has gone, take back all that are new."""
        new = [pin for pin in pins if not await self._doors.pages.pinned(pin.project, pin.store_path)]
        paths = [pin.store_path for pin in pins]
        try:
            for pin in pins:
                await self._doors.book.pin(pin)
            for path, fault in (await self._doors.keeper.hold_now(paths)).items():
                raise _not_rooted(path, fault)
            await self._must_be_valid(paths)
        except (DoorError, InputError):
            for pin in new:
                await self._doors.book.unpin(pin.project, [pin.store_path])
            raise

    async def _measured(
        self, pins: Sequence[PinLine], hand: Sequence[HandPinLine]
    ) -> tuple[tuple[PinLine, ...], tuple[HandPinLine, ...]]:
        """Return lines with their sizes and ends; without sizes where the store is away or slow."""
        here = [() if pin.held else tuple(pin.outputs.values()) for pin in pins]
        try:
            sizes = await self._doors.sizes.sizes([*here, *((line.store_path,) for line in hand)])
        except (DoorError, TimeoutError):
            sizes = [None] * (len(pins) + len(hand))
        of_pins, of_hand = sizes[: len(pins)], sizes[len(pins) :]
        return (
            tuple(self._with_end(pin, size) for pin, size in zip(pins, of_pins, strict=True)),
            tuple(msgspec.structs.replace(line, size=size) for line, size in zip(hand, of_hand, strict=True)),
        )

    def _with_end(self, pin: PinLine, size: ClosureSize | None) -> PinLine:
        gone_s = self._doors.settings.gone_days * DAY_S
        until = pin.gone_since + gone_s if pin.gone_since is not None else None
        return msgspec.structs.replace(pin, size=size, until=until)

    async def _note(self, asker: Asker, action: str, subject: str, project: Project | None, detail: str) -> None:
        entry = AuditEntry(
            at=self._doors.clock.now(),
            user=asker.user,
            who=asker.name,
            action=action,
            subject=subject.strip(),
            project=project.id if project is not None else None,
            detail=detail,
            address=asker.address,
        )
        await self._doors.members.audit(entry)


def full_ref(ref: str) -> str:
    """Return a ref in full: `refs/heads/main` for `main`; empty for an empty one."""
    said = ref.strip()
    return said if not said or said.startswith("refs/") else f"refs/heads/{said}"


def _shown(kept: keeper.Standing) -> Standing:
    return Standing(
        standing=kept.standing,
        wanted=kept.wanted,
        faults=tuple(RootFault(path, fault) for path, fault in kept.faults),
        fault=kept.fault,
        checked_at=kept.checked_at or None,
    )


def _outputs(good: GoodResult | None, path: AttrPath, ref: str) -> list[StorePath]:
    """Return all outputs of a result; none of them is pinned without the others."""
    if good is None:
        raise InputError(
            f"{show(path)} has no good result on {short(ref)} yet.", "Wait for its build, or name another --ref."
        )
    outputs = [output for output in good.outputs.values() if output is not None]
    if len(outputs) < max(1, len(good.outputs)):
        raise InputError(
            f"The paths of {show(path)} are not known from its evaluation.", "Pin the store path itself instead."
        )
    return outputs


def _not_rooted(path: StorePath, fault: str) -> DoorError:
    sentence = f"No root could be made for {path}, so it was not pinned: {fault}"
    return DoorError(sentence, door="roots", action="pin", subject=path, retryable=True)


def _closure(pin: PinLine) -> int:
    return pin.size.closure if pin.size is not None else 0
