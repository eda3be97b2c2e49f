"""Secrets of another system: paths of their files → `[credentials]`. The files themselves are never read."""

import posixpath

from nixmill.core.importing.findings import Findings

STORE = "/nix/store/"


class Credentials:
    """Names files once and for all; the same file keeps its name."""

    def __init__(self, findings: Findings) -> None:
        """Tell `findings` what people have to do about them."""
        self._findings = findings
        self.files: dict[str, str] = {}
        """Path by name: the table `[credentials]`."""
        self._names: dict[str, str] = {}

    def name(self, path: str, wanted: str) -> str:
        """Return the name under which a secret is found; `wanted` where it can be had.

        A path that does not begin with `/` is the name of a systemd credential: nixmill finds those by themselves.
        """
        if path in self._names:
            return self._names[path]
        name = self._free(wanted) if posixpath.isabs(path) else path
        self._names[path] = name
        if not posixpath.isabs(path):
            self._findings.to_do(
                f"Give nixmill's unit the credential {name}: the line LoadCredential={name}:… that the old unit has."
            )
            return name
        self.files[name] = path
        if path.startswith(STORE):
            self._findings.to_do(
                f"Put the secret {name} elsewhere: {path} is in the Nix store, where everybody can read it, so nixmill"
                " refuses it."
            )
        return name

    def _free(self, wanted: str) -> str:
        name, number = wanted, 2
        while name in self.files:
            name, number = f"{wanted}-{number}", number + 1
        return name
