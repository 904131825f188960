"""Names of drugs, cytokines and genes as people write them, found again in a table: case, hyphens, Greek letters, salts, names in brackets."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping

from c2s.cells.genes import listed
from c2s.errors import DataError

GREEK = {
    "α": "alpha", "β": "beta", "γ": "gamma", "δ": "delta", "ε": "epsilon", "ζ": "zeta", "κ": "kappa", "λ": "lambda", "μ": "mu", "ω": "omega",
}  # fmt: skip
LETTERS = {word: word[0] for word in GREEK.values()}
SALTS = frozenset(
    "hydrochloride dihydrochloride trihydrochloride hcl 2hcl hydrobromide hbr mesylate dimesylate methanesulfonate tosylate ditosylate besylate "
    "maleate malate fumarate tartrate citrate succinate lactate acetate phosphate diphosphate sulfate sulphate nitrate chloride bromide iodide "
    "sodium disodium potassium calcium magnesium hydrate monohydrate dihydrate trihydrate hemihydrate anhydrous salt base".split()
)
MIN_INNER = 3  # letters and digits of a name in brackets; (R) and (+) are none
_GLUED = re.compile(rf"\b([A-Z][A-Z0-9]+)({'|'.join(LETTERS)})(?=\d|\b)")  # TGFbeta1, IFNgamma
_BRACKETS = re.compile(r"\(([^()]*)\)")


def normal_name(name: str) -> str:
    """Return a name without case, separators and Greek letters: ``"IFN-β"``, ``"IFNb"`` and ``"IFN beta"`` are all ``"ifnb"``."""
    return "".join(_words(name))


class Synonyms:
    """Finds which name of a table another spelling means.

    A name is looked for as it is; then by :func:`normal_name` among aliases, then among names; then by what stands outside its brackets
    (``"Veliparib (ABT-888)"``), the same without the words of a salt at its end, and what stands inside. The first that finds anything decides.

    Parameters
    ----------
    names : iterable of str
        What the table calls its rows.
    aliases : mapping of str to str, optional
        Further spelling to name of the table: ``{"TNF": "TNF-alpha"}``.

    Raises
    ------
    DataError
        An alias means no name of the table.
    """

    def __init__(self, names: Iterable[str], *, aliases: Mapping[str, str] | None = None) -> None:
        self.names = dict.fromkeys(names)
        self._aliases: dict[str, set[str]] = {}
        self._normal: dict[str, set[str]] = {}
        self._loose: dict[str, set[str]] = {}
        if wrong := [f"{alias} -> {name}" for alias, name in (aliases or {}).items() if name not in self.names]:
            msg = f"{len(wrong)} aliases mean no name of the table: {listed(wrong)}"
            raise DataError(msg)
        for alias, name in (aliases or {}).items():
            self._aliases.setdefault(normal_name(alias), set()).add(name)
        for name in self.names:
            self._normal.setdefault(normal_name(name), set()).add(name)
            for form in _loose_forms(name):
                self._loose.setdefault(form, set()).add(name)

    def resolve(self, name: str) -> str | None:
        """Return the table's name for ``name``, or None where there is none; nothing is guessed.

        Raises
        ------
        DataError
            It may mean several, which are listed.
        """
        if name in self.names:
            return name
        whole = normal_name(name)
        tries = [(self._aliases, whole), (self._normal, whole), *((self._loose, form) for form in _loose_forms(name))]
        found = next((hits for index, form in tries if (hits := index.get(form))), set())
        if len(found) > 1:
            msg = f"{name!r} may mean {listed(sorted(found))}; say which in the aliases, {{{name!r}: ...}}"
            raise DataError(msg)
        return next(iter(found), None)

    def resolve_all(self, names: Iterable[str]) -> tuple[dict[str, str], list[str]]:
        """Return the table's name of each name that has one, and the names without one, each once and in order.

        Raises
        ------
        DataError
            As :meth:`resolve`.
        """
        found = {name: self.resolve(name) for name in dict.fromkeys(names)}
        return {name: each for name, each in found.items() if each is not None}, [
            name for name, each in found.items() if each is None
        ]


def _words(name: str) -> list[str]:
    """Return the words of a name, in lower case, Greek letters as Latin ones."""
    text = unicodedata.normalize("NFKC", name)
    text = "".join(f" {GREEK[letter]} " if (letter := each.lower()) in GREEK else each for each in text)
    words = re.findall(r"[^\W_]+", _GLUED.sub(r"\1 \2 ", text).lower())
    return [LETTERS.get(word, word) for word in words]


def _loose_forms(name: str) -> list[str]:
    """Return the normal names of what stands outside the brackets, the same without salts, and what stands inside, likewise."""
    inner = [text for text in _BRACKETS.findall(name) if len(normal_name(text)) >= MIN_INNER]
    outside = name
    for text in inner:
        outside = outside.replace(f"({text})", " ")
    forms = []
    parts = [part for text in inner for part in text.split(",") if len(normal_name(part)) >= MIN_INNER]
    for text in (outside, *parts):
        words = _words(text)
        if words and not all(word in SALTS for word in words):
            forms.append("".join(words))
            while len(words) > 1 and words[-1] in SALTS:
                words.pop()
            forms.append("".join(words))
    return forms
