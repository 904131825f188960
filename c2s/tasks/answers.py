"""Readers of answers in words: a label, labels, a decision, free text. What is not an answer is a ParseError that says why.

An answer comes as parts (from models in which a gene is a token) or as text (from any other). Text must end with its
full stop, or it was cut off. ``docs/guide/tasks.md`` lists what is read and what is refused.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

from c2s.cells.genes import listed
from c2s.tasks.base import Mark, ParseError, Part

Answer = Sequence[Part] | str | bytes

LONGEST_LABEL = 120  # characters; what is longer is prose
LIST_ITEM = re.compile(r"\s*(?:\d+[.)]|[-*•–])\s+\S", re.ASCII)
DASHES = str.maketrans(dict.fromkeys("‐‑‒–—−", "-"))


def answer_text(answer: Answer, *, stop: str = ".") -> tuple[str, bool]:
    """Return an answer's text without its full stop, and whether it came to its end.

    Parts end at ``Mark("end")`` and text at ``stop``. Format characters such as a byte order mark are left out, and
    any white space but a line break is a space.

    Raises
    ------
    ParseError
        Bytes that are no UTF-8, control or replacement characters, genes or marks where text was expected, no text.
    """
    if isinstance(answer, str | bytes):
        text = clean(answer).strip()
        ended = text.endswith(stop)  # without a stop, whether it was cut off cannot be seen
    else:
        text = clean("".join(only_texts(before_end(answer)))).strip()
        ended = True
    text = text.removesuffix(stop).rstrip()
    if not text:
        msg = "the answer is empty"
        raise ParseError(msg)
    return text, ended


def read_label(answer: Answer, labels: Sequence[str] | None = None, *, stop: str = ".") -> str:
    """Return the label that an answer names.

    With ``labels``, the one that equals the answer; if none does, the only one that equals it but for case, spaces and
    punctuation. Without, whatever one line says.

    Raises
    ------
    ParseError
        Empty, cut off, no label of the set or several, a list, more than one line or sentence, or over 120 characters.
    """
    text, ended = answer_text(answer, stop=stop)
    if labels is None:
        if not ended:
            msg = f"the answer does not end with {stop!r}, so it may be cut off: {shortened(text)}"
            raise ParseError(msg)
        return _free_label(text)
    known = list(dict.fromkeys(labels))
    if f"{text}{stop}" in known:  # a label may end with a stop of its own
        text = f"{text}{stop}"
    label = text if text in known else _closest(text, known)
    longer = [other for other in known if other != label and fold(other).startswith(fold(label))]
    if longer and not ended:
        msg = f"{label!r} does not end with {stop!r} and may be the beginning of {listed(longer)}"
        raise ParseError(msg)
    return label


def read_labels(answer: Answer, labels: Sequence[str] | None = None, *, stop: str = ".") -> tuple[str, ...]:
    """Return the labels of a list with semicolons between them, each once, in order.

    Raises
    ------
    ParseError
        As :func:`read_label` for each of them; also a list that is cut off, or names a label twice.
    """
    text, ended = answer_text(answer, stop=stop)
    if not ended:
        msg = f"the list does not end with {stop!r}, so it may be cut off: {shortened(text)}"
        raise ParseError(msg)
    found = [read_label(f"{item}{stop}", labels, stop=stop) for item in text.split(";")]
    if repeated := sorted({item for item in found if found.count(item) > 1}):
        msg = f"the list names {listed(repeated)} more than once"
        raise ParseError(msg)
    return tuple(found)


def read_decision(answer: Answer, *, stop: str = ".") -> bool:
    """Return whether an answer says yes; anything but yes or no is a ParseError."""
    return read_label(answer, ("yes", "no"), stop=stop) == "yes"


def read_text(answer: Answer, *, stop: str = ".") -> str:
    """Return free text without its last full stop.

    Raises
    ------
    ParseError
        Empty, cut off, or not text.
    """
    text, ended = answer_text(answer, stop=stop)
    if not ended:
        msg = f"the answer does not end with {stop!r}, so it may be cut off: …{text[-40:]!r}"
        raise ParseError(msg)
    return text


def fold(label: str) -> str:
    """Return ``label`` without case, spaces and punctuation; the signs of ``CD4+``, ``CD8-`` and ``-1.5`` stay."""
    text = unicodedata.normalize("NFKC", label).translate(DASHES).casefold()
    kept = re.sub(r"(?<=\w)-(?=\W|$)|(?<=\w)\s+-\s*$|(?<!\w)-(?=\d)", "\0", text)
    kept = re.sub(r"(?<=\d)\.(?=\d)", "\1", kept)
    return "".join(sign for sign in kept if sign.isalnum() or sign in "+\0\1")


def clean(answer: Answer) -> str:
    """Return text in NFC without format characters; only spaces and line breaks are left of white space. What is no text is a ParseError."""
    if isinstance(answer, bytes):
        try:
            answer = answer.decode("utf-8")
        except UnicodeDecodeError as error:
            msg = f"the answer is bytes that are no UTF-8 text: {error}"
            raise ParseError(msg) from error
    signs = []
    for sign in unicodedata.normalize("NFC", str(answer)).replace("\r\n", "\n"):
        kind = unicodedata.category(sign)
        if sign == "\n" or kind in ("Zl", "Zp"):
            signs.append("\n")
        elif sign in "\t\r" or kind == "Zs":
            signs.append(" ")
        elif kind in ("Cc", "Cs", "Co", "Cn") or sign == "\N{REPLACEMENT CHARACTER}":
            msg = f"the answer holds {sign!r} (U+{ord(sign):04X}), which is no text"
            raise ParseError(msg)
        elif kind != "Cf":
            signs.append(sign)
    return "".join(signs)


def before_end(answer: Sequence[Part]) -> list[Part]:
    """Return the parts before ``Mark("end")``, which must be the last, or it is a ParseError."""
    parts = list(answer)
    if Mark("end") not in parts:
        msg = "the answer ends before <end>"
        raise ParseError(msg)
    place = parts.index(Mark("end"))
    if place != len(parts) - 1:
        msg = f"{parts[place + 1]!r} follows the last mark <end>"
        raise ParseError(msg)
    return parts[:place]


def only_texts(parts: Sequence[Part]) -> list[str]:
    """Return ``parts``; one that is no text is a ParseError."""
    for part in parts:
        if not isinstance(part, str):
            msg = f"expected text and <end>, found {part!r}"
            raise ParseError(msg)
    return [part for part in parts if isinstance(part, str)]


def _free_label(text: str) -> str:
    problem = ""
    if LIST_ITEM.match(text):
        problem = "the answer is a numbered or bulleted list"
    elif "\n" in text:
        problem = "the answer has more than one line"
    elif ";" in text or re.search(r"[.?!]\s+\S", text):
        problem = "the answer says more than one thing"
    elif len(text) > LONGEST_LABEL:
        problem = f"the answer has {len(text)} characters, a label at most {LONGEST_LABEL}"
    if problem:
        msg = f"{problem}; expected one label: {shortened(text)}"
        raise ParseError(msg)
    return text


def _closest(text: str, known: Sequence[str]) -> str:
    folded = fold(text)
    matches = [label for label in known if fold(label) == folded and folded]
    if len(matches) == 1:
        return matches[0]
    if matches:
        msg = f"{shortened(text)} may stand for {listed(matches)}; they differ only in case, spaces or punctuation"
        raise ParseError(msg)
    inside = [label for label in known if len(fold(label)) > 2 and fold(label) in folded]
    found = f"; it holds {listed(inside)} among other text" if inside else ""
    msg = (
        f"{shortened(text)} is none of the {len(known)} labels{found}. Expected one of {listed(known)} and nothing else"
    )
    raise ParseError(msg)


def shortened(text: str) -> str:
    """Return at most 60 characters of ``text``, in quotes, for a message."""
    return repr(text if len(text) <= 60 else text[:57] + "…")
