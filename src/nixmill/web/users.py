"""`/admin/users`: accounts, for administrators. A password that is made here is shown once and never kept."""

from enum import StrEnum
from typing import Annotated, Final

import msgspec
from fastapi import APIRouter, Path
from starlette.responses import Response

from nixmill.core.access import Action
from nixmill.core.account import User, check_user_name
from nixmill.core.errors import InputError
from nixmill.core.view.pages import UserLine
from nixmill.web import urls
from nixmill.web.asking import Ask, Asked
from nixmill.web.finding import PRINTABLE
from nixmill.web.guard import guard_of
from nixmill.web.passwords import generated
from nixmill.web.refusal import not_there
from nixmill.web.showing import as_json, see_other, show

router: Final = APIRouter()
Number = Annotated[int, Path(ge=0, le=2**53)]


class UsersPage(msgspec.Struct, frozen=True, kw_only=True):
    """`/admin/users`."""

    users: tuple[UserLine, ...]


class UserForm(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A user to add."""

    name: str
    email: Annotated[str, msgspec.Meta(max_length=254, pattern=PRINTABLE)] = ""
    admin: bool = False


class Made(msgspec.Struct, frozen=True, kw_only=True):
    """A user with the password that was made, shown this once."""

    id: int
    name: str
    password: str


class What(StrEnum):
    """What can be done to an account."""

    DISABLE = "disable"
    ENABLE = "enable"
    ADMIN = "make admin"
    NO_ADMIN = "take admin"
    PASSWORD = "new password"  # noqa: S105 - says what is done
    SIGN_OUT = "sign out"


class ChangeForm(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Something to do to an account."""

    what: What


class DeleteForm(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An account to delete: its name, typed, so that it is not done by accident."""

    name: str


@router.get("/admin/users")
async def page(asked: Asked) -> Response:
    """Show all accounts."""
    asked.require(Action.SEE_ADMIN)
    return await _page(asked)


@router.post("/admin/users")
async def add(asked: Asked) -> Response:
    """Add a user with a password that is made up and shown once."""
    asked.require(Action.CHANGE_USERS)
    form = await asked.take(UserForm)
    password = generated()
    user = User(
        name=check_user_name(form.name),
        email=form.email,
        admin=form.admin,
        password_hash=await guard_of(asked.request).passwords.hash(password),
        created_at=asked.site.clock.now(),
    )
    saved = await asked.site.accounts.save_user(user)
    await asked.audit("add a user", saved.name, detail="administrator" if saved.admin else "")
    return await _once(asked, Made(id=saved.id, name=saved.name, password=password), 201)


@router.post("/admin/users/{number}")
async def change(asked: Asked, number: Number) -> Response:
    """Disable, enable, make or unmake an administrator, sign out everywhere, or make a new password."""
    asked.require(Action.CHANGE_USERS)
    what = (await asked.take(ChangeForm)).what
    user = await _user(asked, number)
    if what in {What.DISABLE, What.NO_ADMIN}:
        _not_oneself(asked, user)
    made = None
    match what:
        case What.DISABLE | What.ENABLE:
            await asked.site.accounts.save_user(msgspec.structs.replace(user, disabled=what is What.DISABLE))
        case What.ADMIN | What.NO_ADMIN:
            await asked.site.accounts.save_user(msgspec.structs.replace(user, admin=what is What.ADMIN))
        case What.PASSWORD:
            made = await _new_password(asked, user)
        case What.SIGN_OUT:
            await asked.site.keys.sessions(user.id, end_all=True)
    await asked.audit("change a user", user.name, detail=what.value)
    if made is not None:
        return await _once(asked, made, 200)
    return as_json({"changed": True}) if asked.wants_json else see_other(urls.admin("users"))


@router.post("/admin/users/{number}/delete")
async def delete(asked: Asked, number: Number) -> Response:
    """Delete an account with its sessions, tokens and roles; what the audit log says of it stays."""
    asked.require(Action.CHANGE_USERS)
    form = await asked.take(DeleteForm)
    user = await _user(asked, number)
    _not_oneself(asked, user)
    if form.name.strip().casefold() != user.name.casefold():
        raise InputError("The name does not match the account.", f"Type {user.name!r} to delete that account.")
    await asked.site.accounts.delete_user(user.id)
    await asked.audit("delete a user", user.name)
    return as_json({"deleted": True}) if asked.wants_json else see_other(urls.admin("users"))


async def _user(asked: Ask, number: int) -> User:
    found = await asked.site.accounts.user(number)
    if found is None:
        raise not_there("user of that number")
    return found


def _not_oneself(asked: Ask, user: User) -> None:
    """Raise where administrators would lock themselves out; another one can do it."""
    if user.id == asked.viewer.user:
        raise InputError("Nobody can do that to their own account.", "Ask another administrator.")


async def _new_password(asked: Ask, user: User) -> Made:
    password = generated()
    hashed = await guard_of(asked.request).passwords.hash(password)
    await asked.site.accounts.save_user(msgspec.structs.replace(user, password_hash=hashed))
    await asked.site.keys.sessions(user.id, end_all=True)
    return Made(id=user.id, name=user.name, password=password)


async def _page(asked: Ask, code: int = 200, made: Made | None = None) -> Response:
    page = UsersPage(users=tuple(await asked.site.admin_pages.users()))
    return show(asked, "users.html", page, title="Users", code=code, made=made, can=asked.may(Action.CHANGE_USERS))


async def _once(asked: Ask, made: Made, code: int) -> Response:
    """Return a password, which no cache may keep."""
    answer = as_json(made, code) if asked.wants_json else await _page(asked, code, made)
    answer.headers["Cache-Control"] = "no-store"
    return answer
