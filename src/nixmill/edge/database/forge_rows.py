"""Between what forges say, in the structs of `nixmill.core`, and the columns of `tables_forge`."""

import hashlib
from typing import Any, Final

import msgspec
from sqlalchemy import Row as SqlRow

from nixmill.core.forge import ForgeUser
from nixmill.core.pull_request import Approval, PullRequest, PullState
from nixmill.core.trust import Permission
from nixmill.edge.database.rows import Values, clean
from nixmill.edge.database.server_rows import stored, texts

KEY_MAX: Final = 600
"""Characters of a text that is part of a key; PostgreSQL indexes no row of more than 2,704 bytes."""
_DIGEST: Final = 32


def key_text(text: str) -> str:
    """Return a text that can be part of a key. One that is too long is cut to one that is as unique."""
    kept = clean(text)
    if len(kept) <= KEY_MAX:
        return kept
    digest = hashlib.sha256(kept.encode()).hexdigest()[:_DIGEST]
    return f"{kept[: KEY_MAX - _DIGEST - 1]}…{digest}"


def pull_values(project: int, pull: PullRequest) -> Values:
    """Return the columns of a pull request that its forge tells."""
    told = msgspec.structs.asdict(pull)
    author: ForgeUser = told.pop("author")
    kinds = {"state": pull.state.value, "author_permission": pull.author_permission.value}
    people = {"author_id": author.id, "author_login": author.login}
    return {**stored({**told, **kinds, **people}), "project": project}


def pull_of(row: SqlRow[Any]) -> PullRequest:
    """Return a row of `nm_pull_request`."""
    columns = row._mapping  # noqa: SLF001 - the public name for it, for all its underscore
    values = {field: columns[field] for field in PullRequest.__struct_fields__ if field != "author"}
    kinds = {
        "author": ForgeUser(id=row.author_id, login=row.author_login),
        "state": msgspec.convert(row.state, PullState),
        "labels": texts(row.labels),
        "author_permission": msgspec.convert(row.author_permission, Permission),
    }
    return PullRequest(**{**values, **kinds})


def approval_of(row: SqlRow[Any]) -> Approval:
    """Return a row of `nm_approval`."""
    columns = row._mapping  # noqa: SLF001 - as above
    return Approval(**{field: columns[field] for field in Approval.__struct_fields__})
