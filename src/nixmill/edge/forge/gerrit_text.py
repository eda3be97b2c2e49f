"""Our Markdown as plain text, for Gerrit's messages: older versions show Markdown as it is written.

Reads only what `nixmill.core.forge_summary` writes, with names in it that were made harmless; what it does not know it
leaves as it is.
"""

import re
from html import unescape
from typing import Final

BYTES_MAX: Final = 12_000
"""Of a message in UTF-8. Gerrit refuses comments of more than 16 KiB unless it is told otherwise
(`change.commentSizeLimit`)."""
LINE_MAX: Final = 6000
"""Characters of a line; the longest of ours names twenty attributes."""
_FENCE: Final = re.compile(r"\A(`{3,}|~{3,})\S*\s*\Z")
_RULE: Final = re.compile(r"\A\|(?:\s*:?-+:?\s*\|)+\s*\Z")
_MARKUP: Final = re.compile(
    r"(?P<span>(?P<ticks>`+)(?!`).{1,999}?(?<!`)(?P=ticks)(?!`))"
    r"|(?P<outer>\()?\[(?P<label>(?:\\.|[^\[\]\\]){0,999})\]\(<?(?P<target>[^()<>\s]{1,2000})>?\)(?(outer)\))"
    r"|\\[!-/:-@\[-`{-~]|&(?:#[0-9]{1,7}|[a-z]{2,6});"
)
_ESCAPED: Final = re.compile(r"\\[!-/:-@\[-`{-~]|&(?:#[0-9]{1,7}|[a-z]{2,6});")
_HEADING: Final = re.compile(r"\A#{1,6} +")
_TAG: Final = re.compile(r"</?(?:details|summary|b|br|sub)/?>")


def plain(markdown: str, limit: int = BYTES_MAX) -> str:
    """Return the text, at most `limit` bytes."""
    lines: list[str] = []
    fence = ""
    for line in (whole[:LINE_MAX] for whole in markdown[: 4 * limit].split("\n")):
        found = _FENCE.match(line)
        if found and (not fence or found[1] == fence):
            fence = "" if fence else found[1]
        elif fence:
            lines.append(f"    {line}")
        elif not _RULE.match(line):
            lines.append(_line(line))
    return _cut(re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip("\n"), limit)


def _line(line: str) -> str:
    line = _TAG.sub("", line).replace("**", "")
    if (heading := _HEADING.match(line)) is not None:
        line = f"{line[heading.end() :]}:"
    if line.startswith("|") and line.rstrip().endswith("|"):
        line = "* " + line.strip()[1:-1].strip().replace("\\|", "|")
    return _MARKUP.sub(_shown, line).rstrip()


def _shown(found: re.Match[str]) -> str:
    """Return a piece of a line as it is read. Code spans stay as they are: what they look like is understood."""
    if found["span"]:
        return found[0]
    if found["label"] is not None:
        label = _ESCAPED.sub(_character, found["label"])
        return f"({label}: {found['target']})" if found["outer"] else f"{label} ({found['target']})"
    return _character(found)


def _character(found: re.Match[str]) -> str:
    return unescape(found[0]) if found[0].startswith("&") else found[0][1:]


def _cut(text: str, limit: int) -> str:
    data = text.encode(errors="replace")
    if len(data) <= limit:
        return data.decode()
    mark = "\n[cut; the page has all of it]"
    kept = data[: limit - len(mark)].decode(errors="ignore")
    return kept.rpartition("\n")[0] + mark
