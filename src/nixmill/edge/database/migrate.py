"""Brings a database to the schema of this version of nixmill. Forward only.

Revisions are numbered `0001`, `0002`, …, so that a database of a newer nixmill is told from an older one without
knowing its revision. Alembic is imported only where there is something to do: it costs a tenth of a second.
"""

from pathlib import Path
from typing import Final

from sqlalchemy import Connection, inspect, text

VERSION_TABLE: Final = "nm_schema"
HEAD: Final = "0004"
_FOLDER: Final = Path(__file__).parent / "migrations"


class NewerSchemaError(Exception):
    """The database was written by a newer nixmill; `found` is its revision."""

    def __init__(self, found: str) -> None:
        """Keep the revision for the sentence."""
        super().__init__(found)
        self.found = found


def revision(connection: Connection) -> str | None:
    """Return the database's revision; None where it is empty."""
    if not inspect(connection).has_table(VERSION_TABLE):
        return None
    found: str | None = connection.execute(text(f"SELECT version_num FROM {VERSION_TABLE}")).scalar()  # noqa: S608 - a constant
    return found


def is_current(connection: Connection) -> bool:
    """Say whether nothing is to be done; raise `NewerSchemaError` where nothing can be done."""
    found = revision(connection)
    if found is not None and found > HEAD:
        raise NewerSchemaError(found)
    return found == HEAD


def upgrade(connection: Connection) -> None:
    """Run the missing migrations in the open transaction. Foreign keys must not be enforced meanwhile."""
    from alembic import command  # noqa: PLC0415 - see the module's docstring
    from alembic.config import Config  # noqa: PLC0415

    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(_FOLDER).replace("%", "%%"))
    command.upgrade(config, "head")
