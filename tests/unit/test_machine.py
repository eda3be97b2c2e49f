"""Nix's machines file, and which machine may build what."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nixmill.core.machine import Machine, MachinesError, parse, refusal, show

LINUX = "x86_64-linux"
KVM = frozenset({"kvm"})


def only(text: str) -> Machine:
    (machine,) = parse(text, LINUX).machines
    return machine


def test_a_line_with_all_fields() -> None:
    line = (
        "ssh-ng://nix@mac x86_64-darwin,aarch64-darwin /etc/nix/key 8 1.5 big-parallel,kvm benchmark c3NoLWVkMjU1MTk="
    )
    assert only(line) == Machine(
        address="ssh-ng://nix@mac",
        systems=("x86_64-darwin", "aarch64-darwin"),
        ssh_key="/etc/nix/key",
        max_jobs=8,
        speed_factor=1.5,
        supported_features=frozenset({"big-parallel", "kvm"}),
        mandatory_features=frozenset({"benchmark"}),
        public_host_key="c3NoLWVkMjU1MTk=",
    )


@pytest.mark.parametrize("line", ["ssh://mac", "ssh://mac - - - - - - -", "  ssh://mac\t-  "])
def test_what_is_left_out_or_a_dash_has_nix_own_default(line: str) -> None:
    assert only(line) == Machine(address="ssh://mac", systems=(LINUX,), max_jobs=1, speed_factor=1.0)


def test_lines_and_semicolons_part_machines_and_comments_do_not_count() -> None:
    text = "ssh://a - - 2 ; ssh://b\n# ssh://c ; ssh://d\n\nssh://e # the fast one\n;\n"
    assert [machine.address for machine in parse(text, LINUX).machines] == ["ssh://a", "ssh://b", "ssh://e"]


def test_files_to_read_are_told_to_the_caller() -> None:
    listing = parse("@/etc/nix/machines\nssh://a; @ /other file", LINUX)
    assert listing.files == ("/etc/nix/machines", "/other file")
    assert len(listing.machines) == 1


@pytest.mark.parametrize(
    ("written", "address"),
    [
        ("builder", "ssh://builder"),
        ("me@builder", "ssh://me@builder"),
        ("local", "local"),
        ("daemon?root=x", "daemon?root=x"),
        ("auto", "auto"),
        ("autobahn", "ssh://autobahn"),
        ("/srv/store", "/srv/store"),
        ("unix:///run/x", "unix:///run/x"),
    ],
)
def test_a_bare_host_name_means_ssh(written: str, address: str) -> None:
    assert only(written).address == address


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("ssh://a - - many", r"^Line 1 .* most builds at once, is 'many'; it must be a whole number\.$"),
        ("\nssh://a - - -1", r"^Line 2 .* is '-1'"),
        ("ssh://a - - 1 fast", r"the speed factor, is 'fast'; it must be a number such as 1 or 1\.5\."),
        ("ssh://a - - 1 1 - - not*base64", r"public host key, is not base 64"),
        ("- - -", r"has no store address in its first field"),
        ("ssh://a - - 1 1 - - - more", r"has 9 fields, Nix knows 8"),
    ],
)
def test_an_error_names_the_line_the_field_and_what_is_expected(line: str, message: str) -> None:
    with pytest.raises(MachinesError, match=message):
        parse(line, LINUX)


words = st.text("abcdefghijklmnopqrstuvwxyz0123456789-_", min_size=1, max_size=8).filter(lambda word: word != "-")
machines = st.builds(
    Machine,
    address=words.map(lambda word: f"ssh-ng://{word}"),
    systems=st.lists(words, min_size=1, max_size=3, unique=True).map(tuple),
    max_jobs=st.integers(0, 999),
    speed_factor=st.integers(1, 10**6).map(lambda number: number / 1000),
    supported_features=st.frozensets(words, max_size=3),
    mandatory_features=st.frozensets(words, max_size=3),
    ssh_key=words.map(lambda word: f"/{word}") | st.just(""),
    public_host_key=st.just("") | st.just("c3NoLWVkMjU1MTk="),
)


@given(st.lists(machines))
def test_printing_is_the_inverse_of_parsing(some: list[Machine]) -> None:
    assert parse(show(some), LINUX).machines == tuple(some)


@given(st.text())
def test_garbage_raises_nothing_but_its_own_error(text: str) -> None:
    with contextlib.suppress(MachinesError):
        parse(text, LINUX)


def test_a_machine_needs_the_system_and_all_features() -> None:
    machine = Machine(address="a", systems=(LINUX,), supported_features=KVM)
    assert machine.fits(LINUX, frozenset())
    assert machine.fits(LINUX, KVM)
    assert machine.fits("builtin", frozenset())
    assert not machine.fits("aarch64-linux", frozenset())
    assert not machine.fits(LINUX, frozenset({"kvm", "big-parallel"}))


def test_a_machine_with_mandatory_features_takes_only_what_needs_all_of_them() -> None:
    machine = Machine(address="a", systems=(LINUX,), mandatory_features=KVM)
    assert machine.fits(LINUX, KVM)
    assert not machine.fits(LINUX, frozenset())


def test_a_machine_without_places_builds_nothing() -> None:
    assert not Machine(address="a", systems=(LINUX,), max_jobs=0).fits(LINUX, frozenset())


@pytest.mark.parametrize(
    ("machines", "system", "features", "reason"),
    [
        ([Machine(address="a", systems=(LINUX,))], LINUX, "", ""),
        ([Machine(address="a", systems=(LINUX,))], LINUX, "kvm", "needs kvm; no machine offers it"),
        ([Machine(address="a", systems=(LINUX,))], "riscv64-linux", "kvm", "needs riscv64-linux; no machine is one"),
        (
            [
                Machine(address="a", systems=(LINUX,), supported_features=KVM),
                Machine(address="b", systems=(LINUX,), supported_features=frozenset({"big"})),
            ],
            LINUX,
            "kvm big",
            "needs big and kvm; no machine offers all of them",
        ),
        (
            [Machine(address="ssh://a", systems=(LINUX,), mandatory_features=KVM)],
            LINUX,
            "",
            "a would fit, but takes only builds that need kvm",
        ),
        ([], LINUX, "", "no machine is set to build anything (max-jobs is 0 and there are no builders)"),
    ],
)
def test_a_refusal_says_what_no_machine_has(machines: list[Machine], system: str, features: str, reason: str) -> None:
    assert refusal(machines, system, frozenset(features.split())) == reason


def test_a_machine_is_named_without_scheme_and_parameters() -> None:
    assert Machine(address="ssh-ng://nix@builder-3?compress=true", systems=()).name == "nix@builder-3"
    assert Machine(address="local", systems=()).name == "local"
