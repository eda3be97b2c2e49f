"""The settings in docs/caches.md and docs/roots.md are read as they stand, and their tables say what the code says."""

import re
import tomllib
from pathlib import Path
from typing import Final

import pytest

from nixmill.config import RootsConfig, read_config
from nixmill.config.caches import CacheKind, CacheSettings
from nixmill.config.roots import RootSettings
from nixmill.config.server import ServerSettings
from nixmill.config.server_file import read_server_settings
from nixmill.core.pin import RootPolicy
from nixmill.core.publish import TRIES_MAX
from nixmill.core.upload import ResultClass
from nixmill.edge.binary_cache.keys import make_key
from nixmill.engine import keeper
from nixmill.engine.cache_keeper import SIGNED_A_ROUND
from nixmill.web.cache_front import TRANSFERS_MAX
from nixmill.web.cache_readers import BELIEVED_S
from tests.support.house import ROOT

CACHES: Final = (ROOT / "docs/caches.md").read_text()
ROOTS: Final = (ROOT / "docs/roots.md").read_text()
SETTING_UP: Final = (ROOT / "docs/server.md").read_text()
_BLOCK: Final = re.compile(r"^( *)```toml\n(.*?)^ *```", re.DOTALL | re.MULTILINE)
_SECRET: Final = re.compile(r'"(/etc/nixmill/secrets/[^"]*)"')


def blocks(text: str) -> list[str]:
    """Return the TOML of a document, also where it stands in a list."""
    return [re.sub(rf"^{indent}", "", block, flags=re.MULTILINE) for indent, block in _BLOCK.findall(text)]


def said(text: str) -> list[tuple[str, str]]:
    """Return each example of a document with a name for it."""
    return [(f"{number}: {', '.join(tomllib.loads(block))}", block) for number, block in enumerate(blocks(text), 1)]


def read(directory: Path, text: str) -> ServerSettings:
    """Read server settings beside the files that they name: secret keys where they are said to sign."""
    for place in dict.fromkeys(_SECRET.findall(text)):
        file = directory / Path(place).name
        if file.suffix == ".key":
            make_key(file, f"{file.stem}.example.org")
        else:
            file.touch(mode=0o600)
            file.write_text("dummy")
        text = text.replace(place, str(file))
    file = directory / "server.toml"
    file.touch(mode=0o600)
    file.write_text(text)
    return read_server_settings(file, {})


SERVER: Final = [
    *said(CACHES),
    *((name, block) for name, block in said(ROOTS) if not block.startswith("# nixmill.toml")),
]


@pytest.mark.parametrize("block", [block for _, block in SERVER], ids=[name for name, _ in SERVER])
def test_each_example_of_the_servers_settings_is_read_without_a_mistake(block: str, tmp_path: Path) -> None:
    settings = read(tmp_path, block)
    assert len(settings.caches) == block.count("[[cache]]")
    assert settings.caches or settings.roots != RootSettings()


def test_there_is_an_example_of_each_kind_and_class_and_format(tmp_path: Path) -> None:
    found: list[CacheSettings] = []
    for number, (_, block) in enumerate(said(CACHES)):
        (tmp_path / str(number)).mkdir()
        found += read(tmp_path / str(number), block).caches
    assert {cache.kind for cache in found} == set(CacheKind)
    assert {cache.results for cache in found} == set(ResultClass)
    assert {cache.format for cache in found} == {"nar", "cas"}
    assert {cache.name for cache in found if cache.kind is CacheKind.COMMAND} == {"cachix", "attic", "niks3"}
    for kind in CacheKind:
        assert f"**{kind}**: " in CACHES


def test_the_cache_of_a_first_server_is_read_too(tmp_path: Path) -> None:
    (block,) = [block for block in blocks(SETTING_UP) if "[[cache]]" in block]
    assert [cache.name for cache in read(tmp_path, block).caches] == ["main"]


def test_what_a_repository_may_say_is_read() -> None:
    (block,) = [block for _, block in said(ROOTS) if block.startswith("# nixmill.toml")]
    found = read_config(block).roots
    assert found == RootsConfig(
        branches=("release-*", "!release-old", "refs/tags/v*"), keep=3, policy=RootPolicy.REQUIRE_LOCAL
    )
    assert [policy for policy in RootPolicy if f"| `{policy}`" not in ROOTS] == []
    assert f"| `{RootSettings().policy}` (default) |" in ROOTS


def test_times_and_numbers_are_those_of_the_code() -> None:
    defaults, cache = RootSettings(), CacheSettings(name="x")
    for name, value in {
        "gone-days": defaults.gone_days,
        "pull-request-days": defaults.pull_request_days,
        "pull-request-open-days": defaults.pull_request_open_days,
        "min-free-mib": ServerSettings().min_free_mib,
    }.items():
        assert f"`{name}` ({value:g})" in ROOTS, name
    assert defaults.pull_request_runs == 2  # "and of the run before"
    assert (keeper.GRACE_S, keeper.PASS_S) == (10 * 60, 5 * 60)  # "ten minutes", "every five minutes"
    assert f"`grace-hours` ({cache.grace_hours:g})" in CACHES
    assert f"{SIGNED_A_ROUND:,} paths an hour" in CACHES
    assert f"{TRANSFERS_MAX} downloads" in CACHES
    assert (TRIES_MAX, BELIEVED_S) == (12, 10)  # "twelve times", "ten more seconds"
    assert cache.intermediate and cache.upstream_keys == ("cache.nixos.org-1",)
