"""The `/etc` and the environment of an evaluation sandbox: generated, with nothing of the machine's own in them.

The machine's nix.conf may hold access tokens, netrc files, plugins and includes; none of it gets in.
Source: nix.conf(5) of 2.8 and 2.34, git-config(1), nsswitch.conf(5).
"""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from nixmill.edge.sandbox.bwrap_command import HOME, NOBODY, SOCKETS
from nixmill.nix.store_path import DEFAULT_STORE_DIR

STORE_SOCKET: Final = "store.sock"
NETWORK_SOCKET: Final = "network.sock"
PROXY_PORT: Final = 3128
CERTIFICATES: Final = "ca-certificates.crt"
_LOADER_CACHE: Final = Path("/etc/ld.so.cache")
_NIX_CONF: Final = """\
experimental-features = nix-command flakes
accept-flake-config = false
allow-unsafe-native-code-during-evaluation = false
allow-import-from-derivation = false
substitute = false
substituters =
builders =
access-tokens =
netrc-file = /dev/null
plugin-files =
"""
_OFFLINE: Final = "flake-registry =\ndownload-attempts = 1\nconnect-timeout = 1\n"
"""Without a network nothing is worth waiting for."""
_ONLINE: Final = "download-attempts = 3\nconnect-timeout = 20\ntarball-ttl = 3600\n"
"""Said, because Nix sees no interface but the loopback and would go offline by itself (`src/nix/main.cc`)."""
_FILES: Final = {
    "passwd": f"nobody:x:{NOBODY}:{NOBODY}:nobody:{HOME}:/bin/false\n",
    "group": f"nogroup:x:{NOBODY}:\n",
    "nsswitch.conf": "passwd: files\ngroup: files\nhosts: files\n",
    "hosts": "127.0.0.1 localhost\n::1 localhost\n",
    # The repository belongs to another user, as far as the sandbox can tell.
    "gitconfig": '[safe]\n\tdirectory = *\n[protocol "ext"]\n\tallow = never\n[core]\n\thooksPath = /dev/null\n',
}


def write(place: Path, authorities: str, *, online: bool) -> None:
    """Make `place`, to be seen as `/etc`; `authorities` is a file of certificates, or empty."""
    files = _FILES | {"nix/nix.conf": _NIX_CONF + (_ONLINE if online else _OFFLINE)}
    for name, text in files.items():
        file = place / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    if authorities:
        shutil.copyfile(authorities, place / CERTIFICATES)
    if _LOADER_CACHE.exists():
        shutil.copyfile(_LOADER_CACHE, place / _LOADER_CACHE.name)
    for path in (place, *place.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)


def environment(path: str, store_dir: str, *, online: bool) -> Mapping[str, str]:
    """Return all that a program in the sandbox has of an environment."""
    proxy = f"http://127.0.0.1:{PROXY_PORT}"
    proxies = dict.fromkeys(("http_proxy", "https_proxy", "all_proxy"), proxy) if online else {}
    store = {} if store_dir == DEFAULT_STORE_DIR else {"NIX_STORE_DIR": store_dir}
    return {
        "PATH": path,
        "HOME": HOME,
        "USER": "nobody",
        "LANG": "C.UTF-8",
        "TMPDIR": "/tmp",  # noqa: S108 - of the sandbox
        # Nix's collector would look for it in `/proc/stat`, which is not there, and complain.
        "GC_NPROCS": str(os.cpu_count() or 1),
        "NIX_REMOTE": f"unix://{SOCKETS}/{STORE_SOCKET}",
        "NIX_CONF_DIR": "/etc/nix",
        "NIX_USER_CONF_FILES": "/dev/null",
        "NIX_STATE_DIR": f"{HOME}/state",
        "NIX_SSL_CERT_FILE": f"/etc/{CERTIFICATES}",
        "GIT_SSL_CAINFO": f"/etc/{CERTIFICATES}",
        "GIT_CONFIG_GLOBAL": "/etc/gitconfig",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_TERMINAL_PROMPT": "0",
        **store,
        **proxies,
    }
