"""Who may do what: the whole table, Action by Role by Visibility, and what tokens take away from it."""

import itertools

import pytest

from nixmill.core.access import (
    ALLOWED_FROM,
    PROJECT_ROLES,
    ROLES,
    SCOPE_OF,
    Action,
    Role,
    Scope,
    Sight,
    Viewer,
    Visibility,
    allowed,
    role_of,
    sight,
)

PROJECT = 5
ON_PROJECTS = (
    Action.SEE,
    Action.START,
    Action.RETRY,
    Action.CANCEL,
    Action.APPROVE,
    Action.CLEAR_FAILURE,
    Action.PIN,
    Action.SEE_HOOK_LOG,
    Action.CHANGE_PROJECT,
    Action.CHANGE_MEMBERS,
    Action.DELETE_PROJECT,
)
ON_THE_SERVER = (Action.ADD_PROJECT, Action.SEE_ADMIN, Action.CHANGE_SERVER, Action.CHANGE_USERS)
FROM_MEMBER = (
    Action.START,
    Action.RETRY,
    Action.CANCEL,
    Action.APPROVE,
    Action.CLEAR_FAILURE,
    Action.PIN,
    Action.SEE_HOOK_LOG,
)
FROM_OWNER = (Action.CHANGE_PROJECT, Action.CHANGE_MEMBERS, Action.DELETE_PROJECT)

STRANGER = Viewer()
USER = Viewer(user=1, name="user")
ADMIN = Viewer(user=9, name="root", admin=True)


def viewer(role: Role) -> Viewer:
    """Return somebody with a role in the project."""
    if role is Role.ADMIN:
        return ADMIN
    return STRANGER if role is Role.STRANGER else Viewer(user=1, name=role, roles={PROJECT: role})


def expected(role: Role, action: Action, visibility: Visibility) -> bool:
    """Return what the rules say in words, apart from the table in the code."""
    if role is Role.ADMIN:
        return True
    if action is Action.SEE:
        return role is not Role.STRANGER or visibility is Visibility.PUBLIC
    if action in FROM_MEMBER:
        return role in {Role.MEMBER, Role.OWNER}
    return action in FROM_OWNER and role is Role.OWNER


def test_every_action_stands_in_the_tables() -> None:
    assert set(ALLOWED_FROM) == set(SCOPE_OF) == set(Action) == {*ON_PROJECTS, *ON_THE_SERVER}


@pytest.mark.parametrize(
    ("action", "role", "visibility"), list(itertools.product(ON_PROJECTS, ROLES, Visibility)), ids=str
)
def test_what_a_role_may_do_to_a_project(action: Action, role: Role, visibility: Visibility) -> None:
    assert allowed(viewer(role), action, PROJECT, visibility) is expected(role, action, visibility)


@pytest.mark.parametrize(("action", "role"), list(itertools.product(ON_THE_SERVER, ROLES)), ids=str)
def test_the_server_is_the_administrators(action: Action, role: Role) -> None:
    assert allowed(viewer(role), action) is (role is Role.ADMIN)


@pytest.mark.parametrize(
    ("who", "visibility", "seen"),
    [
        (STRANGER, Visibility.PUBLIC, True),
        (STRANGER, Visibility.INTERNAL, False),
        (STRANGER, Visibility.PRIVATE, False),
        (USER, Visibility.PUBLIC, True),
        (USER, Visibility.INTERNAL, True),
        (USER, Visibility.PRIVATE, False),
    ],
)
def test_who_sees_a_project_without_a_role_in_it(who: Viewer, visibility: Visibility, *, seen: bool) -> None:
    assert allowed(who, Action.SEE, PROJECT, visibility) is seen
    assert role_of(who, PROJECT, visibility) is (Role.VIEWER if seen else Role.STRANGER)


@pytest.mark.parametrize("role", PROJECT_ROLES)
def test_a_role_in_one_project_is_none_in_another(role: Role) -> None:
    assert not any(allowed(viewer(role), action, PROJECT + 1, Visibility.PRIVATE) for action in Action)


@pytest.mark.parametrize(("scope", "action"), list(itertools.product(Scope, Action)), ids=str)
def test_a_token_may_what_its_scope_says_even_an_administrators(scope: Scope, action: Action) -> None:
    token = Viewer(user=9, name="root", admin=True, scopes=frozenset({scope}))
    assert allowed(token, action, PROJECT, Visibility.PRIVATE) is (SCOPE_OF[action] is scope)


@pytest.mark.parametrize(("role", "action"), list(itertools.product(PROJECT_ROLES, Action)), ids=str)
def test_a_token_never_may_more_than_its_owner(role: Role, action: Action) -> None:
    token = Viewer(user=1, name="user", roles={PROJECT: role}, scopes=frozenset(Scope))
    visibility = Visibility.PRIVATE
    assert allowed(token, action, PROJECT, visibility) is allowed(viewer(role), action, PROJECT, visibility)


@pytest.mark.parametrize("action", Action)
def test_a_token_of_one_project_does_nothing_elsewhere(action: Action) -> None:
    token = Viewer(user=9, name="root", admin=True, scopes=frozenset(Scope), only_project=PROJECT)
    assert not allowed(token, action, PROJECT + 1, Visibility.PUBLIC)
    assert not allowed(token, action)
    assert allowed(token, action, PROJECT, Visibility.PRIVATE)


def test_sight_is_what_may_be_seen_and_no_more() -> None:
    assert sight(STRANGER) == Sight()
    assert sight(USER) == Sight(internal=True)
    assert sight(ADMIN) == Sight(everything=True, internal=True)
    member = viewer(Role.MEMBER)
    assert sight(member) == Sight(internal=True, private=frozenset({PROJECT}))


def test_a_token_sees_only_its_project_and_nothing_where_it_may_not_read() -> None:
    one = Viewer(user=1, name="user", scopes=frozenset({Scope.READ}), only_project=PROJECT)
    assert sight(one).only == PROJECT
    blind = Viewer(user=9, name="root", admin=True, scopes=frozenset({Scope.RUN}))
    assert sight(blind) == Sight(only=0)
