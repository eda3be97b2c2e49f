"""What outputs came out as whose paths only a build tells: recorded with the attempts that found it out (`writing`)."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, select, update

from nixmill.core.realised import Realised
from nixmill.core.trust import Tier, is_untrusted
from nixmill.core.upload import UploadState
from nixmill.edge.database.database import Database
from nixmill.edge.database.engine import as_table, insert_into
from nixmill.edge.database.tables_roots import made as made_table
from nixmill.edge.database.tables_roots import realisation as table
from nixmill.edge.database.tables_roots import upload as upload_table
from nixmill.nix import realisation as nix_realisation
from nixmill.nix.realisation import Realisation
from nixmill.nix.store_path import StorePath

_TIERS: Final = tuple(Tier)
TRUSTED: Final = tuple(tier.value for tier in Tier if not is_untrusted(tier))


class _Standing(msgspec.Struct, frozen=True, kw_only=True):
    """A row of the table."""

    drv_path: str
    output: str
    id: str = ""
    path: str = ""
    text: str = ""
    tier: Tier
    begun: int = 0
    run: int
    attempt: int
    at: float


class _Books:
    """What is known of whatever some rows have to do with."""

    def __init__(self, connection: Connection, rows: Sequence[Realised]) -> None:
        """Read it, in the open transaction."""
        of = table.c
        drv_paths = {row.drv_path for row in rows} | {drv_path for row in rows for drv_path in row.input_drvs}
        paths = {row.realisation.out_path for row in rows if row.realisation is not None}
        near = of.drv_path.in_(_values(connection, drv_paths)) | of.path.in_(_values(connection, paths))
        found = (_standing(row) for row in connection.execute(select(table).where(near)))
        self.known = {(one.drv_path, one.output): one for one in found}
        self.changed: dict[tuple[str, str], _Standing] = {}
        read = {path for row in rows for path in row.inputs}
        made = made_table.c
        tiers = connection.execute(select(made.path, made.tier).where(made.path.in_(_values(connection, read | paths))))
        self._made = {path: Tier(tier) for path, tier in tiers}

    def take(self, row: Realised) -> None:
        """Note a row."""
        key = row.drv_path, row.output
        before = self.known.get(key)
        after = _begun(row, before) if row.realisation is None else self._ended(row, row.realisation, before)
        if after != before:
            self.known[key] = self.changed[key] = after

    def _ended(self, row: Realised, found: Realisation, before: _Standing | None) -> _Standing:
        same = before is not None and before.path == found.out_path
        unheard = before is not None and before.begun not in {0, row.attempt}
        if before is not None and same and not row.built:
            tier = _weakest([before.tier, Tier.MEMBER]) if unheard else before.tier
            return msgspec.structs.replace(before, tier=tier, begun=0, text=_text(found))
        tiers = [row.tier, *self._of_inputs(row)]
        if not row.built:  # whoever built it, it was not this attempt
            tiers += [Tier.MEMBER] if unheard else []
            tiers += [one.tier for one in self.known.values() if one.path == found.out_path]
            tiers += [self._made[found.out_path]] if found.out_path in self._made else []
        return _Standing(
            drv_path=row.drv_path,
            output=row.output,
            id=found.id,
            path=found.out_path,
            text=_text(found),
            tier=_weakest(tiers),
            run=row.run,
            attempt=row.attempt,
            at=row.at,
        )

    def _of_inputs(self, row: Realised) -> list[Tier]:
        drv_paths = set(row.input_drvs)
        drvs = [one.tier for one in self.known.values() if one.drv_path in drv_paths]
        return [*drvs, *(self._made[path] for path in row.inputs if path in self._made)]


def record_realised(connection: Connection, rows: Sequence[Realised]) -> None:
    """Record what outputs came out as, in the open transaction.

    What is published already is looked at once more where another derivation made it, too.
    """
    if not rows:
        return
    books = _Books(connection, rows)
    for row in sorted(rows, key=lambda row: row.at):
        books.take(row)
    changed = [one for _, one in sorted(books.changed.items())]
    _write(connection, changed)
    _taint(connection, [one for one in changed if one.path and is_untrusted(one.tier)])
    _publish_again(connection, {one.path for one in changed if one.path}, max(row.at for row in rows))


def _write(connection: Connection, rows: Sequence[_Standing]) -> None:
    new = insert_into(connection.dialect.name, table)
    change = {column.name: new.excluded[column.name] for column in table.c if not column.primary_key}
    upsert = new.on_conflict_do_update(index_elements=list(table.primary_key), set_=change)
    if rows:
        connection.execute(upsert, [{**msgspec.structs.asdict(one), "tier": one.tier.value} for one in rows])


def _taint(connection: Connection, rows: Sequence[_Standing]) -> None:
    """Record who built what nobody had recorded: the end of that build was never heard of."""
    new = insert_into(connection.dialect.name, made_table).on_conflict_do_nothing()
    values = [
        {"path": one.path, "tier": one.tier.value, "run": one.run, "attempt": one.attempt, "at": one.at} for one in rows
    ]
    if values:
        connection.execute(new, values)


def _publish_again(connection: Connection, paths: Collection[str], now: float) -> None:
    of = upload_table.c
    mine = of.path.in_(_values(connection, paths)) & (of.state == UploadState.DONE.value)
    if paths:
        connection.execute(
            update(upload_table).where(mine).values(state=UploadState.WAITING.value, due_at=now, tries=0, fault="")
        )


class SqlRealisations:
    """What of it enters one cache."""

    def __init__(self, database: Database, store_dir: str, *, trusted: bool) -> None:
        """Use an opened database; with `trusted`, leave out what pull requests found out."""
        self._database = database
        self._store_dir = store_dir
        self._trusted = trusted

    async def of(self, paths: Collection[StorePath]) -> Sequence[Realisation]:
        """Return all whose path is one of `paths`, and those of inputs that these rest on."""

        def look(connection: Connection) -> list[Realisation]:
            of, found = table.c, dict[str, Realisation]()
            new = self._read(connection, of.path.in_(_values(connection, paths)))
            while new:
                found |= new
                ids = {key for one in new.values() for key in one.dependent} - found.keys()
                new = self._read(connection, of.id.in_(_values(connection, ids))) if ids else {}
            return list(found.values())

        return await self._database.read(look, action="look for realisations") if paths else ()

    async def by_id(self, identifier: str) -> Realisation | None:
        """Return the newest of an id."""
        return await self._database.read(
            lambda connection: self._read(connection, table.c.id == identifier).get(identifier),
            action="look for a realisation",
        )

    def _read(self, connection: Connection, where: Any) -> Mapping[str, Realisation]:  # noqa: ANN401 - a condition
        of = table.c
        query = select(of.id, of.text).where(where, of.id != "").order_by(of.at)
        if self._trusted:
            query = query.where(of.tier.in_(TRUSTED))
        return {row.id: nix_realisation.parse(row.text, self._store_dir) for row in connection.execute(query)}


def _begun(row: Realised, before: _Standing | None) -> _Standing:
    """Note that somebody whom nobody may trust begins to build. Of whom it was noted before nothing was heard."""
    if before is None:
        return _Standing(
            drv_path=row.drv_path,
            output=row.output,
            tier=row.tier,
            begun=row.attempt,
            run=row.run,
            attempt=row.attempt,
            at=row.at,
        )
    tier = _weakest([before.tier, row.tier]) if before.begun else before.tier
    return msgspec.structs.replace(before, begun=row.attempt, tier=tier)


def _weakest(tiers: Iterable[Tier]) -> Tier:
    return min(tiers, key=_TIERS.index)


def _text(found: Realisation) -> str:
    return nix_realisation.write(msgspec.structs.replace(found, signatures=())).decode()


def _values(connection: Connection, texts: Collection[str]) -> Any:  # noqa: ANN401 - what `in_` takes
    return select(as_table(connection, texts).c.value)


def _standing(row: Any) -> _Standing:  # noqa: ANN401 - a row of the table
    return msgspec.convert(row, _Standing, from_attributes=True)
