"""The client commands against a real HTTP server in this process; each command is a process of its own."""

import asyncio
import json
import signal
import stat
import subprocess
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from fastapi import Response

from nixmill.core.access import Scope
from nixmill.core.view.pages import HomePage
from nixmill.engine.live import run_topic
from tests.fakes.pages import BUILDING_RUN, LAST_RUN, FakeProjectPages, FakeRunPages
from tests.fakes.pages_b import BusyOffice
from tests.support.client_server import LOG, TOKEN, ClientServer, client_server
from tests.support.program import Done
from tests.support.web import web_world


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[ClientServer]:
    async with client_server(tmp_path) as made:
        yield made


async def test_status_of_everything_a_project_and_a_run(server: ClientServer) -> None:
    home, project, run = await asyncio.gather(
        server.nixmill("status"), server.nixmill("status", "mill"), server.nixmill("status", str(LAST_RUN))
    )
    assert (home.code, project.code, run.code) == (0, 0, 0), home.err + project.err + run.err
    assert "broken default branches" in home.out
    assert "https://git.example.org/mill.git" in project.out
    assert "libfoo-2.3 (38 attributes)" in run.out
    assert f"{server.url}/r/{LAST_RUN}" in run.out
    assert "\x1b" not in home.out + project.out + run.out
    assert {headers["authorization"] for headers in server.headers} == {f"Bearer {TOKEN}"}


async def test_the_page_as_json(server: ClientServer) -> None:
    done = await server.nixmill("status", "--json")
    assert set(json.loads(done.out)) == set(HomePage.__struct_fields__)


async def test_the_queue_and_its_reasons(server: ClientServer) -> None:
    short, long = await asyncio.gather(server.nixmill("queue"), server.nixmill("queue", "--why"))
    assert "2 waiting: nixmill queue --why" in short.out
    assert "needs kvm; builder-3 busy with nixos-test" in long.out


@pytest.mark.parametrize(
    ("arguments", "body"),
    [
        ((), {"what": "failed"}),
        (("--anyway",), {"what": "anyway"}),
        (("--evaluate",), {"what": "evaluate"}),
        (("libfoo",), {"what": "attribute", "attribute": "packages.x86_64-linux.libfoo"}),
        (("--build", "libfoo"), {"what": "build", "attribute": "packages.x86_64-linux.libfoo"}),
    ],
)
async def test_retry(server: ClientServer, arguments: tuple[str, ...], body: dict[str, str]) -> None:
    done = await server.nixmill("retry", str(LAST_RUN), *arguments)
    assert (done.code, done.out) == (0, f"{BUILDING_RUN}\n"), done.err
    assert server.asked[-1] == ("POST", f"/r/{LAST_RUN}/retry", body)


async def test_retry_refuses_what_contradicts_itself(server: ClientServer) -> None:
    for pair in (("--anyway", "--evaluate"), ("libfoo", "--anyway"), ("libfoo", "--evaluate")):
        done = await server.nixmill("retry", "41", *pair)
        assert done.code == 2
        assert "exclude each other" in done.err
    assert server.asked == []


async def test_cancel(server: ClientServer) -> None:
    done = await server.nixmill("cancel", "413")
    assert (done.code, server.asked[-1]) == (0, ("POST", "/r/413/cancel", {}))


async def test_watch_ends_with_the_run_and_has_its_exit_code(server: ClientServer) -> None:
    async def end() -> None:
        async with asyncio.timeout(30):
            await server.watched.wait()
        server.runs.ended = True

    done = await server.nixmill("watch", "mill")
    assert done.code == 1  # the newest run of mill has failed already
    good, _ = await asyncio.gather(server.nixmill("watch", str(BUILDING_RUN)), end())
    assert good.code == 0, good.err
    assert "✔ Passed after 3 min 20 s" in good.err
    assert good.out == ""


async def test_ctrl_c_stops_watching_and_says_that_the_run_goes_on(server: ClientServer) -> None:
    process = await server.start("watch", str(BUILDING_RUN))
    assert process.stderr is not None
    async with asyncio.timeout(30):
        await process.stderr.readuntil(b"/r/413\n")
        process.send_signal(signal.SIGINT)
        _, err = await process.communicate()
    assert process.returncode == 130
    assert "goes on. To stop it: nixmill cancel 413" in err.decode()


async def test_a_log_goes_on_where_a_dropped_connection_left_it(server: ClientServer) -> None:
    done = await server.nixmill("log", "9001", "-f")
    assert done.out.encode() == LOG, done.err
    streams = [headers.get("last-event-id") for headers in server.headers if "event-stream" in headers["accept"]]
    assert streams == [None, "21"]


async def test_a_log_as_it_is_and_without_what_steers_a_terminal(server: ClientServer) -> None:
    safe, raw = await asyncio.gather(
        server.nixmill("log", "9001", "--remote"), server.nixmill("log", "9001", "--server", server.url, "--raw")
    )
    assert safe.out == "red text\nlast\n"
    assert raw.out.startswith("\x1b[31mred\x1b[0m \x1b]0;title")


async def test_an_attribute_without_a_log_and_one_that_is_unknown_or_several(server: ClientServer) -> None:
    several, none = await asyncio.gather(
        server.nixmill("log", "412", "victim", "--remote"), server.nixmill("log", "412", "nowhere", "--remote")
    )
    assert (several.code, none.code) == (2, 2)
    assert "attributes of run 412" in several.err
    assert "has no attribute 'nowhere'" in none.err


async def test_repro_of_pages(server: ClientServer) -> None:
    run, why, log, strange = await asyncio.gather(
        server.nixmill("repro", f"{server.url}/r/412?show=failed"),
        server.nixmill("repro", f"{server.url}/r/412/why/packages.x86_64-linux.libfoo"),
        server.nixmill("repro", f"{server.url}/log/9001#L10"),
        server.nixmill("repro", f"{server.url}/machines"),
    )
    assert run.out.splitlines()[1:] == [
        "git clone https://git.example.org/mill.git mill",
        "cd mill",
        "git checkout c91aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        "nixmill run '.#packages'",
    ], run.err
    assert "nixmill run '.#packages.x86_64-linux.libfoo'" in why.out
    assert "nix build 'git+https://git.example.org/mill.git?rev=c91aaa" in why.out
    assert "nix-store --realise" in log.out
    assert strange.code == 2


async def test_repro_prints_nothing_that_could_harm(server: ClientServer) -> None:
    server.project_url = "--upload-pack=evil"
    done = await server.nixmill("repro", f"{server.url}/r/412")
    assert (done.code, done.out) == (2, "")


@dataclass(frozen=True)
class Checkout:
    """A clone whose first commit is on its remote, as far as is known there."""

    top: Path

    def git(self, *arguments: str) -> str:
        who = ("-c", "user.name=n", "-c", "user.email=n@localhost", "-c", "init.defaultBranch=main")
        done = subprocess.run(("git", *who, *arguments), cwd=self.top, check=True, capture_output=True, text=True)
        return done.stdout.strip()

    def commit(self) -> str:
        self.git("commit", "-q", "--allow-empty", "-m", "change")
        return self.git("rev-parse", "HEAD")


def checkout(top: Path, url: str) -> Checkout:
    top.mkdir()
    made = Checkout(top)
    made.git("init", "-q")
    made.git("remote", "add", "origin", url)
    made.git("update-ref", "refs/remotes/origin/main", made.commit())
    return made


async def test_a_run_of_the_checkout_here(server: ClientServer, tmp_path: Path) -> None:
    here = checkout(tmp_path / "here", "git@git.example.org:mill.git")
    server.runs.ended = True
    done = await server.nixmill("run", "--remote", ".#checks", cwd=here.top)
    assert done.code == 0, done.err
    body = {"ref": "main", "commit": here.git("rev-parse", "HEAD"), "targets": [".#checks"]}
    assert ("POST", "/p/mill/start", body) in server.asked


async def test_a_commit_that_was_not_pushed_is_refused(server: ClientServer, tmp_path: Path) -> None:
    here = checkout(tmp_path / "here", "https://git.example.org/mill.git")
    here.commit()
    done = await server.nixmill("run", "--remote", cwd=here.top)
    assert done.code == 2
    assert "git push" in done.err
    assert server.asked == []


async def test_a_repository_that_no_project_has(server: ClientServer, tmp_path: Path) -> None:
    here = checkout(tmp_path / "here", "https://elsewhere.example.org/mill.git")
    done = await server.nixmill("run", "--remote", cwd=here.top)
    assert done.code == 2
    assert "has no project of this repository" in done.err


async def test_remote_and_local_options_do_not_mix(server: ClientServer) -> None:
    done = await server.nixmill("run", "--remote", "--max-jobs", "3")
    assert done.code == 2
    assert "the server decides" in done.err


async def test_sign_in_tries_a_token_and_keeps_it_for_this_user_alone(server: ClientServer) -> None:
    bad = await server.nixmill("sign-in", server.url, NIXMILL_TOKEN="", stdin="nm_wrong\n")
    assert bad.code == 4
    assert "nm_wrong" not in bad.err
    good = await server.nixmill("sign-in", server.url, NIXMILL_TOKEN="", stdin=f"{TOKEN}\n")
    assert good.code == 0, good.err
    kept = server.home / ".config/nixmill/servers.json"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert (await server.nixmill("status", NIXMILL_SERVER="", NIXMILL_TOKEN="")).code == 0
    assert server.headers[-1]["authorization"] == f"Bearer {TOKEN}"
    out = await server.nixmill("sign-out")
    assert out.code == 0
    assert TOKEN not in kept.read_text()


def refusal(status: int, sentence: str = "", **headers: str) -> Response:
    body = json.dumps({"error": sentence, "remedy": "Do that."}) if sentence else "<h1>proxy</h1>"
    return Response(body, status, headers, "application/json" if sentence else "text/html")


@pytest.mark.parametrize(
    ("answer", "code", "said"),
    [
        (refusal(403, "You may not."), 4, "You may not. Do that."),
        (refusal(404), 2, "There is no /queue at"),
        (refusal(422, "That is \x1b[2Jwrong."), 2, "That is wrong.\nDo that."),
        (refusal(500), 5, "the server's fault"),
        (refusal(503, "It is starting."), 5, "It is starting."),
        (refusal(200), 5, "does not answer /queue as a nixmill server"),
        (refusal(302, location="https://elsewhere.example.org/queue"), 2, "leads on to https://elsewhere.example.org"),
    ],
)
async def test_what_a_server_refuses_is_a_sentence(
    server: ClientServer, answer: Response, code: int, said: str
) -> None:
    server.answer = answer
    done = await server.nixmill("queue")
    assert done.code == code, done.err
    assert said in done.err
    assert "\x1b" not in done.err


async def test_a_server_that_is_not_there_and_none_at_all(server: ClientServer) -> None:
    gone, none, ftp, plain = await asyncio.gather(
        server.nixmill("status", "--server", "http://127.0.0.1:1"),
        server.nixmill("status", NIXMILL_SERVER=""),
        server.nixmill("status", "--server", "ftp://x"),
        server.nixmill("status", "--server", "http://ci.example.org", NIXMILL_SERVER=""),
    )
    assert (gone.code, none.code, ftp.code, plain.code) == (5, 2, 2, 2)
    assert "cannot be reached" in gone.err
    assert "nixmill sign-in URL" in none.err
    assert "is no address" in ftp.err
    assert "everybody on the way could read it" in plain.err
    assert TOKEN not in gone.err + none.err + ftp.err + plain.err


async def test_projects_by_the_servers_api(server: ClientServer) -> None:
    added = await server.nixmill("projects", "add", "loom", "https://example.org/loom.git", "--branch", "main")
    assert added.code == 0, added.err
    method, path, body = server.asked[0]
    assert (method, path, body["project"]["name"]) == ("POST", "/p", "loom")
    assert {"id", "declared", "created_at"}.isdisjoint(body["project"])
    assert body["jobsets"][0]["branches"] == ["main"]
    exported = await server.nixmill("projects", "export", "loom")
    assert 'name = "loom"' in exported.out, exported.err
    file = server.home / "projects.toml"
    file.write_text(exported.out + '[project.members]\nanna = "owner"\n')
    dry, applied, again = [await server.nixmill("projects", "apply", str(file), *flags) for flags in (["-n"], [], [])]
    assert dry.out == applied.out == "loom: changed\n", applied.err
    assert again.out == "Everything is so already.\n"
    assert ("POST", "/p/loom/members", {"user": "anna", "role": "owner"}) in server.asked
    assert (await server.nixmill("projects", "remove", "loom", "--yes")).code == 0
    assert server.asked[-1][:2] == ("DELETE", "/p/loom")


async def test_the_real_application_speaks_the_same_language(tmp_path: Path) -> None:
    """Real pages, tokens, actions and live events; only what the database would say is canned."""
    runs, office = FakeRunPages(), BusyOffice()
    async with web_world(project_pages=FakeProjectPages(), run_pages=runs, office=office) as world:
        await world.user("anna", admin=True)
        token = await world.token("anna", Scope.READ, Scope.RUN)
        server = ClientServer(world.url, tmp_path)

        async def nixmill(*arguments: str) -> Done:
            return await server.nixmill(*arguments, NIXMILL_TOKEN=token)

        home, run, queue, gone, bad = await asyncio.gather(
            nixmill("status"),
            nixmill("status", str(LAST_RUN)),
            nixmill("queue", "--why"),
            nixmill("watch", "999"),
            server.nixmill("status", NIXMILL_TOKEN="nm_unknown"),  # noqa: S106 - opens nothing
        )
        assert (home.code, run.code, queue.code, gone.code, bad.code) == (0, 0, 0, 2, 4), home.err + run.err + queue.err
        assert "There is no run 999" in gone.err
        assert (await nixmill("retry", str(LAST_RUN), "libfoo")).out == "7\n"
        assert (await nixmill("cancel", str(BUILDING_RUN))).code == 0
        assert [call[0] for call in office.calls][-2:] == ["retry", "cancel"]
        watching = await server.start("watch", str(BUILDING_RUN), NIXMILL_TOKEN=token)
        assert watching.stderr is not None
        async with asyncio.timeout(60):
            await watching.stderr.readuntil(b"/r/413\n")
            runs.ended = True
            world.site.live.tell(run_topic(BUILDING_RUN), ended=True)
            _, err = await watching.communicate()
        assert watching.returncode == 0, err
