"""``--config FILE`` for any verb: the file's values become the defaults of its options, which flags then override."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

from c2s.config import read_settings
from c2s.errors import ConfigError


def _use(ctx: typer.Context, path: Path | None) -> Path | None:
    if path is not None:
        settings = {name.replace("-", "_"): value for name, value in read_settings(path).items()}
        known = {str(parameter.name) for parameter in ctx.command.params} - {"config", "dry_run", "help"}
        unknown = sorted(set(settings) - known)
        if unknown:
            msg = f"{path} sets {', '.join(unknown)}, which {ctx.info_name} does not have; it has {', '.join(sorted(known))}"
            raise ConfigError(msg)
        ctx.default_map = settings
    return path


def config_option() -> Any:
    """Return the option to declare as ``config: Path | None = config_option()``."""
    return typer.Option(
        None,
        "--config",
        metavar="FILE",
        is_eager=True,
        callback=_use,
        help="JSON or TOML file with values for these options; flags override it.",
    )
