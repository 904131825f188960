"""Frozen configurations: one pydantic base, read from JSON or TOML files, unknown fields refused with their names."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from c2s.artefacts import read_json, write_json
from c2s.errors import ConfigError

Seed = Annotated[int, Field(ge=0, lt=2**32)]  # what numpy, torch and transformers all take


class Config(BaseModel):
    """Base of every configuration. Instances are immutable; ``with_`` gives a changed copy, checked again."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            lines = [f"  {'.'.join(map(str, e['loc'])) or type(self).__name__}: {e['msg']}" for e in error.errors()]
            msg = f"{type(self).__name__} cannot be built:\n" + "\n".join(lines)
            raise ConfigError(msg) from error

    @classmethod
    def from_file(cls, path: str | os.PathLike[str]) -> Self:
        """Return the configuration in a ``.json`` or ``.toml`` file."""
        return cls(**read_settings(path))

    def with_(self, **changes: Any) -> Self:
        """Return a copy with ``changes`` applied and validated."""
        return type(self)(**{**self.model_dump(), **changes})

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write the configuration as JSON, atomically."""
        write_json(path, self.model_dump(mode="json"))


def read_settings(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return the mapping in a ``.json`` or ``.toml`` file, for ``--config``."""
    if Path(path).suffix == ".toml":
        try:
            return tomllib.loads(Path(path).read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            msg = f"cannot read the settings in {path}: {error}"
            raise ConfigError(msg) from error
    settings = read_json(path)
    if not isinstance(settings, dict):
        msg = f"{path} holds a {type(settings).__name__}; a configuration is a mapping of names to values"
        raise ConfigError(msg)
    return settings
