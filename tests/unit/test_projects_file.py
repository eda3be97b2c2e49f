import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nixmill.config.projects_file import Declared, DeclaredProject, parse, render
from nixmill.core.access import PROJECT_ROLES, Role, Visibility
from nixmill.core.change import BuildClass
from nixmill.core.errors import InputError
from nixmill.core.message import RULE_CHANNELS, ChannelKind, Rule, When
from nixmill.core.project import Jobset, Project

TEXT = """
[[project]]
name = "mill"
url = "https://example.org/mill.git"
visibility = "private"
poll-s = 300

[[project.jobset]]
name = "nightly"
branches = ["main", "release-*"]
schedule = "30 2 * * *"
time-zone = "Europe/Berlin"
build-class = "bulk"

[[project.rule]]
name = "mail"
channel = "email"
target = "team@example.org"
when = "always"

[project.members]
alice = "owner"
"b.c@d" = "viewer"
"""


def test_a_file_is_read() -> None:
    (one,) = parse(TEXT).projects
    assert (one.project.visibility, one.project.poll_s) == (Visibility.PRIVATE, 300)
    assert (one.jobsets[0].branches, one.jobsets[0].build_class) == (("main", "release-*"), BuildClass.BULK)
    assert (one.rules[0].channel, one.rules[0].when) == (ChannelKind.EMAIL, When.ALWAYS)
    assert one.members == (("alice", Role.OWNER), ("b.c@d", Role.VIEWER))


def test_all_mistakes_are_told_at_once() -> None:
    wrong = (
        TEXT.replace("poll-s", "pol-s").replace('"owner"', '"king"').replace("30 2", "99 2").replace("email", "pigeon")
    )
    wrong += '[[project]]\nname = "mill"\nurl = "nowhere"\nid = 3\n[[project]]\nname = "new"\nurl = "https://x.org/y"\n'
    with pytest.raises(InputError) as caught:
        parse(wrong, "p.toml")
    said = str(caught.value)
    for part in (
        "p.toml has 6 mistakes",
        "project 'mill' pol-s: is no setting. Did you mean `poll-s`?",
        "project 'mill' members alice: 'king' is no role. Use one of: viewer, member, owner.",
        "project 'mill' rule 'mail' channel: 'pigeon' should be 'email', 'webhook', 'slack' or 'matrix'",
        "project 'mill' id: is no setting",
        "[[project]]: 'mill' is there twice",
        "'new' cannot be the name of a project",
    ):
        assert part in said, said


def test_nonsense_is_told() -> None:
    wrong = TEXT.replace("30 2", "99 2").replace("example.org/mill", "u:p@example.org/mill")
    wrong += (
        '[[project]]\nname = "mill"\nurl = "https://x.org/y"\n[[project.jobset]]\nname="a"\ntime-zone="Mars/Base"\n'
    )
    with pytest.raises(InputError) as caught:
        parse(wrong)
    said = str(caught.value)
    assert "has 4 mistakes" in said
    assert all(part in said for part in ("is no schedule", "A password may not stand", "no time zone", "there twice"))


def test_brackets_that_are_missing_are_told() -> None:
    with pytest.raises(InputError, match="with two brackets"):
        parse('[project]\nname = "a"\n')
    with pytest.raises(InputError, match="Write \\[\\[project\\]\\]"):
        parse('[[projects]]\nname = "a"\n')


NAMES = st.from_regex(r"[A-Za-z][A-Za-z0-9_.-]{0,9}", fullmatch=True).filter(
    lambda name: name.lower() not in {"new", "import", "export"}
)
WORDS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
MANY = st.lists(WORDS, max_size=3).map(tuple)
JOBSETS = st.builds(
    Jobset,
    id=st.just(0),
    project=st.just(0),
    name=NAMES,
    branches=MANY,
    tags=MANY,
    schedule=st.sampled_from(["", "30 2 * * *", "*/5 * * * mon"]),
    time_zone=st.sampled_from(["UTC", "Europe/Berlin"]),
    targets=MANY,
    systems=MANY,
)
CHANNELS = st.sampled_from(RULE_CHANNELS)
RULES = st.builds(Rule, id=st.just(0), project=st.just(0), name=NAMES, channel=CHANNELS, target=WORDS, credential=WORDS)
PROJECTS = st.builds(
    Project,
    id=st.just(0),
    name=NAMES,
    title=WORDS,
    url=NAMES.map("https://example.org/{}".format),
    credential=WORDS,
    default_branch=WORDS,
    poll_s=st.integers(0, 1000),
    weight=st.integers(1, 100),
    declared=st.sampled_from([False]),
    created_at=st.just(0.0),
)
MEMBERS = st.dictionaries(
    st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.@+-]{0,9}", fullmatch=True), st.sampled_from(PROJECT_ROLES)
)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.builds(
            DeclaredProject,
            project=PROJECTS,
            jobsets=st.lists(JOBSETS, max_size=2, unique_by=lambda jobset: jobset.name).map(tuple),
            rules=st.lists(RULES, max_size=2, unique_by=lambda rule: rule.name).map(tuple),
            members=MEMBERS.map(lambda members: tuple(members.items())),
        ),
        max_size=3,
        unique_by=lambda one: one.project.name,
    ).map(lambda projects: Declared(projects=tuple(projects)))
)
def test_what_is_written_is_read_as_it_was(declared: Declared) -> None:
    assert parse(render(declared)) == declared
