"""What is said about a finished run, and to whom: from its facts and a project's rules to messages for the outbox.

A rule that names attributes, or addresses maintainers, sees a run through a window: only what happened to these
attributes counts, and only that is told. Names in texts come from strangers: they are cut, made into single lines and
freed of control characters here; who delivers a text encodes it for the place where it goes.
What this file does not know: how a message travels.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Final, assert_never

import msgspec

from nixmill.core.errors import InputError
from nixmill.core.message import Broken, ChannelKind, Ended, Parcel, Rule, When
from nixmill.core.project import matches, pull_request_of, short
from nixmill.core.run_event import Verdict
from nixmill.core.status import LOOK, Status
from nixmill.core.terminal_text import counted, duration, sanitise, truncate

MAINTAINERS: Final = "maintainers"
"""The target of an e-mail rule that writes to the maintainers of what is not good or was fixed."""
MAINTAINERS_MAX: Final = 100
"""Addresses that one run writes to: they stand in the repository, so a stranger may have put them there."""
CREDENTIAL_PREFIX: Final = "notify-"
"""What the names of credentials for messages begin with, so that a rule cannot use any other secret."""
TITLE_MAX: Final = 150
LISTED_MAX: Final = 20
"""Attributes a text names under one heading."""
NAME_MAX: Final = 200

WEB_ADDRESS: Final = re.compile(
    r"(?=.{1,2000}\Z)https?://(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?(?:[/?][!-~]*)?"
)
"""Without user and password, which have no business in a rule."""
_ADDRESS: Final = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9](?:[A-Za-z0-9.-]{0,252}[A-Za-z0-9])?")
_ROOM: Final = re.compile(r"[!#][!-~]{1,254}")
_WRONG: Final = frozenset({Verdict.BUILD_FAILED, Verdict.EVALUATION_FAILED})
"""Verdicts that say something against the project; the others but `GOOD` say nothing about it."""

_STATUS: Final[dict[Verdict, Status]] = {
    Verdict.GOOD: Status.PASSED,
    Verdict.BUILD_FAILED: Status.FAILED,
    Verdict.EVALUATION_FAILED: Status.FAILED,
    Verdict.NOT_ALLOWED: Status.TROUBLE,
    Verdict.INFRASTRUCTURE: Status.TROUBLE,
    Verdict.CANCELLED: Status.CANCELLED,
}


def check_rule(rule: Rule) -> Rule:
    """Return a rule; raise `InputError` where its target or credential is none that its channel can use."""
    if rule.credential and not rule.credential.startswith(CREDENTIAL_PREFIX):
        raise InputError(
            f"A rule cannot use the credential {rule.credential!r}.",
            f"Credentials for messages have names that begin with {CREDENTIAL_PREFIX!r}.",
        )
    match rule.channel:
        case ChannelKind.EMAIL:
            good = rule.target == MAINTAINERS or is_address(rule.target)
            remedy = "Give one address such as team@example.org, or: maintainers."
        case ChannelKind.WEBHOOK:
            good, remedy = bool(WEB_ADDRESS.fullmatch(rule.target)), "Give a URL such as https://example.org/ci."
        case ChannelKind.SLACK:
            good = bool(rule.credential) or bool(WEB_ADDRESS.fullmatch(rule.target))
            remedy = "Give the URL of an incoming webhook, or a credential that holds it."
        case ChannelKind.MATRIX:
            good, remedy = bool(_ROOM.fullmatch(rule.target)), "Give a room such as !AbCdEf:example.org."
        case ChannelKind.FORGE:
            good, remedy = False, "What a forge is told is no rule's to say: its statuses are posted by themselves."
        case _:
            assert_never(rule.channel)
    if not good:
        raise InputError(f"{rule.target!r} is no target for {rule.channel.value}.", remedy)
    return rule


def is_address(text: str) -> bool:
    """Say whether a text is one plain e-mail address (RFC 5321 4.1.2, `Dot-string@Domain`), safe in a header."""
    return len(text) <= 254 and bool(_ADDRESS.fullmatch(text)) and ".." not in text


def parcels(ended: Ended, rules: Iterable[Rule], url: str, *, project: int, now: float) -> list[Parcel]:
    """Return the messages that follow from a finished run; `url` is that of its page. Equal input, equal keys."""
    told = msgspec.structs.replace(ended, url=url)
    return [parcel for rule in rules if _listens(rule, told) for parcel in _of_rule(told, rule, project, now)]


def fires(when: When, ended: Ended, *, window: bool) -> bool:
    """Say whether a run is told. Through a `window` on some attributes only what happened to these counts."""
    match when:
        case When.ALWAYS:
            return True
        case When.FAILURE:
            return bool(ended.failing or ended.newly_failing) or (not window and _went_wrong(ended.verdict))
        case When.CHANGE:
            return bool(ended.newly_failing or ended.fixed) or (not window and _turned(ended))
        case _:
            assert_never(when)


def _went_wrong(verdict: Verdict) -> bool:
    """Say whether a run is not good. What somebody cancelled, or a newer push replaced, is neither."""
    return verdict not in {Verdict.GOOD, Verdict.CANCELLED}


def _turned(ended: Ended) -> bool:
    """Say whether the branch broke or was mended. Our own trouble and cancelled runs say nothing about it."""
    if ended.verdict in _WRONG:
        return ended.before not in _WRONG
    return ended.verdict is Verdict.GOOD and ended.before in _WRONG


def _listens(rule: Rule, ended: Ended) -> bool:
    if not rule.enabled or pull_request_of(ended.ref) is not None:
        return False  # a stranger's pull request must not send mail; its forge is told by statuses
    if not rule.branches:
        return bool(ended.jobset)
    return not ended.ref.startswith("refs/tags/") and matches(rule.branches, short(ended.ref))


def _of_rule(ended: Ended, rule: Rule, project: int, now: float) -> list[Parcel]:
    seen = ended
    if rule.attributes:
        seen = _narrowed(ended, {name for name in _names(ended) if matches(rule.attributes, name)})
    if rule.channel is ChannelKind.EMAIL and rule.target == MAINTAINERS:
        views = [(address, _narrowed(seen, names)) for address, names in _maintained(seen).items()]
    else:
        views = [(rule.target, seen)]
    window = bool(rule.attributes) or rule.target == MAINTAINERS
    return [_parcel(view, rule, to, project, now) for to, view in views if fires(rule.when, view, window=window)]


def _parcel(ended: Ended, rule: Rule, target: str, project: int, now: float) -> Parcel:
    return Parcel(
        key=f"{ended.run}:{rule.id}:{target}",
        project=project,
        run=ended.run,
        channel=rule.channel,
        target=target,
        credential=rule.credential,
        title=title(ended),
        text=text(ended, rule),
        body=msgspec.json.encode(ended).decode(),
        created_at=now,
    )


def _told(ended: Ended) -> tuple[Broken, ...]:
    return (*ended.newly_failing, *ended.failing, *ended.fixed)


def _names(ended: Ended) -> set[str]:
    return {broken.name for broken in _told(ended)}


def _narrowed(ended: Ended, names: set[str]) -> Ended:
    def those(all_of_them: tuple[Broken, ...]) -> tuple[Broken, ...]:
        return tuple(broken for broken in all_of_them if broken.name in names)

    return msgspec.structs.replace(
        ended, newly_failing=those(ended.newly_failing), failing=those(ended.failing), fixed=those(ended.fixed)
    )


def _maintained(ended: Ended) -> dict[str, set[str]]:
    """Return the attributes by the address of a maintainer; addresses that differ only in case are one."""
    found: dict[str, set[str]] = {}
    for broken in _told(ended):
        for address in map(str.lower, broken.maintainers):
            if is_address(address) and (address in found or len(found) < MAINTAINERS_MAX):
                found.setdefault(address, set()).add(broken.name)
    return found


def title(ended: Ended) -> str:
    """Return what happened as one line: shape, place, verdict."""
    look = LOOK[_STATUS[ended.verdict]]
    return truncate(_line(f"{look.glyph} {ended.project} {short(ended.ref)}: {_headline(ended)}"), TITLE_MAX)


def _headline(ended: Ended) -> str:
    news = [
        f"{counted(len(ended.newly_failing), 'attribute')} newly failing" if ended.newly_failing else "",
        f"{len(ended.fixed):,} fixed" if ended.fixed else "",
    ]
    if ended.verdict is Verdict.GOOD and ended.before in _WRONG:
        return "passed again"
    return ", ".join([ended.verdict.value, *filter(None, news)])


def text(ended: Ended, rule: Rule) -> str:
    """Return the message in plain words: verdict, place, link, what newly fails with causes, what was fixed."""
    known = {broken.name for broken in ended.newly_failing}
    still = [broken for broken in ended.failing if broken.name not in known]
    parts = [
        f"{LOOK[_STATUS[ended.verdict]].glyph} {_line(ended.sentence)}",
        "\n".join([*_place(ended), ended.url]),
        _section("Newly failing", ended.newly_failing, ended.counts.get("newly-failing", 0), rule),
        _section("Fixed", ended.fixed, ended.counts.get("fixed", 0), rule),
        _section("Still failing", still, 0, rule),
        f"-- \nThe rule {_line(rule.name)!r} of the project {_line(ended.project)} asks for this message.",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _place(ended: Ended) -> list[str]:
    commit = f"Commit {_line(ended.commit[:12])}" if ended.commit else ""
    about = f"{commit}: {_line(ended.subject)}" if ended.subject else commit
    by = f" (by {_line(ended.author)})" if ended.author else ""
    where = f"{ended.project}, {short(ended.ref)}" + (f", jobset {ended.jobset}" if ended.jobset else "")
    return [_line(where), *([about + by] if about else []), f"Run {ended.run}, {duration(ended.seconds)}"]


def _section(heading: str, brokens: Sequence[Broken], of_all: int, rule: Rule) -> str:
    """Return a list under a heading; `of_all` is how many there are where not all were handed to us."""
    if not brokens:
        return ""
    narrowed = bool(rule.attributes) or rule.target == MAINTAINERS
    count = len(brokens) if narrowed else max(len(brokens), of_all)
    lines = [f"  {_line(broken.name)}: {_why(broken)}" for broken in brokens[:LISTED_MAX]]
    more = [f"  and {count - len(lines):,} more"] if count > len(lines) else []
    return "\n".join([f"{heading} ({count:,}):", *lines, *more])


def _why(broken: Broken) -> str:
    return f"{_line(broken.status)}, {_line(broken.cause)}" if broken.cause else _line(broken.status)


def _line(words: str) -> str:
    # On a terminal a carriage return would hide what stands before it; here nothing is to be hidden.
    return sanitise(words.replace("\r", " "), colour=False, limit=NAME_MAX).strip()
