"""The door `PinBook`: what is pinned, and what an evaluation or a look at the refs does to pins.

The rules are those of `nixmill.core.roots`; here is what they are asked about and where their answers go. A run
records its pins with its outcomes (`writing`): thousands in one call, so nothing here costs a statement for each.
"""

import functools
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec
from sqlalchemy import ColumnElement, Connection, bindparam, delete, exists, func, insert, select, update

from nixmill.core.pin import HandPin, Pin, PinRule, RootPolicy
from nixmill.core.roots import RootFacts, RootRules, Seen, gone, has_path, move
from nixmill.edge.database import tables
from nixmill.edge.database.database import Database
from nixmill.edge.database.deletion import BATCH, delete_some
from nixmill.edge.database.engine import as_table, insert_into
from nixmill.edge.database.retention import numbers
from nixmill.edge.database.root_facts import FactReader
from nixmill.edge.database.rows import Values, clean, path_of, path_text
from nixmill.edge.database.server_rows import json_text, kept_projects
from nixmill.edge.database.tables_roots import hand_pin, pin, pin_head
from nixmill.nix.attr_path import AttrPath
from nixmill.nix.store_path import StorePath

_SHORT: Final = 150
"""Characters of a path that is certainly stored uncut."""
_outputs: Final = msgspec.json.Decoder(dict[str, StorePath])
_POLICIES: Final = {policy.value: policy for policy in RootPolicy}


class SqlPins:
    """Implements `nixmill.doors.roots.PinBook`."""

    def __init__(self, database: Database, rules: RootRules, served: Collection[str] = ()) -> None:
        """Use an opened database; `served` are the names of caches that serve straight from the store."""
        self._database = database
        self._facts = FactReader(rules, served)

    async def pins(self, project: int, ref: str) -> Sequence[Pin]:
        """See `PinBook`; by path, the newest generation first."""
        of = pin.c
        query = select(pin).where(of.project == project, of.ref == ref).order_by(of.path, of.order.desc(), of.id.desc())
        return await self._database.read(
            lambda connection: [_pin_of(row) for row in connection.execute(query)], action="list pins"
        )

    async def evaluated(self, rule: PinRule, has: Collection[AttrPath], now: float) -> int:
        """See `PinBook`. Pins of another jobset are left alone: it has other attributes."""
        known = {path if sum(map(len, path)) < _SHORT else path_of(path_text(path)) for path in has}
        return await self._database.write(
            lambda connection: _evaluated(connection, rule, known, now), action="compare pins with an evaluation"
        )

    async def tidy(self, refs: dict[int, Collection[str]], gone_s: float, now: float) -> int:
        """See `PinBook`; in short transactions."""
        mark = functools.partial(_mark_gone_refs, refs=refs, now=now)
        await self._database.write(mark, action="look for pins of deleted branches")
        expired = functools.partial(delete_some, table=pin, where=pin.c.gone_at <= now - gone_s, batch=BATCH)
        total = 0
        while count := await self._database.write(expired, action="delete expired pins"):
            total += count
        return total

    async def pin(self, pin: HandPin) -> HandPin:
        """See `PinBook`."""
        number = await self._database.write(lambda connection: _pin_by_hand(connection, pin), action="pin a path")
        return msgspec.structs.replace(pin, id=number)

    async def unpin(self, project: int | None, store_paths: Collection[StorePath]) -> int:
        """See `PinBook`."""

        def work(connection: Connection) -> int:
            mine = hand_pin.c.store_path.in_(select(as_table(connection, store_paths).c.value))
            return connection.execute(delete(hand_pin).where(_of_project(project), mine)).rowcount

        return await self._database.write(work, action="unpin paths")

    async def facts(self, now: float) -> RootFacts:
        """See `PinBook`."""
        return await self._database.read(lambda connection: self._facts.read(connection, now), action="list roots")


def record_pins(connection: Connection, pins: Sequence[Pin]) -> None:
    """Record what a run found good, in the open transaction. Pins of a project that is gone are left out."""
    if not pins:
        return
    kept = kept_projects(connection, {each.project for each in pins})
    branches: dict[tuple[int, str], list[Pin]] = defaultdict(list)
    for each in pins:
        if each.project in kept:
            branches[each.project, clean(each.ref)].append(each)
    for (project, ref), mine in sorted(branches.items()):
        for some in _rounds(mine):
            _record(connection, project, ref, some)


def _rounds(pins: Iterable[Pin]) -> Iterator[dict[str, Pin]]:
    """Yield pins by their stored path, so that of each path there is one at a time, the oldest first."""
    left = sorted(pins, key=lambda each: each.order)
    while left:
        some: dict[str, Pin] = {}
        again: list[Pin] = []
        for each in left:
            text = path_text(each.path)
            if text in some:
                again.append(each)
            else:
                some[text] = each
        yield some
        left = again


def _record(connection: Connection, project: int, ref: str, pins: Mapping[str, Pin]) -> None:
    before = _generations(connection, project, ref, pins)
    gone_at = _gone_at(connection, project, ref, pins, before)
    added: list[Values] = []
    changed: list[Values] = []
    newer: dict[int, list[int]] = defaultdict(list)
    doomed: list[int] = []
    for text, new in pins.items():
        old = before.get(text, ())
        moves = move(old, msgspec.structs.replace(new, gone_at=gone_at.get(text)))
        doomed += moves.delete
        if moves.write is None:
            continue
        if moves.write.id == 0:
            added.append(_pin_values(moves.write, ref, text))
        elif moves.write.gone_at is None and _is_newer_only(old, moves.write):
            newer[moves.write.order].append(moves.write.id)
        else:
            changed.append({**_pin_values(moves.write, ref, text), "this": moves.write.id})
    _delete(connection, doomed)
    _in_batches(connection, insert(pin), added)
    _in_batches(connection, update(pin).where(pin.c.id == bindparam("this")), changed)
    for order, ids in newer.items():
        mine = pin.c.id.in_(numbers(connection, ids))
        connection.execute(update(pin).where(mine).values(order=order, gone_at=None))


def _is_newer_only(old: Sequence[Pin], new: Pin) -> bool:
    """Say whether nothing but order (and being gone) tells a generation from what is recorded."""
    was = next(each for each in old if each.id == new.id)
    return msgspec.structs.replace(was, order=new.order, gone_at=new.gone_at) == new


def _generations(connection: Connection, project: int, ref: str, paths: Collection[str]) -> dict[str, list[Pin]]:
    """Return the pins of these paths, by path."""
    of = pin.c
    mine = (of.project == project) & (of.ref == ref) & of.path.in_(select(as_table(connection, paths).c.value))
    found: dict[str, list[Pin]] = defaultdict(list)
    for row in connection.execute(select(pin).where(mine)):
        found[row.path].append(_pin_of(row))
    return found


def _gone_at(
    connection: Connection, project: int, ref: str, pins: Mapping[str, Pin], before: Mapping[str, Sequence[Pin]]
) -> dict[str, float]:
    """Return since when attributes are gone that a run found good after a newer evaluation no longer had them."""
    heads = _heads(connection, project, ref)
    orders = {each.order for each in pins.values() if each.order < max(heads.values(), default=0)}
    found: dict[str, float] = {}
    for order in sorted(orders):
        head = heads.get(_jobset(connection, order), 0)
        if order >= head:
            continue
        late = {text: each for text, each in pins.items() if each.order == order}
        lost = _lost(connection, head, [text for text in late if text not in before])
        for text, each in late.items():
            known = before.get(text)
            at = max(known, key=lambda old: old.order).gone_at if known else (each.at if text in lost else None)
            if at is not None:
                found[text] = at
    return found


def _heads(connection: Connection, project: int, ref: str) -> dict[int, int]:
    of = pin_head.c
    rows = connection.execute(select(of.jobset, of.order).where(of.project == project, of.ref == ref))
    return {int(jobset): int(order) for jobset, order in rows}


def _jobset(connection: Connection, order: int) -> int:
    """Return the jobset of the run that an order names; 0 where it has none, or is forgotten."""
    return connection.execute(select(tables.run.c.jobset).where(tables.run.c.number == order)).scalar() or 0


def _lost(connection: Connection, run: int, paths: Collection[str]) -> set[str]:
    """Return those of these paths that a run's evaluation does not have; none where the evaluation is not known."""
    links, whole = tables.run_evaluation.c, tables.evaluation.c
    complete = select(links.evaluation).join(tables.evaluation, whole.id == links.evaluation)
    ids = list(connection.execute(complete.where(links.run == run, whole.complete)).scalars()) if paths else []
    if not ids:
        return set()
    of, errors, names = tables.attribute.c, tables.evaluation_error.c, as_table(connection, paths)
    has = select(of.path).where(of.evaluation.in_(ids), of.path.in_(select(names.c.value)))
    there = set(connection.execute(has).scalars())
    bad = {
        path_of(text) for text in connection.execute(select(errors.path).where(errors.evaluation.in_(ids))).scalars()
    }
    return {text for text in paths if text not in there and not has_path(path_of(text), bad)}


def _evaluated(connection: Connection, rule: PinRule, has: set[AttrPath], now: float) -> int:
    if rule.project not in kept_projects(connection, [rule.project]):
        return 0
    ref, jobset = clean(rule.ref), _jobset(connection, rule.order)
    if not _is_newest(connection, rule, ref, jobset):
        return 0
    of, run = pin.c, tables.run.c
    mine = (of.project == rule.project) & (of.ref == ref) & (func.coalesce(run.jobset, jobset) == jobset)
    query = select(of.id, of.path, of.order, of.gone_at).select_from(pin.outerjoin(tables.run, run.number == of.order))
    rows = connection.execute(query.where(mine))
    seen = [Seen(number, path_of(path), order, at is not None) for number, path, order, at in rows]
    lost, back = gone(seen, has, rule.order)
    for ids, at in ((lost, now), (back, None)):
        if ids:
            connection.execute(update(pin).where(of.id.in_(numbers(connection, ids))).values(gone_at=at))
    return len(lost)


def _is_newest(connection: Connection, rule: PinRule, ref: str, jobset: int) -> bool:
    """Note an evaluation; say whether none that is newer was heard of."""
    values = {"project": rule.project, "ref": ref, "jobset": jobset, "order": rule.order}
    new = insert_into(connection.dialect.name, pin_head).values(values)
    upsert = new.on_conflict_do_update(
        index_elements=list(pin_head.primary_key),
        set_={"order": new.excluded.order},
        where=pin_head.c.order <= new.excluded.order,
    )
    return connection.execute(upsert.returning(pin_head.c.order)).scalar() is not None


def _mark_gone_refs(connection: Connection, refs: Mapping[int, Collection[str]], now: float) -> None:
    of, head = pin.c, pin_head.c
    for project, names in refs.items():
        there = select(as_table(connection, names).c.value)
        lost = (of.project == project) & of.gone_at.is_(None) & of.ref.not_in(there)
        connection.execute(update(pin).where(lost).values(gone_at=now))
        pinned = exists().where(of.project == head.project, of.ref == head.ref)
        connection.execute(delete(pin_head).where(head.project == project, head.ref.not_in(there), ~pinned))


def _of_project(project: int | None) -> ColumnElement[bool]:
    of = hand_pin.c.project
    return of.is_(None) if project is None else of == project


def _pin_by_hand(connection: Connection, new: HandPin) -> int:
    """Add what is pinned by hand, or change what is there; return its id."""
    of = hand_pin.c
    values = msgspec.structs.asdict(new) | {"reason": clean(new.reason), "who": clean(new.who), "ref": clean(new.ref)}
    del values["id"]
    values["attribute"] = None if new.attribute is None else path_text(new.attribute)
    there = _of_project(new.project) & (of.store_path == new.store_path)
    changed = connection.execute(update(hand_pin).where(there).values(values).returning(of.id)).scalar()
    if changed is not None:
        return int(changed)
    return int(connection.execute(insert(hand_pin).values(values).returning(of.id)).scalar_one())


def _delete(connection: Connection, ids: Collection[int]) -> None:
    if ids:
        connection.execute(delete(pin).where(pin.c.id.in_(numbers(connection, ids))))


def _in_batches(connection: Connection, statement: Any, rows: Sequence[Values]) -> None:  # noqa: ANN401 - any of SQLAlchemy
    for at in range(0, len(rows), BATCH):
        connection.execute(statement, rows[at : at + BATCH])


def _pin_values(each: Pin, ref: str, path: str) -> Values:
    values = msgspec.structs.asdict(each)
    del values["id"]
    outputs = json_text(dict(sorted(each.outputs.items())))
    return values | {"ref": ref, "path": path, "outputs": outputs, "policy": each.policy.value}


def _pin_of(row: Any) -> Pin:  # noqa: ANN401 - a row of SQLAlchemy
    return Pin(
        id=row.id,
        project=row.project,
        ref=row.ref,
        path=path_of(row.path),
        run=row.run,
        order=row.order,
        drv_path=row.drv_path,
        outputs=_outputs.decode(row.outputs),
        policy=_POLICIES[row.policy],
        keep=row.keep,
        held=row.held,
        at=row.at,
        gone_at=row.gone_at,
    )
