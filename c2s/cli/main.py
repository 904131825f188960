"""The ``c2s`` command: one verb a file, imported only when it is called, so that ``c2s --help`` is quick."""

from __future__ import annotations

import ast
import errno
import importlib
import logging
import re
import sys
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from c2s import __version__
from c2s.errors import C2SError

ORDER = ("demo", "genes", "encode", "decode", "train", "annotate", "embed", "generate", "perturb", "screen", "rl")


def verbs() -> list[str]:
    """Return the names of the commands: the files of this folder, the usual path first."""
    found = {path.stem for path in Path(__file__).parent.glob("*.py") if not path.stem.startswith("_")} - {"main"}
    return [name for name in ORDER if name in found] + sorted(found.difference(ORDER))


def summary(verb: str) -> str:
    """Return the first line of a command's docstring, read from its source without importing it."""
    tree = ast.parse((Path(__file__).parent / f"{verb}.py").read_text(encoding="utf-8"))
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and node.name == verb:
            return (ast.get_docstring(node) or "").partition("\n")[0]
    return ""


def load(verb: str) -> Any:
    """Import a command's file and return the command: its ``app`` where it has sub-verbs, else the function of its name."""
    module = importlib.import_module(f"c2s.cli.{verb}")
    app = getattr(module, "app", None)
    if app is None:
        app = typer.Typer(add_completion=False, rich_markup_mode="markdown", pretty_exceptions_enable=False)
        app.command(verb)(getattr(module, verb))
    command = typer.main.get_command(app)
    command.name = verb
    return command


class LazyGroup(TyperGroup):
    """A group whose verbs are imported on use; the overview shows them from their sources."""

    _overview = False

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the verbs in the order of the overview."""
        return verbs()

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return the command, or only its name and first line while the overview is printed."""
        if cmd_name not in verbs():
            return None
        if self._overview:
            return TyperCommand(cmd_name, callback=None, help=summary(cmd_name))
        return load(cmd_name)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Print the overview without importing any verb."""
        self._overview = True
        try:
            super().format_help(ctx, formatter)
        finally:
            self._overview = False


app = typer.Typer(
    cls=LazyGroup,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)


def _show_version(value: bool) -> None:
    if value:
        typer.echo(f"c2s {__version__}")
        raise typer.Exit


@app.callback()
def c2s(
    verbose: bool = typer.Option(False, "--verbose", "-v", help="Log what is being done."),
    version: bool = typer.Option(
        False, "--version", callback=_show_version, is_eager=True, help="Print the version and exit."
    ),
) -> None:
    """Turn single cells into ranked gene sentences, train language models on them, screen drugs in two contexts.

    Start with `c2s demo`. Each verb explains itself: `c2s screen --help`.
    """
    logging.basicConfig(
        level=logging.INFO if verbose else logging.WARNING, format="%(levelname)s %(name)s: %(message)s", force=True
    )


def run(arguments: list[str] | None = None) -> None:
    """Run the command line and exit: 0, 2 for an error a user can mend (one line on stderr), 130 when interrupted."""
    try:
        app(args=arguments)
    except C2SError as error:
        typer.echo(f"Error: {_with_options(str(error), sys.argv[1:] if arguments is None else arguments)}", err=True)
        sys.exit(2)
    except KeyboardInterrupt:
        typer.echo("Interrupted.", err=True)
        sys.exit(130)
    except Exception as error:
        if not _disk_is_full(error):
            raise
        typer.echo(f"Error: no space is left on the disk ({error}). Make room and run the same command again", err=True)
        sys.exit(2)


def _with_options(message: str, arguments: list[str]) -> str:
    """Return a message of the library with its arguments as options of the verb called: ``overwrite=True`` → ``--overwrite``."""
    verb = next((argument for argument in arguments if argument in verbs()), None)
    if verb is None:
        return message
    command = load(verb)
    known = {
        option
        for each in (command, *getattr(command, "commands", {}).values())
        for parameter in each.params
        for option in parameter.opts
    }

    def option(found: re.Match[str]) -> str:
        name = "--" + found[1].replace("_", "-")
        if name not in known:
            return found[0]
        return name if found[2] is None or found[2] == "True" else f"{name} {found[2]}"

    return re.sub(r"\b([a-z][a-z_]*)=([\"'\w]\w*[\"']?)?(?: \(--[a-z-]+\))?", option, message)


def _disk_is_full(error: BaseException) -> bool:
    """Return whether writing failed for want of room; HDF5, Arrow, safetensors and torch say so in their own exceptions."""
    full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    return full or "No space left on device" in str(error) or "unexpected pos" in str(error)


if __name__ == "__main__":
    run()
