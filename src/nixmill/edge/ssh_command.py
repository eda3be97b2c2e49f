"""The command line of ssh for connections of the server: it asks nothing, forwards nothing and uses no key but ours.

No configuration of ssh is read. Source: ssh(1), ssh_config(5).
"""

from pathlib import Path


def ssh_command(*, key: Path | None, known_hosts: Path | None, connect_s: int = 20) -> list[str]:
    """Return the program and its options; what is to be reached follows them.

    `known_hosts` is where keys of hosts are kept, taken at first sight; None: those that ssh knows, and no others.
    """
    options = {
        "BatchMode": "yes",
        "StrictHostKeyChecking": "accept-new" if known_hosts else "yes",
        "UpdateHostKeys": "no",
        "HashKnownHosts": "no",
        "IdentityAgent": "none",
        "IdentitiesOnly": "yes",
        "IdentityFile": _quoted(key) if key else "none",
        "PreferredAuthentications": "publickey",
        "ConnectTimeout": str(connect_s),
        "ServerAliveInterval": "15",
        "ServerAliveCountMax": "4",
        "ForwardAgent": "no",
        "ClearAllForwardings": "yes",
        "ControlMaster": "no",
        "ControlPath": "none",
        "PermitLocalCommand": "no",
        "LogLevel": "ERROR",
    }
    if known_hosts:
        options |= {"UserKnownHostsFile": _quoted(known_hosts), "GlobalKnownHostsFile": "/dev/null"}
    return ["ssh", "-F", "/dev/null", "-T", *(f"-o{name}={value}" for name, value in options.items())]


def _quoted(path: Path) -> str:
    """Write a path for ssh_config(5), which splits at blanks and expands `%`."""
    return '"' + str(path).replace("%", "%%") + '"'
