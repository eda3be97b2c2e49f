"""How a run looks on a terminal, in a pipe and as data.

events → `state` (what is known) → `blocks`, `summary`, `region` (lines) → `live`, `plain`, `jsonl` (where lines go).
All but the last three are pure. Every text from outside passes `Paint.text` on its way into a line.
"""
