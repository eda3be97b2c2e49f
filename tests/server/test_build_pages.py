"""Derivations, why, queue, machines, timeline, search, administration and hooks over real HTTP."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from nixmill.core.access import Role, Scope, Visibility
from nixmill.core.status import Status
from tests.fakes.logs import FakeLogs
from tests.fakes.pages import drv
from tests.fakes.pages_b import (
    HOOK_ID,
    BusyOffice,
    FakeBuildPages,
    FakeHookRunner,
    FindingPages,
    FullAdminPages,
    TimedRunPages,
    tried,
)
from tests.support.web import WebWorld, web_world

DERIVATION = f"/d/{drv('libfoo-2.3').rpartition('/')[2]}"
WHY = "/r/412/why/packages.x86_64-linux.libfoo"
HOOK = f"/hooks/{HOOK_ID}/log"
PUBLIC = (DERIVATION, WHY, "/r/412/timeline", "/queue", "/machines", "/search?q=lib", "/search")
ADMIN = ("/admin", "/admin/audit", "/admin/deliveries", "/admin/retention")


@dataclass
class House:
    web: WebWorld
    admin_pages: FullAdminPages
    hooks: Path


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    admin_pages, logs = FullAdminPages(), FakeLogs()
    logs.open(9001).write("foo.c:1:1: error: <b>no</b>")
    async with web_world(
        build_pages=FakeBuildPages(tried(9001)),
        office=BusyOffice(),
        run_pages=TimedRunPages(),
        project_pages=FindingPages(),
        admin_pages=admin_pages,
        logs=logs,
        hook_runner=FakeHookRunner(tmp_path),
    ) as web:
        await web.user("anna", admin=True)
        await web.user("bob")
        await web.project("mill", Visibility.PUBLIC, bob=Role.MEMBER)
        yield House(web, admin_pages, tmp_path)


@pytest.mark.parametrize("path", [*PUBLIC, *ADMIN, HOOK])
async def test_a_page_is_whole_and_what_strangers_wrote_stays_text(house: House, path: str) -> None:
    (house.hooks / f"{HOOK_ID}.log").write_bytes(b"<img src=x>\xff\x1b[31mred")
    answer = await (await house.web.signed_in("anna")).get(path)
    assert answer.status_code == 200
    assert "<img" not in answer.text and "onerror=alert(1)>" not in answer.text.replace("&gt;", "&")
    assert "\u202e" not in answer.text and "\x1b" not in answer.text
    assert " style=" not in answer.text and " onclick" not in answer.text
    assert answer.text.count('<input type="hidden" name="csrf"') == answer.text.count('<form method="post"')


@pytest.mark.parametrize("path", [*PUBLIC, *ADMIN, HOOK])
async def test_a_page_has_its_twin_in_json(house: House, path: str) -> None:
    browser = await (house.web.browser() if path in PUBLIC else house.web.signed_in("anna"))
    answer = await browser.get(path, headers={"Accept": "application/json"})
    assert answer.status_code == 200 and isinstance(answer.json(), dict)


@pytest.mark.parametrize("path", ADMIN)
async def test_administration_is_for_administrators(house: House, path: str) -> None:
    assert (await (await house.web.browser()).get(path)).headers["location"].startswith("/sign-in")
    assert (await (await house.web.signed_in("bob")).get(path)).status_code == 403


async def test_a_hooks_log_is_for_members(house: House) -> None:
    (house.hooks / f"{HOOK_ID}.log").write_text("published\n")
    assert "published" in (await (await house.web.signed_in("bob")).get(HOOK)).text
    stranger = await (await house.web.browser()).get(HOOK)
    assert stranger.status_code == 303 and "published" not in stranger.text
    for path in ("/hooks/00000000-0000-0000-0000-000000000000/log", "/hooks/..%2F..%2Fetc/log"):
        assert (await (await house.web.signed_in("bob")).get(path)).status_code == 404


async def test_of_a_long_hooks_log_the_end_is_shown(house: House) -> None:
    (house.hooks / f"{HOOK_ID}.log").write_text("".join(f"line {at}\n" for at in range(200_000)))
    text = (await (await house.web.signed_in("bob")).get(HOOK)).text
    assert "line 199999<" in text and "line 5<" not in text
    assert "Only its end is shown; 1.7 MiB before that are left out." in text


@pytest.mark.parametrize(
    "path",
    [
        "/d/nonsense",
        "/d/..%2F..",
        f"{DERIVATION.removesuffix('.drv')}",
        "/r/999/timeline",
        "/r/412/why/no.such",
        "/r/412/why/a..b",
    ],
)
async def test_what_is_not_there_is_not_there(house: House, path: str) -> None:
    assert (await (await house.web.browser()).get(path)).status_code == 404


async def test_only_those_who_may_are_offered_actions(house: House) -> None:
    member, stranger = await house.web.signed_in("bob"), await house.web.browser()
    for path, action in ((DERIVATION, "/p/mill/failures/forget"), (WHY, "/r/412/retry"), ("/queue", "/r/413/cancel")):
        assert f'action="{action}"' in (await member.get(path)).text
        assert f'action="{action}"' not in (await stranger.get(path)).text


async def test_the_queue_says_why_each_one_waits(house: House) -> None:
    text = (await (await house.web.browser()).get("/queue")).text
    assert "2 derivations run, 2 wait, for 2 runs." in text
    assert "needs kvm; builder-3 busy with nixos-test, about 4 min" in text
    assert text.index("chromium-131") < text.index("vm-test-boot")
    assert 'id="run-413"' in text


async def test_machines_say_why_they_are_away_and_hide_their_keys(house: House) -> None:
    text = (await (await house.web.browser()).get("/machines")).text
    assert "Connection refused" in text and "2 of 8 places taken" in text
    assert "/secret" not in text


async def test_why_shows_the_sentences_the_log_and_the_base(house: House) -> None:
    text = (await (await house.web.browser()).get(WHY)).text
    assert "It failed in this run and passed in the base (run 410)." in text
    assert "error: &lt;b&gt;no&lt;/b&gt;" in text
    assert "/compare/410/412" in text


async def test_search_goes_to_the_only_thing_found_but_never_elsewhere(house: House) -> None:
    browser = await house.web.browser()
    assert (await browser.get("/search?q=one")).headers["location"] == "/r/412"
    assert (await browser.get("/search?q=one&stay=1")).status_code == 200
    assert (await browser.get("/search?q=away")).status_code == 200
    assert "Nothing that you may see is called" in (await browser.get("/search?q=nope")).text
    assert (await browser.get("/search", params={"q": "x" * 401})).status_code == 400


async def test_the_audit_log_has_pages_and_can_be_searched(house: House) -> None:
    browser = await house.web.signed_in("anna")
    text = (await browser.get("/admin/audit?find=+retry+")).text
    assert "/admin/audit?before=861&amp;find=retry" in text
    await browser.get("/admin/audit?before=861")
    assert house.admin_pages.audit_asked == [(None, 100, "retry"), (861, 100, "")]


async def test_dead_letters_can_be_sent_again(house: House) -> None:
    browser = await house.web.signed_in("anna")
    dead = (await browser.get("/admin/deliveries?state=dead")).text
    assert 'action="/admin/deliveries/3/replay"' in dead and "451 try again" not in dead
    assert (await browser.get("/admin/deliveries?state=nonsense")).status_code == 400


async def test_the_forecast_says_when_a_disk_is_full(house: House) -> None:
    text = (await (await house.web.signed_in("anna")).get("/admin")).text
    assert "full in about 3 days" in text and "not in sight" in text


async def test_a_token_that_may_only_run_sees_nothing_of_administration(house: House) -> None:
    program = await house.web.api(await house.web.token("anna", Scope.RUN))
    assert (await program.get("/admin")).status_code in {403, 404}


async def test_the_timeline_marks_the_critical_path(house: House) -> None:
    text = (await (await house.web.browser()).get("/r/412/timeline")).text
    assert 'class="b-passed critical"' in text
    assert 'title="on the critical path"' in text
    assert Status.TROUBLE.value in text
