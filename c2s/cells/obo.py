"""OBO files: the terms of an ontology, with names, synonyms, definitions and parents."""

from __future__ import annotations

import gzip
import os
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from c2s.errors import ArtefactError, DataError

_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"\s*([A-Z]+)?')
_ESCAPE = re.compile(r"\\(.)")
_COMMENT = re.compile(r"\s+!.*$")
_MODIFIERS = re.compile(r"\s*\{[^}]*\}")
_ESCAPED = {"n": "\n", "t": "\t", "W": " "}


@dataclass(frozen=True)
class Term:
    """One term of an ontology.

    Attributes
    ----------
    id, name : str
        A term without a name, as one of another ontology that is only referred to, has its id for a name.
    definition : str
        Empty where the file gives none.
    synonyms : tuple of (text, scope)
        The scope is EXACT, BROAD, NARROW or RELATED.
    parents : tuple of str
        Ids of the terms this one is a kind of (``is_a``).
    genera : tuple of str
        Ids of the terms its logical definition begins with (``intersection_of`` without a relation): it is a kind of these,
        too, and a file that was not run through a reasoner says so nowhere else.
    alternatives : tuple of str
        Ids this term had before (``alt_id``).
    obsolete : bool
    replaced_by : tuple of str
        What an obsolete term says should be used instead.
    """

    id: str
    name: str
    definition: str = ""
    synonyms: tuple[tuple[str, str], ...] = ()
    parents: tuple[str, ...] = ()
    genera: tuple[str, ...] = ()
    alternatives: tuple[str, ...] = ()
    obsolete: bool = False
    replaced_by: tuple[str, ...] = ()


def read_obo(path: str | os.PathLike[str]) -> tuple[dict[str, str], list[Term]]:
    """Return the header and the terms of an OBO file, plain or gzipped.

    Returns
    -------
    header : dict
        Tags before the first stanza; the first value of each.
    terms : list of Term
        In the file's order. Stanzas of other kinds (``[Typedef]``) are left out.

    Raises
    ------
    ArtefactError
        The file is missing, cannot be read, or ends in the middle.
    DataError
        It is not OBO text, or a term has no id.
    """
    file = Path(path)
    return parse_obo(_text(file), source=str(file))


def parse_obo(text: str, *, source: str = "the text") -> tuple[dict[str, str], list[Term]]:
    """Return the header and the terms of OBO text; :func:`read_obo` says what is raised."""
    if not text.startswith(("format-version:", "[Term]", "ontology:")) and "\n[Term]" not in text:
        msg = f"{source} begins with {text[:40]!r}; expected OBO text: a header such as 'format-version: 1.2', then [Term] stanzas"
        raise DataError(msg)
    if not text.endswith("\n"):
        last = text.rsplit("\n", 1)[-1]
        msg = f"{source} ends in the middle of a line ({last[:60]!r}): it is truncated; fetch it again"
        raise ArtefactError(msg)
    header: dict[str, str] = {}
    terms = []
    for kind, first_line, tags in _stanzas(text):
        if kind == "":
            for tag, value in tags:
                header.setdefault(tag, value)
        elif kind == "Term":
            terms.append(_term(tags, f"{source}, stanza at line {first_line}"))
    if not terms:
        msg = f"{source} holds no [Term] stanza"
        raise DataError(msg)
    return header, terms


def _text(file: Path) -> str:
    """Return the text of a file, unpacked if its first bytes say that it is gzipped."""
    try:
        content = file.read_bytes()
        if content[:2] == b"\x1f\x8b":
            content = gzip.decompress(content)
        return content.decode("utf-8").replace("\r\n", "\n")
    except FileNotFoundError as error:
        msg = f"no file {file}"
        raise ArtefactError(msg) from error
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        msg = f"{file} cannot be unpacked ({error}): it is truncated or damaged; fetch it again"
        raise ArtefactError(msg) from error
    except OSError as error:
        msg = f"cannot read {file}: {error}"
        raise ArtefactError(msg) from error
    except UnicodeDecodeError as error:
        msg = f"{file} is not UTF-8 text ({error}); expected an OBO file"
        raise DataError(msg) from error


def _stanzas(text: str) -> Iterator[tuple[str, int, list[tuple[str, str]]]]:
    """Yield ``(kind, line number, tags)``; the header has the kind ``""``."""
    kind, start = "", 1
    tags: list[tuple[str, str]] = []
    for number, line in enumerate(text.split("\n"), start=1):
        stripped = line.strip()
        if stripped.startswith("[") and stripped.endswith("]") and ":" not in stripped:
            yield kind, start, tags
            kind, start, tags = stripped[1:-1], number, []
        elif stripped and not stripped.startswith("!"):
            tag, colon, value = stripped.partition(":")
            if colon:
                tags.append((tag, value.strip()))
    yield kind, start, tags


def _term(tags: list[tuple[str, str]], where: str) -> Term:
    """Return the term of one stanza."""
    single: dict[str, str] = {}
    several: dict[str, list[str]] = {}
    synonyms = []
    for tag, value in tags:
        if tag in ("id", "name", "def", "is_obsolete"):
            single.setdefault(tag, value)
        elif tag in ("is_a", "alt_id", "replaced_by", "intersection_of"):
            several.setdefault(tag, []).append(_MODIFIERS.sub("", _COMMENT.sub("", value)).strip())
        elif tag == "synonym" and (found := _QUOTED.match(value)):
            synonyms.append((_plain(found[1]), found[2] or "RELATED"))
    if not single.get("id"):
        msg = f"{where}: a term without id ({single.get('name', 'no name')}); the file is truncated or no OBO file"
        raise DataError(msg)
    definition = _QUOTED.match(single.get("def", ""))
    return Term(
        id=_COMMENT.sub("", single["id"]).strip(),
        name=_plain(single.get("name") or single["id"]),
        definition=_plain(definition[1]) if definition else "",
        synonyms=tuple(dict.fromkeys(synonyms)),
        parents=tuple(dict.fromkeys(several.get("is_a", ()))),
        genera=tuple(dict.fromkeys(genus for genus in several.get("intersection_of", ()) if " " not in genus)),
        alternatives=tuple(several.get("alt_id", ())),
        obsolete=single.get("is_obsolete", "false").startswith("true"),
        replaced_by=tuple(several.get("replaced_by", ())),
    )


def _plain(text: str) -> str:
    """Return OBO text without its escapes."""
    return _ESCAPE.sub(lambda found: _ESCAPED.get(found[1], found[1]), text)
