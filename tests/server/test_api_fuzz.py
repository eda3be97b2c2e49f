"""The API from its own document: whatever a program may send gets a declared answer that is as its schema says."""

import asyncio
import re
import threading
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import jsonschema_rs
import msgspec
import pytest
import requests
import schemathesis
from fastapi.routing import APIRoute
from hypothesis import HealthCheck, Phase, settings
from schemathesis.checks import CheckFunction, load_all_checks
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from nixmill.config.server import ServerSettings
from nixmill.core.access import Role, Scope, Visibility
from nixmill.core.hook import HookRun
from nixmill.nix.store_path import base_name
from nixmill.web import live_events as events
from nixmill.web.api_document import document
from nixmill.web.api_operations import EVENTS, OPERATIONS
from nixmill.web.app import routers
from tests.support.pages_world import World, drv
from tests.support.program import Project, flake, job
from tests.support.scratch_store import ScratchStore
from tests.support.server import PASSWORD, ServerProgram
from tests.support.web import web_world
from tests.support.web_office import HalfOffice

load_all_checks()
Case = schemathesis.Case[Any]
EXAMPLES: Final = 3
"""Requests an operation; what is found grows with them, and so does the time."""
CHECKS: Final[list[CheckFunction]] = [
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
SPARED: Final = ("DELETE", "PUT", "PATCH")
"""What these are done to is a project of its own, which may be gone afterwards."""
schema = schemathesis.openapi.from_dict(document())
bounded = settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)


@dataclass
class Target:
    """A server to ask, and things that are there."""

    url: str
    values: dict[str, Any]
    token: str
    http: requests.Session = field(default_factory=requests.Session)

    def ask(self, case: Case) -> None:
        """Send a case as it is made, once more about things that exist, and as a stranger; check all answers."""
        self._send(case, self.token)
        names = {name: self.values.get(f"{case.path}#{name}", self.values.get(name)) for name in case.path_parameters}
        if case.method in SPARED or case.path.endswith(("/settings", "/delete")):
            names["name"] = "victim"
        case.path_parameters.update({name: value for name, value in names.items() if value is not None})
        self._send(case, self.token)
        if case.method == "GET":
            self._send(case, "")

    def _send(self, case: Case, token: str) -> None:
        headers = {"Accept": "application/json", **({"Authorization": f"Bearer {token}"} if token else {})}
        answer = case.call(base_url=self.url, session=self.http, headers=headers, allow_redirects=False, timeout=20)
        assert answer.status_code < 500, f"{case.as_curl_command()}\n{answer.text}"
        case.validate_response(answer, checks=CHECKS)


async def stand(url: "list[Target]", ready: threading.Event, done: asyncio.Event) -> None:
    """Run the application with something of everything in it until `done`."""
    office = HalfOffice()
    credentials = {"git-a": Path("/nowhere/a"), "notify-b": Path("/nowhere/b")}
    async with AsyncExitStack() as held:
        made = ServerSettings(credentials=credentials, sign_in_tries=5)
        world = await held.enter_async_context(web_world(made, office=office))
        office.join(world)
        pages = World(world.database)
        project = await pages.project("mill", Visibility.INTERNAL)
        await pages.project("victim", Visibility.PUBLIC)
        run = await pages.whole(project)
        attempt = await pages.attempt(run, "a-1")
        hook = HookRun(id="hook-1", hook="tell", command=("true",), run=run, project=project.id, attribute="a")
        await pages.changes.ended(run, [], [hook])
        await world.user("mia", admin=True)
        spare = await world.user("spare")
        await world.site.members.set_member(project.id, spare.id, Role.MEMBER)
        values = {
            "name": "mill",
            "number": run,
            "before": run,
            "after": run,
            "attempt": attempt,
            "id_": "hook-1",
            "parcel": 1,
            "attribute": "checks.x86_64-linux.a",
            "ref": "main",
            "/r/{number}/why/{name}#name": "checks.x86_64-linux.a",
            "/d/{name}#name": base_name(drv("a-1")),
            "/static/{name}#name": "nixmill.js",
            "/admin/users/{number}#number": spare.id,
            "/admin/users/{number}/delete#number": spare.id,
        }
        url.append(Target(world.url, values, await world.token("mia", *Scope)))
        ready.set()
        await done.wait()


@pytest.fixture(scope="module")
def target() -> Iterator[Target]:
    """The application in a thread of its own."""
    loop, ready, found = asyncio.new_event_loop(), threading.Event(), list[Target]()
    done = asyncio.Event()
    failed: list[BaseException] = []

    def run() -> None:
        try:
            loop.run_until_complete(stand(found, ready, done))
        except BaseException as error:  # noqa: BLE001 - told by the test's thread
            failed.append(error)
        finally:
            ready.set()

    thread = threading.Thread(target=run)
    thread.start()
    assert ready.wait(30), "the application did not start"
    try:
        assert found, failed
        yield found[0]
    finally:
        loop.call_soon_threadsafe(done.set)
        thread.join(30)
        loop.close()
    assert not failed


@schema.parametrize()
@bounded
def test_whatever_an_administrator_s_program_sends_gets_a_declared_answer(case: Case, target: Target) -> None:
    target.ask(case)


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory, store: ScratchStore) -> Iterator[Target]:
    """The whole server with a run that ended."""
    top = tmp_path_factory.mktemp("fuzz") / "mill"
    top.mkdir()
    made = ServerProgram(Project(top, store), top.parent / "state")
    made.project.commit(flake__nix=flake(hello=job("hello")))
    made.command("user", "create", "mia", "--admin", "--password-stdin", stdin=f"{PASSWORD}\n")
    made.command("projects", "add", "mill", f"file://{top}")

    async def until_it_ended() -> str:
        await made.ready()
        await made.ended(1)
        async with made.administrator() as browser:
            form = {"name": "fuzz", "scopes": ["read"], "days": "1"}
            csrf = {"X-CSRF-Token": await browser.csrf(), "Accept": "application/json"}
            answer = await browser.http.post("/account/tokens", data=form, headers=csrf)
            token: str = answer.json()["token"]
            return token

    made.start()
    try:
        token = asyncio.run(until_it_ended())
        values = {"name": "mill", "number": 1, "before": 1, "after": 1, "attempt": 1, "ref": "main"}
        shown = {"attribute": "checks.x86_64-linux.hello", "/r/{number}/why/{name}#name": "checks.x86_64-linux.hello"}
        yield Target(made.url, values | shown, token)
    finally:
        made.kill()


@schema.include(method="GET").parametrize()
@settings(bounded, max_examples=1)
def test_whatever_is_asked_of_the_whole_server_gets_a_declared_answer(case: Case, program: Target) -> None:
    program.ask(case)


def test_the_document_names_streams_of_events() -> None:
    followed = [
        path
        for path, operations in document()["paths"].items()
        if EVENTS in operations.get("get", {}).get("responses", {}).get("200", {}).get("content", {})
    ]
    assert sorted(followed) == sorted(
        [route.path_format for route in events.router.routes if isinstance(route, APIRoute)] + ["/log/{attempt}"]
    )


def test_every_route_is_documented_and_nothing_else() -> None:
    """W43: what is not in the document does not exist, and what is in it does."""
    documented = {(method.upper(), path) for path, operations in document()["paths"].items() for method in operations}
    there = {
        (method, route.path_format)
        for one in routers()
        for route in one.routes
        if isinstance(route, APIRoute)
        for method in route.methods or ()
    }
    assert documented == there == set(OPERATIONS)


def test_the_document_is_valid_and_names_each_operation_once() -> None:
    ids = [operation["operationId"] for operations in document()["paths"].values() for operation in operations.values()]
    assert len(set(ids)) == len(ids)
    schemas = document()["components"]["schemas"]
    text = msgspec.json.encode(document()).decode()
    assert set(re.findall(r'"#/components/schemas/([^"]+)"', text)) <= set(schemas)
    jsonschema_rs.validator_for({"$ref": "#/components/schemas/EvaluationPage", "components": {"schemas": schemas}})
