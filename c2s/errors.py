"""The exceptions c2s raises. Each message says what was found, what was expected and what to do."""

from __future__ import annotations


class C2SError(Exception):
    """Base of every error c2s raises on purpose."""


class DataError(C2SError, ValueError):
    """Cells, genes, tables or files that cannot be used as they are."""


class ConfigError(C2SError, ValueError):
    """Settings that contradict each other or the data."""


class ModelError(C2SError, ValueError):
    """A model that does not fit the data or the job (vocabulary, training, task)."""


class ArtefactError(C2SError, OSError):
    """A file or folder that exists already, is missing, truncated or of another kind."""


class MissingDependencyError(C2SError, ImportError):
    """An optional package is not installed; the message names the ``pip install "c2s[extra]"`` to run."""
