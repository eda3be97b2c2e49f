"""What else the servers of buildbot-nix and nixbot are told: limits, sign-in, commands after builds, people."""

import re
from collections.abc import Iterator, Mapping
from typing import Final
from urllib.parse import urlsplit

from nixmill.core.importing.credentials import Credentials
from nixmill.core.importing.findings import Findings, listed, shown
from nixmill.core.importing.options import Values
from nixmill.core.importing.toml_text import Table

_DISCOVERY: Final = "/.well-known/openid-configuration"
_SCOPES: Final = ("openid", "profile", "email")
_MIB: Final = 1024 * 1024
_LIMITS: Final = (
    ("buildTimeout", 10_800, "build-s", 36_000),
    ("buildMaxSilentTime", 1_200, "silence-s", 7_200),
    ("evalTimeout", 3_600, "evaluation-s", 7_200),
    ("evalMaxMemorySize", 2_048, "evaluation-mib", 8_192),
)
"""Option and its default there, setting and its default here. The same units in both: seconds, MiB."""

Header = tuple[str, Table]


def limits(values: Values, findings: Findings) -> Iterator[Header]:
    """Yield `[limits]` and `[retention]`: what is not at the other system's default."""
    table: dict[str, object] = {}
    for option, default, key, ours in _LIMITS:
        value = values.number(option)
        if value is None or value <= 0:
            continue
        if value == default:
            findings.differently(
                f"{option} = {value}", f"that is its default, so nixmill's own counts: {ours}.", f"Else write `{key}`."
            )
        else:
            table[key] = value
    size = values.number("logSizeLimit")
    if size is not None and size > 0 and size != 64 * _MIB:
        table["log-mib"] = -(-size // _MIB)
    if table:
        findings.differently("limits", "those in [limits] are also the most that a repository may ask for.")
    yield "[limits]", table
    days = values.number("retentionDays")
    yield "[retention]", {"run-days": days, "log-days": days} if days and days != 90 else {}


def oidc(values: Values, system: str, credentials: Credentials, findings: Findings) -> Iterator[Header]:
    """Yield `[[oidc]]`, where that is how people signed in."""
    url, client = values.text("oidc.discoveryUrl"), values.text("oidc.clientId")
    path = values.text("oidc.clientSecretFile")
    used = values.text("authBackend") == "oidc" if system == "buildbot-nix" else values.flag("oidc.enable")
    if not used:
        return
    if not (url and client and path):
        findings.lost("oidc", "it has no discoveryUrl, clientId or clientSecretFile.", "Write [[oidc]] by hand.")
        return
    if not url.endswith(_DISCOVERY):
        findings.lost(
            f"oidc.discoveryUrl = {shown(url)}",
            f"nixmill finds a provider by its issuer, whose discovery document is at ISSUER{_DISCOVERY}.",
            "Write [[oidc]] by hand.",
        )
        return
    title = values.text("oidc.name") or "OIDC"
    name = re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-") or "oidc"
    provider = {
        "name": name,
        "title": title,
        "issuer": url.removesuffix(_DISCOVERY),
        "client-id": client,
        "client-secret": credentials.name(path, "oidc-client-secret"),
    }
    findings.to_do(f"Allow the address URL/sign-in/{name}/callback at the provider {title}.")
    yield "[[oidc]]", {**provider, **_signing_in(values, url)}


def _signing_in(values: Values, url: str) -> dict[str, object]:
    """Return what an `[[oidc]]` says of people, as far as it is not the usual; `url` is of the discovery document."""
    table: dict[str, object] = {}
    scopes = values.texts("oidc.scope")
    if scopes and set(scopes) != set(_SCOPES):
        table["scopes"] = scopes
    if is_private(values):
        table["sign-up"] = False
    if admins := _subjects(values, url):
        table["admins"] = admins
    return table


def _subjects(values: Values, url: str) -> list[str]:
    """Return the administrators that nixbot names by their subject at the provider."""
    if values.text("oidc.mapping.username") not in {"", "sub"}:
        return []
    start = f"oidc:{urlsplit(url).netloc}:"
    return [name.removeprefix(start) for name in values.texts("admins") if name.startswith(start)]


def is_private(values: Values) -> bool:
    """Say whether the whole site was hidden from strangers."""
    return values.get("accessMode.fullyPrivate") is not None or values.text("authBackend") == "httpbasicauth"


def people(values: Values, findings: Findings) -> None:
    """Tell what becomes of administrators and of how people signed in."""
    subjects = set(_subjects(values, values.text("oidc.discoveryUrl")))
    rest = [name for name in values.texts("admins") if name.rpartition(":")[2] not in subjects]
    if rest:
        findings.lost(
            f"admins {listed(rest)}",
            "nixmill knows accounts of a forge by their number, which does not change hands as a name may.",
            "Write the numbers into `admins` of the forge, or make an account: nixmill user create NAME --admin",
        )
    if is_private(values):
        findings.differently(
            "a site that strangers do not see",
            "each project has its own visibility instead. Repositories that were polled are private here, and nobody"
            " gets an account by signing in (sign-up = false).",
            "Make accounts with nixmill user create NAME, and look at the visibility of every project before the server"
            " is reachable.",
        )
    if values.text("authBackend") in {"none", "httpbasicauth"}:
        findings.differently(
            f"authBackend = {shown(values.text('authBackend'))}",
            "people sign in with passwords of nixmill, or with their account on a forge.",
            "nixmill user create NAME",
        )


def failures(values: Values, findings: Findings) -> None:
    """Tell what becomes of the memory of failed builds."""
    if values.get("cacheFailedBuilds") is False:
        findings.differently(
            "cacheFailedBuilds = false",
            "nixmill remembers which derivations failed by themselves and does not build them again at once; trouble"
            " of machines is never remembered.",
            "A retry builds it again.",
        )
    if values.get("cacheFailedBuilds") is True:
        findings.differently("cacheFailedBuilds = true", "nixmill does so always; what it remembers expires.")


def hooks(values: Values, findings: Findings) -> Iterator[Header]:
    """Yield a `[[hook]]` for each step after builds that is a plain command."""
    for number, step in enumerate(values.tables("postBuildSteps"), 1):
        name = step.get("name") if isinstance(step.get("name"), str) else f"step {number}"
        command = _plain_command(step)
        if command is None:
            findings.lost(
                f"postBuildSteps {shown(name)}",
                "it has placeholders, or is no list of plain texts; a [[hook]] gets what it needs from a JSON file.",
                "Write a small program that reads the file NIXMILL_JSON names (docs/notifications.md), and name it in"
                ' a [[hook]] with on = ["succeeded"].',
            )
            continue
        findings.differently(
            f"postBuildSteps {shown(name)}",
            "it is a [[hook]], which runs beside the results and never changes a verdict"
            + ("." if step.get("warnOnly", step.get("warn_only")) is True else "; as a step it could fail a build."),
            "It starts in an empty directory without a link to the result: NIXMILL_JSON names a file with the paths.",
        )
        yield "[[hook]]", {"name": name, "command": command, "on": ["succeeded"]}


def _plain_command(step: Mapping[str, object]) -> list[str] | None:
    """Return the command with its environment; None where anything in it has to be filled in."""
    command, environment = step.get("command"), step.get("environment") or {}
    if not isinstance(command, list) or not command or not isinstance(environment, dict):
        return None
    words = [*(f"{name}={value}" for name, value in environment.items() if isinstance(value, str)), *command]
    whole = all(isinstance(part, str) for part in [*environment.values(), *command])
    if not whole or any("%(" in str(word) for word in words):
        return None
    return [*(["env"] if environment else []), *(str(word) for word in words)]
