"""Wordings: text with named slots and clauses that vanish without them, filled to parts; parts to text."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from c2s.errors import ConfigError, DataError
from c2s.tasks.base import Genes, Mark, Part

Slot = str | int | Genes | tuple[Part, ...]

_PIECE = re.compile(r"(\[[^\[\]]*\])|\{([a-z_]+)\}|([^\[\]{}]+)|(.)", re.DOTALL)


@dataclass(frozen=True)
class SentenceStyle:
    """How a run of genes becomes text.

    Attributes
    ----------
    delimiter : str
        Between two symbols.
    upper : bool
        Write symbols in upper case, as the released Cell2Sentence checkpoints read them.
    stop : str
        After the last symbol. A run without genes is the stop alone.
    """

    delimiter: str = " "
    upper: bool = False
    stop: str = "."

    def __post_init__(self) -> None:
        if not self.delimiter:
            msg = "delimiter is empty; genes could not be told apart. Pass a space or another sign"
            raise ConfigError(msg)


def render_text(parts: Sequence[Part], symbols: Sequence[str], style: SentenceStyle | None = None) -> str:
    """Return ``parts`` as text.

    Text stays as it is, genes are written in ``style``, ``Mark("end")`` adds nothing: where an answer ends is said by
    the tokenizer.

    Parameters
    ----------
    parts : sequence of Part
    symbols : sequence of str
        Symbol of each gene id.
    style : SentenceStyle, optional
        By default symbols as they are, a space between them, and a full stop.

    Raises
    ------
    ConfigError
        The parts hold another mark: they are for models in which marks and genes are tokens.
    DataError
        A symbol holds the delimiter, so that the text could not be split again.
    """
    style = style or SentenceStyle()
    pieces: list[str] = []
    for part in parts:
        if isinstance(part, Genes):
            genes = [symbols[i] for i in part.ids]
            if style.delimiter in "".join(genes):
                broken = next(gene for gene in genes if style.delimiter in gene)
                msg = f"gene {broken!r} holds the delimiter {style.delimiter!r}; pass a SentenceStyle with another one"
                raise DataError(msg)
            line = style.delimiter.join(genes)
            pieces.append((line.upper() if style.upper else line) + style.stop)
        elif isinstance(part, Mark):
            if part.name != "end":
                msg = f"the mark <{part.name}> has no text; ask the task for a prompt in words (wording=0)"
                raise ConfigError(msg)
        else:
            pieces.append(part)
    return "".join(pieces)


def slot_names(template: str) -> tuple[set[str], set[str]]:
    """Return the slots that ``template`` needs, and those of its optional clauses in square brackets.

    Raises
    ------
    ConfigError
        Brackets or braces that do not pair, or a clause without a slot.
    """
    needed: set[str] = set()
    optional: set[str] = set()
    for clause, name, _, wrong in _PIECE.findall(template):
        if wrong:
            msg = f"{wrong!r} stands alone in {template!r}; slots are written {{name}}, optional clauses [ of {{name}}]"
            raise ConfigError(msg)
        if clause:
            inner, nested = slot_names(clause[1:-1])
            if not inner or nested:
                msg = f"the optional clause {clause!r} needs a slot, or nothing says when to leave it out"
                raise ConfigError(msg)
            optional |= inner
        elif name:
            needed.add(name)
    return needed, optional - needed


def fill(template: str, slots: Mapping[str, Slot | None]) -> tuple[Part, ...]:
    """Return the parts of ``template`` with its slots filled; neighbouring text is one part.

    A clause in square brackets is left out when one of its slots is missing, None, empty text or an empty tuple.

    Raises
    ------
    DataError
        A slot outside the clauses has no value.
    """
    parts: list[Part] = []
    for clause, name, text, _ in _PIECE.findall(template):
        if clause:
            names, _ = slot_names(clause[1:-1])
            if all(_present(slots.get(each)) for each in names):
                _extend(parts, fill(clause[1:-1], slots))
        elif name:
            value = slots.get(name)
            if value is None:
                given = ", ".join(sorted(key for key, each in slots.items() if each is not None)) or "none"
                msg = f"this wording needs {name!r}; found {given}. Pass its value, or choose a wording without it: {template!r}"
                raise DataError(msg)
            _extend(parts, value if isinstance(value, tuple) else (value if isinstance(value, Genes) else str(value),))
        else:
            _extend(parts, (text,))
    return tuple(parts)


def _present(value: Slot | None) -> bool:
    return value is not None and value != "" and value != ()


def _extend(parts: list[Part], more: Sequence[Part]) -> None:
    for part in more:
        if isinstance(part, str) and parts and isinstance(parts[-1], str):
            parts[-1] += part
        elif part != "":
            parts.append(part)
