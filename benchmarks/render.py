"""Render docs/benchmarks.md from the cards. ``python -m benchmarks.render --check`` fails where the page is out of date."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from benchmarks.card import ROOT
from c2s.artefacts import read_json

PAGE = ROOT / "docs" / "benchmarks.md"
HEAD = """# What was measured, and on what

This page is rendered from `benchmarks/*/card.json` by `python -m benchmarks.render`; no number on it was typed by hand.
`make bench NAME=<name>` measures one benchmark again. A bar that is not met stays here with its reason.
"""


def render(root: Path = ROOT) -> str:
    """Return the page's text."""
    cards = sorted((root / "benchmarks").glob("*/card.json"))
    parts = [HEAD] + [_section(path.parent, read_json(path)) for path in cards]
    if not cards:
        parts.append("No card has been written yet.\n")
    return "\n".join(parts)


def _section(folder: Path, card: dict[str, Any]) -> str:
    title, about = _about(folder)
    rows = [
        "| figure | value | interval | n | seeds | bar | met |",
        "|---|---|---|---|---|---|---|",
    ]
    for figure in card["figures"]:
        low, high = figure["low"], figure["high"]
        interval = "" if low is None and high is None else f"{_number(low)} to {_number(high)}"
        met = {True: "yes", False: "**no**", None: ""}[figure["met"]]
        seeds = ", ".join(map(str, figure["seeds"] or []))
        cells = [
            figure["name"], _number(figure["value"]), interval, _number(figure["n"]), seeds, figure["bar"] or "", met
        ]  # fmt: skip
        rows.append("| " + " | ".join(str(cell).replace("|", r"\|") for cell in cells) + " |")
    lines = [f"## {title}", "", about, "", *rows, ""]
    reasons = [f"- *{figure['name']}*: {figure['reason']}" for figure in card["figures"] if figure["reason"]]
    if reasons:
        lines += ["Reasons:", "", *reasons, ""]
    lines += [f"- {note}" for note in card["notes"]]
    data = "; ".join(f"{key}: {_plain(value)}" for key, value in card["data"].items())
    used = ", ".join(f"{name} {version}" for name, version in card["versions"].items())
    box = card["machine"]
    where = f"{box['processor']}, {box['cores']} cores, {box['memory_gib']} GiB"
    where += f", {box['accelerator']}" if box.get("accelerator") else ""
    lines += [
        f"- Data: {data}.",
        f"- Measured in {_number(card['seconds'])} s on {where}; commit {card['commit'] or 'unknown'}; {used}.",
        "",
    ]
    return "\n".join(lines)


def _about(folder: Path) -> tuple[str, str]:
    """Return the title (folder's name) and the first line of the benchmark's own docstring."""
    import ast

    run = folder / "run.py"
    text = ast.get_docstring(ast.parse(run.read_text(encoding="utf-8"))) if run.exists() else None
    return folder.name.replace("_", " "), (text or "").partition("\n")[0]


def _number(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool | str):
        return str(value)
    if isinstance(value, int) or float(value).is_integer():
        return f"{int(value):,}"
    return f"{value:,.1f}" if abs(value) >= 100 else f"{value:.3g}"


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_plain(item)}" for key, item in value.items())
    if isinstance(value, list):
        return ", ".join(map(_plain, value))
    return _number(value)


def main() -> None:
    """Write the page, or with ``--check`` compare it with what the cards say."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 where the page is out of date")
    text = render()
    if not parser.parse_args().check:
        PAGE.write_text(text, encoding="utf-8")
    elif not PAGE.exists() or PAGE.read_text(encoding="utf-8") != text:
        sys.exit("docs/benchmarks.md is out of date: run `python -m benchmarks.render` and commit it")


if __name__ == "__main__":
    main()
