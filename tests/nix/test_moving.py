"""The expression of docs/moving.md that prints a module's options: real Nix evaluates it, and the import reads it."""

import re
import subprocess
from pathlib import Path
from typing import Final

from nixmill.cli.importing import Asked, look

DOCUMENT: Final = Path(__file__).parents[2] / "docs" / "moving.md"
OPTIONS: Final = """{
  domain = "ci.example.org";
  enable = true;
  buildbotNixpkgs = throw "removed";
  github = {
    enable = true; appId = 7; authType = throw "removed"; topic = null; userAllowlist = [ "example" ];
    appSecretKeyFile = /run/secrets/key; webhookSecretFile = "/run/secrets/hook";
  };
  gitea = { enable = false; instanceUrl = throw "The option is used but not defined."; };
  niks3 = { enable = false; package = { outPath = throw "not built"; name = "niks3-1.0"; }; };
  postBuildSteps = [
    { name = "tell"; environment = { }; command = [ "/bin/tell" { _type = "interpolate"; value = "x"; } ]; }
  ];
}"""


def test_the_options_are_printed_without_what_cannot_be_and_without_copying_a_file(tmp_path: Path) -> None:
    expression = re.search(r"--apply '\n(.*?)\n' > old\.json", DOCUMENT.read_text(), re.DOTALL)
    assert expression
    (tmp_path / "options.nix").write_text(f"({expression[1]}) {OPTIONS}")
    command = ["nix-instantiate", "--store", "dummy://", "--eval", "--strict", "--json", str(tmp_path / "options.nix")]
    said = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
    (tmp_path / "old.json").write_text(said.stdout)
    imported = look(Asked(system="buildbot-nix", server=str(tmp_path / "old.json")))
    assert 'github-app-key = "/run/secrets/key"' in imported.server
    assert 'owners = ["example"]' in imported.server
    assert "postBuildSteps `tell`" in [note.what for note in imported.lost]
