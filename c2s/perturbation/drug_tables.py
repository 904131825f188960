"""Tables of drugs as their makers give them out: DrugCentral's targets, the Repurposing Hub's drugs and samples, sci-Plex's compounds."""

from __future__ import annotations

import gzip
import io
import os
from collections.abc import Callable, Iterable
from pathlib import Path

import pandas as pd

from c2s.artefacts import require_access
from c2s.cells.genes import listed
from c2s.cells.library import split_targets
from c2s.errors import ArtefactError, DataError

COLUMNS = ("name", "targets", "mechanism", "smiles")
MAX_MECHANISMS = 3  # of a drug's many; more than a prompt should hold


def read_drug_table(path: str | os.PathLike[str]) -> pd.DataFrame:
    """Return a row a drug: ``name``, ``targets`` (tuple of gene symbols), ``mechanism``, ``smiles``; empty where the table has none.

    The layout is told by the header. Lines that begin with ``!`` are left out; a ``.gz`` file is unpacked.

    - ``DRUG_NAME, TARGET_NAME, GENE, ACTION_TYPE`` (DrugCentral): a row a drug and target. The mechanism is the first three of
      "target action", e.g. "Plasminogen activator".
    - ``pert_iname, moa, target`` (Drug Repurposing Hub, drugs; for non-commercial use).
    - ``pert_iname, smiles`` (Drug Repurposing Hub, samples): the first SMILES of a drug.
    - ``Product.Name, Target, Pathway`` (sci-Plex): its targets are classes such as "HDAC", not genes, and go into the mechanism.
    - ``name, SMILES`` (sci-Plex, a row a well).

    Parameters
    ----------
    path
        Tab-separated text with a header.

    Raises
    ------
    ArtefactError
        The file is missing, truncated, or no text.
    DataError
        It has another layout, rows with more values than the header, or no drug.
    """
    file = Path(path)
    table = _read(file)
    layout = next((columns for columns in LAYOUTS if set(columns) <= set(table.columns)), None)
    if layout is None:
        known = "; ".join(", ".join(columns) for columns in LAYOUTS)
        msg = f"{file} has columns {listed(table.columns)}; expected those of one layout: {known}"
        raise DataError(msg)
    table = table[table[layout[0]].str.strip() != ""]
    if table.empty:
        msg = f"{file} names no drug in {layout[0]!r}"
        raise DataError(msg)
    return _by_drug(LAYOUTS[layout](table))


def _read(file: Path) -> pd.DataFrame:
    require_access(file)
    try:
        raw = file.read_bytes()
        text = (gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw).decode("utf-8-sig")
    except (OSError, EOFError, UnicodeDecodeError, gzip.BadGzipFile) as error:
        msg = f"cannot read the drug table {file}: {error}. Download it again"
        raise ArtefactError(msg) from error
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("!")]
    try:
        return pd.read_csv(io.StringIO("\n".join(lines)), sep="\t", dtype=str, keep_default_na=False, index_col=False)
    except (pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        msg = f"{file} is no tab-separated table: {error}"
        raise DataError(msg) from error


def _drugcentral(table: pd.DataFrame) -> pd.DataFrame:
    acts = table["TARGET_NAME"].str.strip() + " " + table["ACTION_TYPE"].str.strip().str.lower()
    return pd.DataFrame(
        {
            "name": table["DRUG_NAME"],
            "targets": table["GENE"],
            "mechanism": acts.where(table["ACTION_TYPE"].str.strip() != "", ""),
            "smiles": "",
        }
    )


def _hub(table: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "name": table["pert_iname"],
            "targets": table["target"],
            "mechanism": table["moa"].str.split("|"),
            "smiles": "",
        }
    ).explode("mechanism")


def _hub_samples(table: pd.DataFrame) -> pd.DataFrame:
    smiles = table["smiles"].str.split(",").str[0]
    return pd.DataFrame({"name": table["pert_iname"], "targets": "", "mechanism": "", "smiles": smiles})


def _sciplex(table: pd.DataFrame) -> pd.DataFrame:
    target, pathway = table["Target"].str.strip(), table["Pathway"].str.strip()
    mechanism = target.where(target != "Others", "")
    mechanism = mechanism.where(pathway.isin(["", "Others"]), (mechanism + " (" + pathway + ")").str.strip())
    return pd.DataFrame({"name": table["Product.Name"], "targets": "", "mechanism": mechanism, "smiles": ""})


def _wells(table: pd.DataFrame) -> pd.DataFrame:
    named = table[table["name"] != "NA"]
    smiles = named["SMILES"].where(named["SMILES"] != "NA", "")
    return pd.DataFrame({"name": named["name"], "targets": "", "mechanism": "", "smiles": smiles})


LAYOUTS: dict[tuple[str, ...], Callable[[pd.DataFrame], pd.DataFrame]] = {
    ("DRUG_NAME", "TARGET_NAME", "GENE", "ACTION_TYPE"): _drugcentral,
    ("pert_iname", "moa", "target"): _hub,
    ("pert_iname", "smiles"): _hub_samples,
    ("Product.Name", "Target", "Pathway"): _sciplex,
    ("name", "SMILES"): _wells,
}


def _by_drug(rows: pd.DataFrame) -> pd.DataFrame:
    """Return one row a drug: all targets, the first mechanisms, the first SMILES."""
    rows = rows.assign(name=rows["name"].str.strip())
    grouped = rows.groupby("name", sort=False)
    out = pd.DataFrame(
        {
            "targets": grouped["targets"].agg(lambda texts: split_targets("|".join(texts))),
            "mechanism": grouped["mechanism"].agg(lambda texts: ", ".join(_firsts(texts, MAX_MECHANISMS))),
            "smiles": grouped["smiles"].agg(lambda texts: "".join(_firsts(texts, 1))),
        }
    )
    return out.reset_index()[list(COLUMNS)]


def _firsts(texts: Iterable[str], n: int) -> list[str]:
    return list(dict.fromkeys(text.strip() for text in texts if text.strip()))[:n]
