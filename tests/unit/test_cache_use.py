"""How a cache is used: what people copy has to be right."""

from nixmill.core import cache_use

ADDRESS = "https://ci.example.org/cache/main"
KEYS = ("main-2:AAA=", "main-1:BBB=")


def test_lines_for_nix_conf() -> None:
    assert cache_use.nix_conf(ADDRESS, KEYS) == (
        "extra-substituters = https://ci.example.org/cache/main\nextra-trusted-public-keys = main-2:AAA= main-1:BBB=\n"
    )
    assert cache_use.nix_conf("", KEYS[:1]) == "extra-trusted-public-keys = main-2:AAA=\n"
    assert cache_use.nix_conf("", ()) == cache_use.nixos("", ()) == cache_use.flake("", ()) == ""


def test_settings_of_a_machine_and_of_a_flake() -> None:
    lines = (
        '  extra-substituters = [ "https://ci.example.org/cache/main" ];\n'
        '  extra-trusted-public-keys = [ "main-2:AAA=" "main-1:BBB=" ];\n};\n'
    )
    assert cache_use.nixos(ADDRESS, KEYS) == "nix.settings = {\n" + lines
    assert cache_use.flake(ADDRESS, KEYS) == "nixConfig = {\n" + lines


def test_what_would_end_a_string_of_nix_does_not() -> None:
    assert '"a\\"b\\${c}\\\\"' in cache_use.flake('a"b${c}\\', ())


def test_a_netrc_names_the_host_alone() -> None:
    assert cache_use.netrc("https://ci.example.org:8443/cache/x") == (
        "machine ci.example.org login nixmill password TOKEN\n"
    )
    assert cache_use.netrc("") == ""


def test_retention_is_a_sentence() -> None:
    assert cache_use.retention(0, 0, 0) == "It keeps everything."
    assert cache_use.retention(90, 5000, 1.5) == (
        "It keeps what is younger than 90 days and among the newest 5,000 paths and among the newest 1.5 GiB, "
        "and whatever pins and runs need."
    )
