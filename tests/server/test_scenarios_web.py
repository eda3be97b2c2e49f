"""Scenarios W1 to W43 of acceptance, in the words of nixmill: one world with runs, in which each looks at its part.

What needs a server that evaluates and builds is in test_server.py: W4, W5 (a push becomes a verdict), W27 (again).
"""

from collections.abc import AsyncIterator
from typing import Any, Final

import pytest
import pytest_asyncio

from nixmill.core.access import Role, Scope, Visibility
from nixmill.core.project import Project
from nixmill.nix.store_path import base_name
from tests.support.pages_world import World, drv
from tests.support.web import PASSWORD, Browser, WebWorld, web_world
from tests.support.web_office import HalfOffice

pytestmark = pytest.mark.asyncio(loop_scope="module")
JSON: Final = {"Accept": "application/json"}


class Stage:
    """The world, and who acts in it."""

    def __init__(self, world: WebWorld, pages: World, project: Project, runs: tuple[int, int]) -> None:
        self.world, self.pages, self.project, self.runs = world, pages, project, runs

    async def stranger(self) -> Browser:
        return await self.world.browser(headers=JSON)

    async def program(self) -> Browser:
        """Return a program of the administrator."""
        return await self.world.api(await self.world.token("root", *Scope))

    async def json(self, path: str) -> Any:  # noqa: ANN401 - the JSON twin of a page
        answer = await (await self.program()).get(path)
        assert answer.status_code == 200, f"{path}: {answer.text}"
        return answer.json()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage() -> AsyncIterator[Stage]:
    office = HalfOffice()
    async with web_world(office=office) as world:
        office.join(world)
        await world.user("root", admin=True)
        await world.user("ada")
        pages = World(world.database)
        project = await pages.project("mill", Visibility.PUBLIC, "refs/tags/v1", "refs/tags/v2")
        await world.site.members.set_member(project.id, world.users["ada"].id, Role.MEMBER)
        run = await pages.rich(project)
        await pages.end(run)
        yield Stage(world, pages, project, (run - 1, run))


async def test_w1_signing_in(stage: Stage) -> None:
    """W1: a wrong password is 403; a right one tells who one is and what one may, as /current-user does."""
    browser = await stage.stranger()
    wrong = await browser.http.post("/sign-in", json={"name": "ada", "password": "wrong"})
    assert wrong.status_code == 403
    right = await browser.http.post("/sign-in", json={"name": "ada", "password": PASSWORD})
    assert right.status_code == 200
    assert right.json()["name"] == "ada"
    assert (await browser.get("/current-user")).json() == right.json()


async def test_w2_an_unknown_project(stage: Stage) -> None:
    """W2: 404."""
    assert (await (await stage.stranger()).get("/p/absent")).status_code == 404


async def test_w3_w7_to_w11_w13_w16_projects_by_program(stage: Stage) -> None:
    """W3 add; W11 what was sent is what comes back; W13 remove a jobset; W16 shape; W7, W8, W9, W10 delete."""
    program, stranger = await stage.program(), await stage.stranger()
    jobset = {
        "name": "main",
        "branches": ["main"],
        "tags": [],
        "schedule": "30 4 * * *",
        "time_zone": "UTC",
        "targets": [".#checks"],
        "systems": ["x86_64-linux"],
        "build_class": "branch",
        "enabled": True,
        "on_push": False,
    }
    sent = {"name": "fresh", "title": "Fresh", "url": "https://example.org/f.git", "visibility": "internal"}
    made = await program.http.post("/p", json={"project": sent, "jobsets": [jobset]})
    assert made.status_code == 201
    page = (await program.get("/p/fresh")).json()
    assert {key: page["project"][key] for key in sent} == sent
    assert {type(page["project"][key]) for key in ("enabled", "submodules", "declared")} == {bool}
    assert [{key: one[key] for key in jobset} for one in page["jobsets"]] == [jobset]
    assert (page["refs"], page["runs"], page["role"]) == ([], [], "admin")
    assert (await program.http.put("/p/fresh", json={"project": sent, "jobsets": []})).status_code == 200
    assert (await program.get("/p/fresh")).json()["jobsets"] == []
    project = await stage.world.site.projects.project("fresh")
    assert project is not None
    await stage.pages.rich(project)
    assert (await stranger.http.request("DELETE", "/p/fresh", json={})).status_code == 404, "it is internal"
    assert (await program.http.request("DELETE", "/p/fresh", json={})).status_code == 200
    assert (await program.get("/p/fresh")).status_code == 404
    assert (await stranger.http.request("DELETE", "/p/mill", json={})).status_code == 403
    empty = {"name": "empty", "url": "https://example.org/e.git"}
    assert (await program.http.post("/p", json={"project": empty})).status_code == 201
    assert (await program.http.delete("/p/empty")).status_code == 200


async def test_w6_w39_search(stage: Stage) -> None:
    """W6, W39: a project, an attribute, a derivation, an output and a commit are found by what people have of them."""
    program = await stage.program()
    run = (await program.get(f"/r/{stage.runs[1]}")).json()["run"]
    for query in ("mill", "checks.x86_64-linux.same", drv("same-1"), drv("same-1").removesuffix(".drv"), run["commit"]):
        answer = await program.get("/search", params={"q": query, "stay": "1"})
        assert answer.status_code == 200, query
        assert answer.json()["found"], query


async def test_w12_a_wrong_value_is_refused_and_the_right_ones_are_named(stage: Stage) -> None:
    """W12: of an enumeration the message lists what is valid; an unknown field is named."""
    program = await stage.program()
    body = {"project": {"name": "odd", "url": "https://example.org/o.git", "visibility": "secret"}}
    answer = await program.http.post("/p", json=body)
    assert answer.status_code == 422
    assert "visibility" in answer.json()["error"]
    answer = await program.http.post("/p/mill/members", json={"user": "ada", "role": "king"})
    assert all(role in answer.json()["remedy"] for role in ("viewer", "member", "owner"))
    answer = await program.http.post("/p/mill/start", json={"rev": "main"})
    assert answer.status_code == 422
    assert "rev" in answer.json()["error"]


async def test_w17_w34_w36_lists(stage: Stage) -> None:
    """W17, W34, W36: queue, newest runs, a project, a branch, a tag and an attribute, with the right elements."""
    before, run = stage.runs
    assert (await stage.json("/queue")).keys() >= {"runs", "lines", "waiting"}
    project = await stage.json("/p/mill")
    assert [one["number"] for one in project["runs"]] == [run, before]
    assert {one["ref"] for one in project["refs"]} == {"refs/heads/main", "refs/tags/v1", "refs/tags/v2"}
    assert [one["number"] for one in (await stage.json("/p/mill/b/main"))["runs"]] == [run, before]
    assert (await stage.json("/p/mill/b/refs/tags/v2"))["runs"] == []
    attribute = await stage.json("/p/mill/a/checks.x86_64-linux.fixed?ref=main")
    assert [one["run"]["number"] for one in attribute["runs"]] == [run, before]


async def test_w18_started_and_looked_at_by_program(stage: Stage) -> None:
    """W18: a program says "look" and "start"; it needs the right to."""
    program, stranger = await stage.program(), await stage.stranger()
    office = stage.world.office
    assert isinstance(office, HalfOffice)
    assert (await program.http.post("/p/mill/look", json={})).json() == {}
    assert office.hurried[-1] == stage.project.id
    answer = await program.http.post("/p/mill/start", json={"ref": "main", "targets": [".#a"]})
    assert (answer.status_code, answer.json()) == (201, {"number": 7})
    assert office.calls[-1][1][2:] == ("main", (".#a",), "")
    assert (await stranger.http.post("/p/mill/start", json={})).status_code == 403


async def test_w19_what_is_private_is_nowhere_for_strangers(stage: Stage) -> None:
    """W19 of buildbot-nix: neither page, twin, search, badge, feed nor numbers tell of a private project."""
    hidden = await stage.pages.project("hiddenmill", Visibility.PRIVATE)
    run = await stage.pages.rich(hidden)
    stranger = await stage.stranger()
    for path in ("/p/hiddenmill", f"/r/{run}", f"/r/{run}/timeline", f"/compare/{stage.runs[0]}/{run}"):
        assert (await stranger.get(path)).status_code == 404, path
    for path in ("/", "/queue", "/machines", "/metrics", "/search?q=hidden", f"/d/{base_name(drv('same-1'))}"):
        assert "hiddenmill" not in (await stranger.get(path)).text, path


async def test_w25_w26_cancelling(stage: Stage) -> None:
    """W25, W26: a run is cancelled by a form, which leads to its page, or by a program, which is told."""
    ada = await stage.world.signed_in("ada")
    number = stage.runs[1]
    answer = await ada.post(f"/r/{number}/cancel", page=f"/r/{number}")
    assert (answer.status_code, answer.headers["location"]) == (303, f"/r/{number}")
    answer = await (await stage.program()).http.post(f"/r/{number}/cancel", json={})
    assert answer.json() == {"cancelled": True}
    assert [call for call, _ in stage.world.office.calls[-2:]] == ["cancel", "cancel"]


@pytest.mark.parametrize(
    ("sent", "asked"),
    [
        ({"what": "failed"}, ("failed", None)),
        ({"attribute": "checks.x86_64-linux.bad"}, ("attribute", ("checks", "x86_64-linux", "bad"))),
        ({"what": "anyway"}, ("anyway", None)),
        ({"what": "evaluate"}, ("evaluate", None)),
    ],
)
async def test_w27_trying_again(stage: Stage, sent: dict[str, str], asked: tuple[object, object]) -> None:
    """W27: what failed, one attribute, everything anyway, or the evaluation: each is a new run."""
    ada = await stage.world.signed_in("ada")
    number = stage.runs[1]
    answer = await ada.post(f"/r/{number}/retry", sent, page=f"/r/{number}")
    assert (answer.status_code, answer.headers["location"]) == (303, "/r/7")
    call, (who, of, what, path) = stage.world.office.calls[-1]
    assert (call, who.name, of, (what, path)) == ("retry", "ada", number, asked)


async def test_w35_an_evaluation_with_errors(stage: Stage) -> None:
    """W35: the evaluation, its errors, and why one of them is so."""
    run = stage.runs[1]
    page = await stage.json(f"/r/{run}?show=errors")
    assert {row["name"] for row in page["rows"]} == {"checks.x86_64-linux.bad", "checks.x86_64-linux.worse"}
    assert page["counts"]["errors"] == 2
    why = await stage.json(f"/r/{run}/why/checks.x86_64-linux.bad")
    assert why["line"]["error"] == "oh no\nreally\nat flake.nix:1:2"


async def test_w38_every_page_is_html_and_json_at_one_address(stage: Stage) -> None:
    """W38: machines, queue and the rest, for people and for programs, by header and by `.json`."""
    before, run = stage.runs
    person, program = await stage.world.signed_in("root"), await stage.program()
    paths = ["/", "/queue", "/machines", "/p/mill", f"/r/{run}", f"/r/{run}/timeline", f"/compare/{before}/{run}"]
    for path in [*paths, "/admin", "/admin/audit", "/admin/users", "/api", "/p/mill/settings", "/p/mill/rules"]:
        page, twin, same = await person.get(path), await program.get(path), await person.get(f"{path}.json")
        assert [one.status_code for one in (page, twin)] == [200, 200], path
        assert page.headers["content-type"].startswith("text/html"), path
        assert twin.headers["content-type"] == "application/json", path
        assert path == "/" or same.json().keys() == twin.json().keys(), path


async def test_failures_are_forgotten_for_one_derivation_or_all(stage: Stage) -> None:
    """What a person or a program forgets is theirs to choose; a form leads back to where it was asked."""
    ada, program = await stage.world.signed_in("ada"), await stage.program()
    answer = await ada.post("/p/mill/failures/forget", {"drv_paths": drv("other-2")}, page="/p/mill")
    assert answer.headers["location"].startswith("/d/")
    answer = await ada.post("/p/mill/failures/forget", page="/p/mill")
    assert answer.headers["location"] == "/p/mill"
    assert (await program.http.post("/p/mill/failures/forget", json={})).json() == {"forgotten": 0}


async def test_a_given_up_message_is_sent_again_and_retention_shown_first(stage: Stage) -> None:
    """Administrators only; what retention deletes is shown before it is deleted."""
    root, ada = await stage.world.signed_in("root"), await stage.world.signed_in("ada")
    answer = await root.post("/admin/deliveries/1/replay", page="/admin/deliveries")
    assert answer.headers["location"] == "/admin/deliveries"
    assert (await root.post("/admin/retention", page="/admin/retention")).status_code == 200
    assert stage.world.office.calls[-1][1][1] is True, "without more, nothing is deleted"
    await root.post("/admin/retention", {"dry_run": "false"}, page="/admin/retention")
    assert stage.world.office.calls[-1][1][1] is False
    for path in ("/admin/deliveries/1/replay", "/admin/retention"):
        assert (await ada.post(path, page="/p/mill")).status_code == 403


async def test_hostile_names_in_addresses_are_404(stage: Stage) -> None:
    """W2 for what no project, run or attribute can be called."""
    stranger = await stage.stranger()
    for path in (
        "/p/..%2fx",
        "/p/%F0%9F%92%A9",
        "/p/mill/a/%22",
        "/p/mill/b/%2e%2e",
        "/r/99999999999999999999",
        "/r/-1",
    ):
        assert (await stranger.get(path)).status_code == 404, path
        if not path.startswith("/p/mill/"):
            answer = await stranger.get(path, headers={"Accept": "text/event-stream"})
            assert answer.status_code == 404, path
