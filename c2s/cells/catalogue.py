"""Public tables by name: fetched only when asked for, from a fixed commit, and refused unless their SHA-256 is the recorded one."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pooch

from c2s.errors import ArtefactError, ConfigError


@dataclass(frozen=True)
class Listed:
    """A file of the catalogue.

    Parameters
    ----------
    repository, commit, path
        Where it lies on GitHub.
    sha256
        Of the file as it is there.
    holds
        What c2s reads it as.
    about
        Contents, origin and licence.
    """

    repository: str
    commit: str
    path: str
    sha256: str
    holds: Literal["gene table", "ortholog table", "gene sets"]
    about: str

    @property
    def url(self) -> str:
        """The address of the file at its commit."""
        return f"https://raw.githubusercontent.com/{self.repository}/{self.commit}/{self.path}"

    @property
    def file_name(self) -> str:
        """The name of the file in the cache."""
        return Path(self.path).name


_CELLTYPIST = ("Teichlab/celltypist", "fe357564a6625d3b1732a022fd39f18e55696e80")
_SCLUCID = ("yelu61/scLucid", "25df2a1a6982816cf500306d289ec2c8a580de78")

CATALOGUE = {
    "gencode44_id_to_symbol": Listed(
        *_CELLTYPIST,
        "celltypist/data/samples/GENCODEv44_Gene_id2name.csv",
        "0a8d9b07cf63f9ef70e65f3c7afc9d2092a7d9890281172df770003827912f53",
        "gene table",
        "GENCODE 44: 62,754 human Ensembl gene ids and their symbols; the repository is MIT",
    ),
    "ensembl105_human_mouse": Listed(
        *_CELLTYPIST,
        "celltypist/data/samples/Ensembl105_Human2Mouse_Genes.csv",
        "4a174c83cfa70aad7c470d8e453fda94d8fb5d70f8a2f0ae196d54c9e31369f1",
        "ortholog table",
        "Ensembl 105: human and mouse symbols, 24,857 ortholog pairs; the repository is MIT",
    ),
    "hallmark_human": Listed(
        *_SCLUCID,
        "src/scLucid/resources/human_hallmark_v2025.gmt",
        "f22066af72e215ccb7b89d88e492c07e1eef17534c2ca7b0f9902cfecbbdd8e9",
        "gene sets",
        "MSigDB 2025: 50 human hallmark sets; CC BY 4.0",
    ),
    "hallmark_mouse": Listed(
        *_SCLUCID,
        "src/scLucid/resources/mouse_hallmark_v2025.gmt",
        "2909a73db35f66a538267fa88dd8260e864a5c8d84d3c49c5262fa6bdb6e0805",
        "gene sets",
        "MSigDB 2025: 50 mouse hallmark sets; CC BY 4.0",
    ),
}


def fetch(name: str) -> Path:
    """Return the path of a file of :data:`CATALOGUE`, downloaded at the first call and kept in the user's cache.

    Raises
    ------
    ConfigError
        The catalogue has no such name.
    ArtefactError
        It cannot be downloaded or has another checksum; the message says where to put it by hand.
    """
    if name not in CATALOGUE:
        msg = f"the catalogue has no {name!r}; it has {', '.join(CATALOGUE)}"
        raise ConfigError(msg)
    entry = CATALOGUE[name]
    folder = Path(pooch.os_cache("c2s"))
    try:
        file = pooch.retrieve(entry.url, f"sha256:{entry.sha256}", fname=entry.file_name, path=folder)
    except (OSError, ValueError) as error:  # no network, no permission, another checksum
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        msg = (
            f"cannot fetch {name} from {entry.url}: {reason}. Get the file elsewhere and put it at "
            f"{folder / entry.file_name} (SHA-256 {entry.sha256}), or pass your own file"
        )
        raise ArtefactError(msg) from error
    return Path(file)


def find_table(file_or_name: str | os.PathLike[str]) -> Path:
    """Return a file as it is, or the file of a gene or ortholog table of :data:`CATALOGUE`, fetched if need be.

    Raises
    ------
    ConfigError
        Neither a file nor the name of a table.
    ArtefactError
        As :func:`fetch`.
    """
    if Path(file_or_name).is_file():
        return Path(file_or_name)
    tables = [name for name, entry in CATALOGUE.items() if entry.holds != "gene sets"]
    if file_or_name not in tables:
        msg = f"no file {file_or_name}, and no table of that name in the catalogue, which has {', '.join(tables)}"
        raise ConfigError(msg)
    return fetch(str(file_or_name))
