"""Writes the page of the command line from the commands themselves, so that it cannot fall behind them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from c2s.cli import main


def write_commands(path: Path) -> None:
    """Write one section per verb: what it does, its arguments and its options with their defaults."""
    lines = ["# Command line", "", "Written from `c2s --help`. Options of every verb, with their defaults.", ""]
    for verb in main.verbs():
        command = main.load(verb)
        for name, each in {f"c2s {verb}": command, **_below(verb, command)}.items():
            if not getattr(each, "commands", None):
                lines += [f"## {name}", "", (each.help or "").strip().replace("**", "*"), "", *_table(each), ""]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines), encoding="utf-8")


def _below(verb: str, command: Any) -> dict[str, Any]:
    """Return the sub-verbs; ``run`` of the screen is what the verb does by itself."""
    found = getattr(command, "commands", {})
    alone = ("screen", "run")
    return {f"c2s {verb}" if (verb, name) == alone else f"c2s {verb} {name}": each for name, each in found.items()}


def _table(command: Any) -> list[str]:
    rows = ["| | default | |", "|---|---|---|"]
    for parameter in command.params:
        if parameter.name == "help":
            continue
        name = (
            f"`{parameter.opts[0]}`"
            if parameter.opts[0].startswith("-")
            else f"`{parameter.metavar or parameter.name}`"
        )
        text = getattr(parameter, "help", "") or ""
        said = re.search(r"\s*\[default: (.+?)\]$", text)
        default = said[1] if said else _default(parameter)
        text = text[: said.start()] if said else text
        rows.append(f"| {name} | {default} | {_escaped(text)} |")
    return rows


def _default(parameter: Any) -> str:
    value = parameter.default
    if parameter.required:
        return "*needed*"
    if value is None or callable(value) or isinstance(value, bool) or (isinstance(value, list | tuple) and not value):
        return ""
    return f"`{getattr(value, 'value', value)}`"


def _escaped(text: str) -> str:
    text = re.sub(r"(?<![`\w-])--[a-z][a-z-]*", r"`\g<0>`", text)  # else typography joins the two dashes
    return text.replace("|", "\\|").replace("<", "&lt;")
