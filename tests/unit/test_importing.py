"""`nixmill import`: real shapes of files, word by word; and what a file can be that is wrong."""

import json
from pathlib import Path
from typing import Final

import pytest

from nixmill.cli.importing import Asked, System, import_, look, texts
from nixmill.cli.main import run_command_line
from nixmill.cli.wiring import Wiring
from nixmill.config import ProjectConfig, read_config
from nixmill.config.projects_file import parse
from nixmill.config.server import Limits
from nixmill.config.server_file import read_server_settings
from nixmill.core.access import Visibility
from nixmill.core.errors import InputError
from nixmill.core.forge import ForgeKind
from nixmill.core.importing.report import report
from nixmill.core.importing.server_rest import _LIMITS
from tests.support.screens import check_screen

IMPORTS: Final = Path(__file__).parents[1] / "golden" / "imports"
CASES: Final[dict[str, tuple[System, str | None, tuple[str, ...]]]] = {
    "garnix-matrix": ("garnix", None, ("matrix",)),
    "garnix-hosts": ("garnix", None, ("hosts",)),
    "garnix-template": ("garnix", None, ("template",)),
    "buildbot-nix": ("buildbot-nix", "buildbot-nix-options.json", ("library",)),
    "nixbot": ("nixbot", "nixbot-config.json", ("outputs", "library")),
}


def asked(system: System, server: str | None, paths: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> Asked:
    monkeypatch.chdir(IMPORTS)
    return Asked(system=system, server=server, paths=paths)


def importing(system: System, name: str, text: str, tmp_path: Path) -> str:
    """Return the text of nixmill.toml."""
    (tmp_path / name).write_text(text)
    return texts(look(Asked(system=system, paths=(str(tmp_path),)))).get("nixmill.toml", "")


def mistakes(system: System, name: str, text: str, tmp_path: Path) -> str:
    with pytest.raises(InputError) as caught:
        importing(system, name, text, tmp_path)
    return str(caught.value).replace(f"{tmp_path}/", "")


@pytest.mark.parametrize("case", CASES)
def test_it_says_the_same_word_by_word(
    case: str, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    imported = look(asked(*CASES[case], monkeypatch))
    files = [line for name, text in texts(imported).items() for line in (f"---- {name}", *text.splitlines(), "")]
    check_screen(request, f"import-{case}", [*files, "---- report", *report(imported).splitlines()])


@pytest.mark.parametrize("case", CASES)
def test_what_is_written_is_read_by_nixmill_itself(case: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    files = texts(look(asked(*CASES[case], monkeypatch)))
    for name, text in files.items():
        if name.endswith("nixmill.toml"):
            assert read_config(text) != ProjectConfig()
    declared = parse(files.get("projects.toml", "")).projects
    assert len(declared) == (case == "buildbot-nix")
    if "server.toml" not in files:
        return
    settings = read_server_settings(_with_secrets(files, tmp_path), {"CREDENTIALS_DIRECTORY": str(tmp_path / "given")})
    assert {forge.status_name for forge in settings.forges} == {"buildbot/nix-build"}
    assert settings.url.startswith("https://")


def _with_secrets(files: dict[str, str], tmp_path: Path) -> Path:
    """Write the settings as they will stand, each secret in a file of its own."""
    text = files["server.toml"].replace("/run/secrets/", f"{tmp_path}/").replace("/nix/store/", f"{tmp_path}/")
    (tmp_path / "server.toml").write_text(text)
    (tmp_path / "projects.toml").write_text(files.get("projects.toml", ""))
    named = [line.partition(" = ")[2].strip('"') for line in text.splitlines() if f'= "{tmp_path}/' in line]
    given = (
        "gitea-token",
        "gitea-oauth-secret",
        "github-app-secret-key",
        "github-webhook-secret",
        "oidc-client-secret",
    )
    (tmp_path / "given").mkdir()
    for path in (*map(Path, named), *(tmp_path / "given" / name for name in given)):
        path.touch(mode=0o600)
    return tmp_path / "server.toml"


def test_a_forge_keeps_its_app_its_secrets_and_its_choice(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    files = texts(look(asked(*CASES["buildbot-nix"], monkeypatch)))
    (forge,) = read_server_settings(_with_secrets(files, tmp_path), {}).forges
    assert (forge.kind, forge.app_id, forge.private_key) == (ForgeKind.GITHUB, 123456, "github-app-key")
    assert (forge.topic, forge.owners, forge.repositories) == ("build-with-buildbot", ("example",), ("other/bolt",))
    assert (forge.client_id, forge.client_secret, forge.webhook_secrets) == (
        "Iv1.0123",
        "github-oauth",
        ("github-webhook",),
    )


def test_our_own_defaults_are_told_as_they_are() -> None:
    ours = {key: getattr(Limits(), key.replace("-", "_")) for _, _, key, _ in _LIMITS}
    assert {key: default for _, _, key, default in _LIMITS} == ours


@pytest.mark.parametrize(
    ("text", "targets"),
    [
        ("", ()),
        ("attribute = 'checks'\nflake_dir = '.'", ()),
        ("attribute = 'checks.x86_64-linux'", (".#checks.x86_64-linux",)),
        ("lock_file = './flake.lock'", ()),
        ("flake_dir = 'a/../b/'", ("./b#checks",)),
        ("attribute = 'a.\"b.c\"'", ('.#a."b.c"',)),
    ],
)
def test_a_repository_of_buildbot_nix(text: str, targets: tuple[str, ...], tmp_path: Path) -> None:
    found = importing("buildbot-nix", "buildbot-nix.toml", text, tmp_path)
    assert read_config(found).evaluate.targets == targets
    assert bool(found) == bool(targets)


@pytest.mark.parametrize(
    ("include", "exclude", "targets"),
    [
        ("packages.*.*", "", [".#packages"]),
        ("packages.x86_64-linux.hello", "", [".#packages.x86_64-linux.hello"]),
        ("packages.*.*, packages.x86_64-linux.a", "", [".#packages"]),
        ("packages.x86_64-linux.*, checks.x86_64-linux.*", "packages.*.*", [".#checks.x86_64-linux"]),
        ("checks.*.*", "", []),
        ("packages.x86_64-linux.a+b", "", ['.#packages.x86_64-linux."a+b"']),
        ("nixosConfigurations.web", "", [".#nixosConfigurations.web.config.system.build.toplevel"]),
        ("homeConfigurations.anna", "", [".#homeConfigurations.anna.activationPackage"]),
        ("apps.x86_64-linux.*", "", []),
        ("*.*", "", []),
        ("packages.x86_64-linux.a-*, packages.x86_64-linux.b", "", [".#packages.x86_64-linux.b"]),
        ("*.aarch64-linux.*", "devShells.*.*", [".#checks.aarch64-linux", ".#packages.aarch64-linux"]),
    ],
)
def test_matchers_of_garnix(include: str, exclude: str, targets: list[str], tmp_path: Path) -> None:
    lists = {"include": include.split(", "), "exclude": exclude.split(", ") if exclude else []}
    text = json.dumps({"builds": lists})
    assert list(read_config(importing("garnix", "garnix.yaml", text, tmp_path)).evaluate.targets) == targets


def test_a_matcher_that_never_chose_anything_is_told(tmp_path: Path) -> None:
    (tmp_path / "garnix.yaml").write_text("builds: {exclude: ['nixosConfigurations.big-*']}")
    lost = look(Asked(system="garnix", paths=(str(tmp_path),))).lost
    assert [note.why for note in lost if note.what == "exclude nixosConfigurations.big-*"] == [
        "garnix takes a part word for word unless it is * alone, so this never chose anything."
    ]


def test_another_lock_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "buildbot-nix.toml").write_text("lock_file = 'other.lock'\nflake_dir = 'dev'")
    assert "lock_file = `other.lock`" in [
        note.what for note in look(Asked(system="buildbot-nix", paths=(str(tmp_path),))).lost
    ]
    (tmp_path / "buildbot-nix.toml").write_text("lock_file = 'dev/flake.lock'\nflake_dir = 'dev'")
    assert look(Asked(system="buildbot-nix", paths=(str(tmp_path),))).lost == ()


def test_all_mistakes_are_told_at_once_with_file_line_and_key(tmp_path: Path) -> None:
    text = "builds:\n  include: [a.b.c.d, 3]\n  exlude: []\nbuild: x\nflakeDir: 7\nactions:\n- x\n"
    assert mistakes("garnix", "garnix.yaml", text, tmp_path).splitlines() == [
        "There are 6 mistakes:",
        "  garnix.yaml:5: flakeDir: should be a text, not 7.",
        "  garnix.yaml:6: actions: should be a list of tables, not `x`.",
        "  garnix.yaml:4: build: is no key of this file. Did you mean `builds`?",
        "  garnix.yaml:3: builds.exlude: is no key of a section. Known: include, exclude, branch.",
        "  garnix.yaml:2: builds.include: `a.b.c.d` is no matcher. Expected x.y or x.y.z, each part a name or *.",
        "  garnix.yaml:2: builds.include: 3 is no matcher. Expected x.y or x.y.z, each part a name or *.",
    ]


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("garnix.yaml", "builds:\n  include:\n  - *.x86_64-linux.*\n", "garnix.yaml:3: is no valid YAML"),
        ("garnix.yaml", "builds:\n  include:\n  - *.x86_64-linux.*\n", "A text that begins with * stands in quotes."),
        ("garnix.yaml", "flakeDir: a\nflakeDir: b\n", "garnix.yaml:2: 'flakeDir' is there twice."),
        ("garnix.yaml", "- a\n", "garnix.yaml: is no table of keys."),
        ("garnix.yaml", "builds: 3\n", "garnix.yaml:1: builds: should be a table, not 3."),
        ("garnix.yaml", "flakeDir: ../x\n", "garnix.yaml:1: flakeDir: `../x` is no directory of the repository."),
        ("garnix.yaml", "builds: {branch: 1, include: x}", "builds.branch: should be a text, not 1."),
        ("garnix.yaml", "x: !!python/object:os.system a\n", "is no valid YAML"),
        ("garnix.yaml", "x: 2024-99-99\n", "a value in it is none that YAML knows"),
        ("buildbot-nix.toml", "attribute = [", "buildbot-nix.toml: is no valid TOML"),
        ("buildbot-nix.toml", "\nattribut = 'x'", "buildbot-nix.toml:2: attribut: is no key of this file. Did"),
        ("buildbot-nix.toml", "flake_dir = '/etc'", "buildbot-nix.toml:1: flake_dir: `/etc` is no directory"),
        ("buildbot-nix.toml", "flake_dir = 'git:x'", "is no directory of the repository"),
        ("buildbot-nix.toml", "attribute = 'a..b'", "buildbot-nix.toml:1: attribute: 'a..b' is no attribute path"),
        ("buildbot-nix.toml", "effects_branches = 'x'", "effects_branches: should be a list of texts, not `x`."),
        ("buildbot-nix.toml", "build_branches = []", "build_branches: is no key of this file."),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told(name: str, text: str, said: str, tmp_path: Path) -> None:
    system: System = "garnix" if name == "garnix.yaml" else "buildbot-nix"
    assert said in mistakes(system, name, text, tmp_path)


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("deep", "is nested too deeply"),
        ("round", "is nested too deeply"),
        ("multiplying", "has more than 100000 values"),
        ("large", "is larger than 1 MiB"),
    ],
)
def test_a_hostile_file_is_refused(kind: str, said: str, tmp_path: Path) -> None:
    lines = [f"{chr(98 + n)}: &{chr(98 + n)} [{','.join(['*' + chr(97 + n)] * 10)}]\n" for n in range(8)]
    texts_of = {
        "deep": "[" * 3000,
        "round": "a: &a [*a]\n",
        "multiplying": "a: &a [x,x]\n" + "".join(lines),
        "large": "x" * 2_000_000,
    }
    assert said in mistakes("garnix", "garnix.yaml", texts_of[kind], tmp_path)


def test_mistakes_of_several_files_are_told_together(tmp_path: Path) -> None:
    (tmp_path / "old.json").write_text('{"domain": 3, "github": {"enable": true}}')
    (tmp_path / "buildbot-nix.toml").write_text("attribute = 3")
    with pytest.raises(InputError) as caught:
        look(Asked(system="buildbot-nix", server=str(tmp_path / "old.json"), paths=(str(tmp_path), "nowhere")))
    said = str(caught.value).replace(f"{tmp_path}/", "")
    for part in (
        "There are 6 mistakes",
        "old.json: domain: should be a text, not 3.",
        "old.json: github.appId: is missing.",
        "buildbot-nix.toml:1: attribute: should be a text, not 3.",
        "nowhere: cannot be read: No such file or directory.",
    ):
        assert part in said


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{}", "these are no settings of buildbot-nix"),
        ("[]", "it is no JSON object"),
        ("{", "is no valid JSON"),
        ('{"domain": 1' + "0" * 5000 + "}", "is no valid JSON"),
    ],
)
def test_a_file_that_holds_no_settings(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "old.json").write_text(text)
    with pytest.raises(InputError, match=said):
        look(Asked(system="buildbot-nix", paths=(str(tmp_path / "old.json"),)))


def test_what_strangers_wrote_does_not_reach_the_terminal_as_it_is(tmp_path: Path) -> None:
    text = json.dumps({"builds": {"include": ["nixosConfigurations.*"], "exclude": ["nixosConfigurations.\x1b[2J"]}})
    (tmp_path / "garnix.yaml").write_text(text)
    imported = look(Asked(system="garnix", paths=(str(tmp_path),)))
    assert all(line.isprintable() for line in report(imported).splitlines())
    assert any("\N{REPLACEMENT CHARACTER}[2J" in note.what for note in imported.lost)


def test_what_strangers_did_not_see_they_do_not_see_here(monkeypatch: pytest.MonkeyPatch) -> None:
    files = texts(look(asked(*CASES["buildbot-nix"], monkeypatch)))
    assert [one.project.visibility for one in parse(files["projects.toml"]).projects] == [Visibility.PRIVATE]
    assert "sign-up = false" in files["server.toml"]


def test_options_of_nixbots_module_are_read_too(tmp_path: Path) -> None:
    options = {
        "domain": "ci.example.org",
        "useHTTPS": True,
        "statusContextPrefix": "ours",
        "gitlab": {"enable": True, "instanceUrl": "https://gitlab.com", "tokenFile": "/s/token", "userAllowlist": []},
        "github": {"enable": False, "topic": "x"},
        "retentionDays": 30,
        "evalTimeout": 100,
        "pullBased": {"repositories": {"9": {"url": "https://example.org/x.git", "defaultBranch": "main"}}},
    }
    (tmp_path / "old.json").write_text(json.dumps(options))
    imported = look(Asked(system="nixbot", server=str(tmp_path / "old.json")))
    assert imported.status_name == "ours/nix-build"
    for line in ('kind = "gitlab"', 'gitlab-token = "/s/token"', "evaluation-s = 100", "log-days = 30"):
        assert line in imported.server.splitlines()
    assert "github" not in imported.server
    assert [(one.project.name, one.project.visibility) for one in imported.projects] == [("p-9", Visibility.PUBLIC)]


def test_without_a_file_garnix_defaults_count(tmp_path: Path) -> None:
    (tmp_path / "flake.nix").touch()
    found = texts(look(Asked(system="garnix", paths=(str(tmp_path),))))["nixmill.toml"]
    assert read_config(found).evaluate.targets == tuple(
        f".#{output}.x86_64-linux" for output in ("checks", "packages", "devShells")
    )


def test_an_option_that_nobody_knows_is_told_and_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / "old.json").write_text('{"master": {"domain": "ci.example.org", "newOption": {"a": 1}}, "worker": {}}')
    imported = look(Asked(system="buildbot-nix", server=str(tmp_path / "old.json")))
    assert 'url = "https://ci.example.org"' in imported.server
    assert "newOption" in [note.what for note in imported.lost]


def test_the_default_branch_can_be_said(tmp_path: Path) -> None:
    (tmp_path / "nixbot.toml").write_text('build_branches = ["release-*", "x+"]')
    imported = look(Asked(system="nixbot", paths=(str(tmp_path),), default_branch="trunk"))
    assert read_config(imported.repositories[0].text).watch.branches == ("trunk", "release-*", "x+")
    assert [note.what for note in imported.differently] == ["branches `x+`"]


def test_files_are_written_and_never_over_others(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a/mill", "b/mill"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "nixbot.toml").write_text(f'attribute = "{name[0]}"')
    one = Asked(system="nixbot", paths=(str(tmp_path / "a/mill"), str(tmp_path / "b/mill")), out=str(tmp_path / "o"))
    import_(one)
    assert 'targets = [".#a"]' in (tmp_path / "o/mill/nixmill.toml").read_text()
    assert 'targets = [".#b"]' in (tmp_path / "o/mill-2/nixmill.toml").read_text()
    assert capsys.readouterr().err.startswith("Wrote ")
    with pytest.raises(InputError, match="exist already; nothing was written"):
        import_(one)


def test_it_is_a_command(tmp_path: Path, capsys: pytest.CaptureFixture[str], wiring: Wiring) -> None:
    (tmp_path / "garnix.yaml").write_text("builds: {include: ['packages.*.*']}\n")
    assert run_command_line(wiring, ["import", "garnix", str(tmp_path)]) == 0
    out, err = capsys.readouterr()
    assert out == '# ---- nixmill.toml\n[evaluate]\ntargets = [".#packages"]\n'
    assert "What remains to be done:" in err
    assert run_command_line(wiring, ["import", "garnix", str(tmp_path), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["status_name"], list(document["files"])) == ("All Garnix checks", ["nixmill.toml"])
    assert run_command_line(wiring, ["import", "garnix", str(tmp_path / "no")]) == 2
    assert run_command_line(wiring, ["import", "garnix", "--server", "x"]) == 2
    assert run_command_line(wiring, ["import", "hydra"]) == 2


@pytest.fixture
def wiring() -> Wiring:
    """Return nothing that could be used: an import only reads files."""
    return None  # type: ignore[return-value]


def test_builds_of_garnix_for_one_branch_are_not_what_the_defaults_do(tmp_path: Path) -> None:
    text = "builds: {branch: main, include: ['*.x86_64-linux.*']}\n"
    (tmp_path / "garnix.yaml").write_text(text)
    said = report(look(Asked(system="garnix", paths=(str(tmp_path),))))
    assert "the defaults do the same" not in said
    assert "gives no nixmill.toml, as nothing in it is for all branches and has an equal" in said
