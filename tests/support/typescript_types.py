"""Types that a project publishes in TypeScript, to check that what we send, and what our servers answer, is of them."""

import re
from pathlib import Path

_INTERFACE = re.compile(r"^interface (\w+) \{\n(.*?)^\}", re.DOTALL | re.MULTILINE)
_FIELD = re.compile(r"^\s+(\w+)(\??): (.+);$", re.MULTILINE)
_PLAIN: dict[str, type | tuple[type, ...]] = {"string": str, "number": (int, float), "boolean": bool}


class TypeScriptTypes:
    """Knows interfaces with plain fields; a type that it does not know takes anything."""

    def __init__(self, file: Path) -> None:
        text = file.read_text()
        self._interfaces = {
            found[1]: {field[1]: (field[2] == "?", field[3]) for field in _FIELD.finditer(found[2])}
            for found in _INTERFACE.finditer(text)
        }

    def faults(self, kind: str, value: object, where: str = "") -> list[str]:
        """Return what is wrong with a value; null stands for anything that is not there."""
        if kind.endswith("[]"):
            if not isinstance(value, list):
                return [f"{where}: no list"]
            return [fault for n, one in enumerate(value) for fault in self.faults(kind[:-2], one, f"{where}[{n}]")]
        if kind in _PLAIN:
            right = isinstance(value, _PLAIN[kind]) and (kind == "boolean" or not isinstance(value, bool))
            return [] if right else [f"{where}: no {kind}"]
        if "'" in kind:
            return [] if f"'{value}'" in kind.split(" | ") else [f"{where}: none of {kind}"]
        if kind.startswith("Record<string, string>"):
            texts = isinstance(value, dict) and all(isinstance(one, str) for one in value.values())
            return [] if texts else [f"{where}: not of texts"]
        return self._interface_faults(kind, value, where or kind) if kind in self._interfaces else []

    def _interface_faults(self, kind: str, value: object, where: str) -> list[str]:
        if not isinstance(value, dict):
            return [f"{where}: no object"]
        fields = self._interfaces[kind]
        found = [f"{where}: unknown field {name}" for name in value.keys() - fields.keys()]
        for name, (optional, of) in fields.items():
            if value.get(name) is not None:
                found += self.faults(of, value[name], f"{where}.{name}")
            elif not optional:
                found.append(f"{where}: {name} is missing")
        return found
