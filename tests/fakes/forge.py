"""A forge in memory: edge and forge in one, with verbs for tests (those of `tests.contract.forge_world.ForgeWorld`).

`postings` holds every status that was posted, in order; `replies` every answer. More repositories are made with
`add_repository`; verbs about pull requests take `path` where it is not the first one.
"""

import hashlib
import hmac
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from nixmill.core.forge import (
    Comment,
    Event,
    ForgeryError,
    ForgeUser,
    Hint,
    HintKind,
    MalformedEventError,
    Repository,
)
from nixmill.core.posting import CheckState, Posting, Reply
from nixmill.core.pull_request import PullRequest, PullState
from nixmill.core.trust import Permission
from nixmill.doors import DoorError
from nixmill.doors.server import RetryLaterError
from tests.contract.forge_world import (
    MERGE_COMMIT,
    MERGE_REF,
    Colour,
    Feature,
    Happening,
    Shown,
    Spec,
    Trouble,
    Where,
)

SECRETS = ("new", "old")
_COLOURS = {
    CheckState.GOOD: Colour.GREEN,
    CheckState.WAITING: Colour.PENDING,
    CheckState.RUNNING: Colour.PENDING,
    CheckState.HELD: Colour.PENDING,
}


class _Body(msgspec.Struct):
    delivery: str
    hints: tuple[Hint, ...]


@dataclass
class FakeRepository:
    """A repository with what belongs to it."""

    facts: Repository
    pulls: dict[int, PullRequest] = field(default_factory=dict)
    comments: dict[tuple[int, str], Comment] = field(default_factory=dict)
    permissions: dict[str, Permission] = field(default_factory=dict)
    """By the id of the user."""
    protected: set[str] = field(default_factory=lambda: {"main"})
    gone: set[str] = field(default_factory=set)
    """Commits of which the forge takes no status."""


class FakeForge:
    """A forge whose truth a test writes; `now` is its clock."""

    features = frozenset(Feature) - {Feature.HOOKS}

    def __init__(self, path: str = "octo/hello", *, name: str = "forge", clone_url: str = "") -> None:
        self.name = name
        self.path = path
        self.now = 1_700_000_000.0
        self.stands = Trouble.NONE
        self.users: dict[str, ForgeUser] = {}
        self.repos: dict[str, FakeRepository] = {}
        self.postings: list[Posting] = []
        self.replies: list[tuple[str, Reply]] = []
        self.asked: list[tuple[str, tuple[object, ...]]] = []
        self._statuses: dict[tuple[str, str, str], tuple[str, Posting]] = {}
        self._reactions: set[tuple[str, int, str]] = set()
        self._count = 100
        self.add_repository(path, clone_url=clone_url, private=True)

    @property
    def forge(self) -> "FakeForge":
        return self

    # What tests do.

    def add_repository(
        self, path: str, *, clone_url: str = "", private: bool = False, topics: tuple[str, ...] = ()
    ) -> Repository:
        facts = Repository(
            id=str(self._next()),
            path=path,
            owner=path.split("/", maxsplit=1)[0],
            clone_url=clone_url or f"https://forge.example/{path}.git",
            default_branch="main",
            private=private,
            topics=topics,
        )
        self.repos[path] = FakeRepository(facts)
        return facts

    def user(self, login: str, permission: Permission = Permission.NONE) -> ForgeUser:
        person = self.users.setdefault(login, ForgeUser(id=str(1000 + len(self.users)), login=login))
        for repo in self.repos.values():
            repo.permissions[person.id] = permission
        return person

    def open(self, spec: Spec, *, path: str = "", head: str = "") -> int:
        repo = self.repos[path or self.path]
        number = max(repo.pulls, default=0) + 1
        owner = {Where.OWN_FORK: spec.author.id, Where.SAME: "", Where.OTHER_FORK: "", Where.DELETED: ""}[spec.where]
        home = {Where.SAME: repo.facts.id, Where.OWN_FORK: f"fork-{owner}", Where.OTHER_FORK: "fork-7"}
        repo.pulls[number] = PullRequest(
            number=number,
            title=spec.title,
            author=spec.author,
            url=f"https://forge.example/{repo.facts.path}/pull/{number}",
            draft=spec.draft,
            labels=spec.labels,
            head_ref=spec.head_ref,
            head_commit=head or self._commit(),
            head_repository=home.get(spec.where, ""),
            head_owner=owner,
            fetch_ref=f"refs/pull/{number}/head",
            base_ref="refs/heads/main",
            updated_at=self._tick(),
        )
        return number

    def change(self, number: int, *, path: str = "", **changes: object) -> None:
        """Change what is true of a pull request."""
        pulls = self.repos[path or self.path].pulls
        pulls[number] = msgspec.structs.replace(pulls[number], **changes, updated_at=self._tick())

    def push(self, number: int, head: str = "", *, path: str = "") -> str:
        commit = head or self._commit()
        self.change(number, path=path, head_commit=commit)
        return commit

    def head(self, number: int) -> str:
        return self.repos[self.path].pulls[number].head_commit

    def close(self, number: int, *, merged: bool = False) -> None:
        self.change(number, state=PullState.MERGED if merged else PullState.CLOSED)

    def write_comment(self, number: int, author: ForgeUser, text: str, *, path: str = "") -> str:
        comment = Comment(id=str(self._next()), author=author, text=text, at=self._tick())
        self.repos[path or self.path].comments[number, comment.id] = comment
        return comment.id

    def edit_comment(self, number: int, comment: str, text: str) -> None:
        comments = self.repos[self.path].comments
        comments[number, comment] = msgspec.structs.replace(comments[number, comment], text=text, edited=True)

    def forget_status(self, commit: str, context: str) -> None:
        del self._statuses[self.path, commit, context]

    def trouble(self, trouble: Trouble) -> None:
        self.stands = trouble

    # What tests look at.

    def shown(self, commit: str) -> list[Shown]:
        return [
            Shown(context, _COLOURS.get(posting.state, Colour.RED), posting.title, posting.url, named)
            for (_, of, context), (named, posting) in self._statuses.items()
            if of == commit
        ]

    def said(self, number: int) -> list[str]:
        return [reply.text for _, reply in self.replies if reply.pull_request == number and reply.text]

    def reactions(self, number: int, comment: str) -> int:
        return len({one for one in self._reactions if one[1:] == (number, comment)})

    # Deliveries.

    def deliver(self, happening: Happening, *, number: int = 0, comment: str = "") -> tuple[dict[str, str], bytes]:
        match happening:
            case Happening.PUSH:
                hint = self.hint(HintKind.PUSH, ref="refs/heads/main", commit=self._commit())
            case Happening.DELETED_BRANCH:
                hint = self.hint(HintKind.PUSH, ref="refs/heads/old")
            case Happening.PULL_REQUEST:
                hint = self.hint(HintKind.PULL_REQUEST, pull_request=number)
            case Happening.COMMENT:
                hint = self.hint(HintKind.COMMENT, pull_request=number, comment=comment)
            case Happening.RERUN:
                run = next(posting.run for posting in self.postings if posting.commit == self.head(number))
                hint = self.hint(HintKind.RERUN, commit=self.head(number), run=run, actor=self.user("ann"))
            case Happening.MERGE_QUEUE:
                hint = self.hint(HintKind.MERGE_QUEUE, commit=MERGE_COMMIT, ref=MERGE_REF, base_ref="refs/heads/main")
            case Happening.PING:
                hint = Hint(kind=HintKind.NOTHING)
        return self.delivery(hint)

    def hint(self, kind: HintKind, *, path: str = "", **parts: object) -> Hint:
        """Return a hint about a repository."""
        facts = self.repos[path or self.path].facts
        return msgspec.structs.replace(Hint(kind=kind, repository=facts.path, repository_id=facts.id), **parts)

    def delivery(self, *hints: Hint) -> tuple[dict[str, str], bytes]:
        """Return headers and body of a delivery with any hints."""
        body = msgspec.json.encode(_Body(delivery=f"delivery-{self._next()}", hints=hints))
        return dict(self.sign(body)), body

    def sign(self, body: bytes, secret: str = "new") -> Mapping[str, str]:  # noqa: S107 - opens nothing
        return {"content-type": "application/json", "x-fake-signature": _signature(secret, body)}

    # The doors.

    async def repositories(self) -> Sequence[Repository]:
        self._ask("repositories")
        return [repo.facts for repo in self.repos.values()]

    async def repository(self, path: str) -> Repository | None:
        self._ask("repository", path)
        repo = self.repos.get(path)
        return repo.facts if repo is not None else None

    async def pull_requests(self, path: str) -> Sequence[PullRequest]:
        self._ask("pull_requests", path)
        pulls = self.repos[path].pulls if path in self.repos else {}
        found = [self._as_told(path, pull) for pull in pulls.values() if pull.state is PullState.OPEN]
        return sorted(found, key=lambda pull: -pull.number)[:1000]

    async def pull_request(self, path: str, number: int) -> PullRequest | None:
        self._ask("pull_request", path, number)
        pull = self.repos[path].pulls.get(number) if path in self.repos else None
        return self._as_told(path, pull) if pull is not None else None

    async def comment(self, path: str, number: int, comment: str) -> Comment | None:
        self._ask("comment", path, number, comment)
        return self.repos[path].comments.get((number, comment)) if path in self.repos else None

    async def permission(self, path: str, user: ForgeUser) -> Permission:
        self._ask("permission", path, user)
        return self._permission(path, user) if user in self.users.values() else Permission.NONE

    async def post(self, posting: Posting) -> str:
        self._ask("post", posting)
        if self.stands is Trouble.NOT_ALLOWED:
            raise _refusal("403: we lack the permission 'Checks: write'", retryable=False)
        repo = self.repos.get(posting.repository)
        if repo is None or posting.commit in repo.gone or not self._has(repo, posting):
            raise _refusal(f"there is no commit {posting.commit}", retryable=False)
        key = (posting.repository, posting.commit, posting.context)
        named = self._statuses[key][0] if key in self._statuses else str(self._next())
        self._statuses[key] = (named, posting)
        self.postings.append(posting)
        return named

    async def reply(self, reply: Reply, key: str) -> None:
        self._ask("reply", reply, key)
        if reply.comment:
            self._reactions.add((reply.repository, reply.pull_request, reply.comment))
        if (key, reply) not in self.replies:
            self.replies.append((key, reply))

    def event(self, headers: Mapping[str, str], body: bytes) -> Event:
        given = headers.get("x-fake-signature", "").encode(errors="replace")
        if not any(hmac.compare_digest(_signature(secret, body).encode(), given) for secret in SECRETS):
            raise ForgeryError("The signature of this delivery is missing or wrong.")
        try:
            read = msgspec.json.decode(body, type=_Body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise MalformedEventError(f"This delivery makes no sense: {str(error)[:200]}.") from None
        return Event(delivery=read.delivery, hints=read.hints)

    async def ensure_hook(self, repository: Repository, url: str) -> str:
        self._ask("ensure_hook", repository, url)
        return ""

    async def git_credential(self, path: str) -> str:
        self._ask("git_credential", path)
        return "x-access-token:fake"

    async def protects(self, path: str, branch: str) -> bool:
        self._ask("protects", path, branch)
        return path in self.repos and branch in self.repos[path].protected

    def events(self) -> AsyncIterator[Hint] | None:
        return None

    async def aclose(self) -> None:
        """Nothing is held."""

    # Within.

    def _ask(self, what: str, *arguments: object) -> None:
        match self.stands:
            case Trouble.LIMITED:
                raise RetryLaterError("The forge wants 30 s.", door="forge", action=what, after_s=30.0)
            case Trouble.OUTAGE | Trouble.NONSENSE:
                raise _refusal("the fault is its own (502)", retryable=True)
            case Trouble.REVOKED:
                raise _refusal("401: it does not know our credential", retryable=False)
            case Trouble.NONE | Trouble.NOT_ALLOWED:
                self.asked.append((what, arguments))

    def _permission(self, path: str, user: ForgeUser) -> Permission:
        return self.repos[path].permissions.get(user.id, Permission.NONE) if path in self.repos else Permission.NONE

    def _as_told(self, path: str, pull: PullRequest) -> PullRequest:
        title = pull.title[:300]
        return msgspec.structs.replace(pull, title=title, author_permission=self._permission(path, pull.author))

    def _has(self, repo: FakeRepository, posting: Posting) -> bool:
        return posting.pull_request is None or posting.pull_request in repo.pulls

    def _next(self) -> int:
        self._count += 1
        return self._count

    def _tick(self) -> float:
        self.now += 1.0
        return self.now

    def _commit(self) -> str:
        return hashlib.sha1(f"{self.name} {self._next()}".encode()).hexdigest()  # noqa: S324 - as git does


def _signature(secret: str, body: bytes) -> str:
    return hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


def _refusal(why: str, *, retryable: bool) -> DoorError:
    return DoorError(f"The forge answered: {why}.", door="forge", action="ask", retryable=retryable)
