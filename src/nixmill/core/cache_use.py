"""How a binary cache is used: lines for `nix.conf`, NixOS, a flake and `netrc`, ready to be copied; and how long. Pure.

Source: Nix manual, `nix.conf`: `extra-substituters`, `extra-trusted-public-keys`, `netrc-file`.
"""

from collections.abc import Sequence
from urllib.parse import urlsplit

from nixmill.nix.attr_path import quote


def nix_conf(address: str, keys: Sequence[str]) -> str:
    """Return lines for `nix.conf`; without those that there is nothing for."""
    lines = [f"extra-substituters = {address}"] if address else []
    lines += [f"extra-trusted-public-keys = {' '.join(keys)}"] if keys else []
    return "".join(f"{line}\n" for line in lines)


def nixos(address: str, keys: Sequence[str]) -> str:
    """Return settings of a NixOS machine."""
    return _settings("nix.settings", address, keys)


def flake(address: str, keys: Sequence[str]) -> str:
    """Return what a `flake.nix` says; who uses it is asked whether they trust it."""
    return _settings("nixConfig", address, keys)


def netrc(address: str) -> str:
    """Return the line of a `netrc` file for a cache that needs a token."""
    host = urlsplit(address).hostname or ""
    return f"machine {host} login nixmill password TOKEN\n" if host else ""


def retention(days: float, paths: int, gib: float) -> str:
    """Say in a sentence how long a cache that we collect keeps what is in it; a limit of 0 is none."""
    limits = [f"younger than {days:g} days"] if days else []
    limits += [f"among the newest {paths:,} paths"] if paths else []
    limits += [f"among the newest {gib:g} GiB"] if gib else []
    if not limits:
        return "It keeps everything."
    return f"It keeps what is {' and '.join(limits)}, and whatever pins and runs need."


def _settings(name: str, address: str, keys: Sequence[str]) -> str:
    lines = [f"  extra-substituters = {_list([address])};"] if address else []
    lines += [f"  extra-trusted-public-keys = {_list(keys)};"] if keys else []
    return "\n".join([f"{name} = {{", *lines, "};\n"]) if lines else ""


def _list(texts: Sequence[str]) -> str:
    return f"[ {' '.join(map(quote, texts))} ]"
