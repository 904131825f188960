"""The conditions a cell is asked for under, held against those that training showed."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

from c2s.cells.genes import listed
from c2s.errors import ConfigError

logger = logging.getLogger(__name__)


def checked_conditions(
    conditions: Mapping[str, str] | None, named: Mapping[str, str], *, known: Mapping[str, Sequence[str]]
) -> dict[str, str]:
    """Return ``conditions`` and ``named`` as one mapping of condition to value, values as text.

    A value that training never showed, and a condition of training that is left out, are warned of: the model then answers
    a prompt it was not trained on.

    Parameters
    ----------
    conditions, named : mapping of str to str
        As one argument, and as keywords.
    known : mapping of str to sequence of str
        Names and values seen in training. Nothing is checked where it is empty, and a warning says so.

    Raises
    ------
    ConfigError
        A condition is given both ways, or has a name that the model was not trained with.
    """
    twice = [name for name in named if name in (conditions or {})]
    if twice:
        msg = f"{', '.join(twice)} is given both as a keyword and in conditions=; give it once"
        raise ConfigError(msg)
    asked = {name: str(value) for name, value in {**(conditions or {}), **named}.items()}
    if not known:
        if asked:
            logger.warning(
                "this model does not say which conditions it was trained with; %s is not checked", ", ".join(asked)
            )
        return asked
    unknown = [name for name in asked if name not in known]
    if unknown:
        msg = f"this model was trained with the conditions {', '.join(known)}, not with {', '.join(unknown)}; use those names"
        raise ConfigError(msg)
    for name, values in known.items():
        if name not in asked:
            logger.warning("no %s is given; training always gave one: %s", name, listed(values))
        elif asked[name] not in values:
            logger.warning("%s %r was never seen in training, which had %s", name, asked[name], listed(values))
    return asked
