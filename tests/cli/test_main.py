"""The command's shell: quick help, one clear line for an error, exit codes."""

from __future__ import annotations

import errno
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from c2s import __version__
from c2s.cli import main
from c2s.errors import DataError


def test_overview_lists_every_verb_without_importing_any():
    code = (
        "import sys; from c2s.cli.main import verbs, run\n"
        "try: run(['--help'])\n"
        "except SystemExit as e: assert not e.code\n"
        "heavy = {'torch', 'anndata', 'scanpy', 'pandas', *(f'c2s.cli.{verb}' for verb in verbs())} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for verb in main.verbs():
        assert verb in done.stdout


def test_overview_is_quick():
    def cpu_seconds() -> float:
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        return used.ru_utime + used.ru_stime

    seconds = []
    for _ in range(5):
        start = cpu_seconds()
        subprocess.run([sys.executable, "-m", "c2s.cli.main", "--help"], check=True, capture_output=True)
        seconds.append(cpu_seconds() - start)
    assert (
        min(seconds) < 1.0
    )  # about 0.3 s; CPU time, because the clock on the wall measures what else the machine does


@pytest.mark.parametrize("verb", main.verbs())
def test_each_verb_explains_itself(verb):
    assert main.summary(verb), f"c2s/cli/{verb}.py has no function {verb} with a docstring"
    result = CliRunner().invoke(main.app, [verb, "--help"])
    assert result.exit_code == 0, result.output
    assert "Usage" in result.output


def test_version():
    result = CliRunner().invoke(main.app, ["--version"])
    assert result.output.strip() == f"c2s {__version__}"


def test_unknown_verb_is_refused():
    assert CliRunner().invoke(main.app, ["scren"]).exit_code == 2


@pytest.mark.parametrize(("error", "code", "line"), [
    (DataError("obs has no column 'drug'"), 2, "Error: obs has no column 'drug'\n"),
    (KeyboardInterrupt(), 130, None),
])  # fmt: skip
def test_exit_codes(monkeypatch, capsys, error, code, line):
    def verb(cells: Path) -> None:
        """Fail."""
        raise error

    import typer

    app = typer.Typer(pretty_exceptions_enable=False)
    app.command()(verb)
    monkeypatch.setattr(main, "app", app)
    with pytest.raises(SystemExit) as raised:
        main.run(["cells.h5ad"])
    assert raised.value.code == code
    if line:
        assert capsys.readouterr().err == line


def test_a_bug_is_not_hidden(monkeypatch):
    def verb() -> None:
        """Fail."""
        msg = "a bug"
        raise RuntimeError(msg)

    import typer

    app = typer.Typer(pretty_exceptions_enable=False)
    app.command()(verb)
    monkeypatch.setattr(main, "app", app)
    with pytest.raises(RuntimeError, match="a bug"):
        main.run([])


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        RuntimeError("I/O error: No space left on device (os error 28)"),
    ],
)
def test_a_full_disk_is_one_line(monkeypatch, capsys, error):
    def full(**_):
        raise error

    monkeypatch.setattr(main, "app", full)
    with pytest.raises(SystemExit) as ended:
        main.run([])
    assert ended.value.code == 2
    assert "Error: no space is left on the disk" in capsys.readouterr().err
    monkeypatch.setattr(main, "app", lambda **_: (_ for _ in ()).throw(RuntimeError("a bug")))
    with pytest.raises(RuntimeError, match="a bug"):
        main.run([])


def test_messages_name_options_of_the_verb():
    message = (
        "x exists; pass overwrite=True (--overwrite) to replace it. Pass labels_key=, or layer='raw', ties=, foo=3"
    )
    assert main._with_options(message, ["-v", "train", "x"]) == (
        "x exists; pass --overwrite to replace it. Pass --labels-key, or --layer 'raw', ties=, foo=3"
    )
    assert main._with_options(message, ["--help"]) == message
