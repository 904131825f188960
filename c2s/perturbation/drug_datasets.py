"""Studies of compounds at doses, read from files that a user downloaded: sci-Plex3 and L1000."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace

import anndata as ad
import numpy as np
import pandas as pd

from c2s.cells.genes import listed
from c2s.cells.library import Perturbation
from c2s.cells.reading import complete_column, read_cells, require_column
from c2s.errors import DataError
from c2s.perturbation.describe import with_descriptions
from c2s.perturbation.gct import read_gct
from c2s.perturbation.study import PERTURBATION, Study, study_of


def load_sciplex3(
    path: str | os.PathLike[str],
    *,
    product_key: str = "product_name",
    dose_key: str = "dose",
    cell_type_key: str = "cell_type",
    vehicle: str = "Vehicle",
    dose_unit: str = "nM",
    time: str = "24 h",
    tables: Sequence[pd.DataFrame] = (),
    synonyms: Mapping[str, str] | None = None,
) -> Study:
    """Return three cancer lines under 188 compounds at four doses (Srivatsan et al., Science 2020).

    No file of this study was at hand: the column names are those that public code reads, and are arguments.

    Parameters
    ----------
    path
        An h5ad with a row a cell.
    product_key, dose_key, cell_type_key
        Columns of the compound, of the dose (a number), and of the line.
    vehicle : str
        The value of ``product_key`` in untreated cells.
    dose_unit, time : str
        Of all treated cells. Part of the A549 plates were read after 72 h: pass the cells of one time.
    tables, synonyms
        As :func:`c2s.perturbation.describe.with_descriptions`.

    Returns
    -------
    Study
        ``perturbation`` is ``"vehicle"`` or ``"Belinostat (PXD101), 10 nM"``; the context is ``cell_type``. ``compound`` is the compound alone: split by it.

    Raises
    ------
    ArtefactError
        The file cannot be read.
    DataError
        A column is missing or has gaps, a dose is no number above 0, or no cell is untreated.
    """
    cells = read_cells(path)
    products = np.array([name.strip() for name in complete_column(cells.obs, product_key, "product_key")])
    doses = pd.to_numeric(require_column(cells.obs, dose_key, "dose_key").astype(str), errors="coerce").to_numpy()
    treated = products != vehicle
    if wrong := int((treated & ~(doses > 0)).sum()):
        msg = (
            f"{wrong:,} treated cells have a {dose_key!r} that is no number above 0; leave them out, or pass dose_key="
        )
        raise DataError(msg)
    texts = [f"{dose:g} {dose_unit}" for dose in doses]
    names = np.where(treated, [f"{product}, {text}" for product, text in zip(products, texts)], "vehicle")
    of_name = {name: (product, text) for name, product, text in zip(names, products, texts) if name != "vehicle"}
    return _drugs(
        cells, names, products, of_name, dict.fromkeys(of_name, time), "vehicle", tables, synonyms, cell_type_key
    )


def load_l1000(
    path: str | os.PathLike[str],
    *,
    tables: Sequence[pd.DataFrame] = (),
    synonyms: Mapping[str, str] | None = None,
) -> Study:
    """Return profiles of L1000 (Subramanian et al., Cell 2017) from a GCT 1.3 file with its metadata.

    A row is a well or a signature, no cell, and the values are intensities or scores as they are in the file, no counts: what takes counts cannot take
    them.

    Parameters
    ----------
    path
        A file whose columns have the fields ``pert_iname``, ``pert_type``, ``pert_idose``, ``pert_itime`` and ``cell_id``, and whose rows have
        ``pr_gene_symbol``.
    tables, synonyms
        As :func:`c2s.perturbation.describe.with_descriptions`.

    Returns
    -------
    Study
        ``perturbation`` is ``"vehicle"`` (``pert_type`` ``ctl_vehicle``) or ``"neratinib, 10.0 um"``; the context is ``cell_type``, the line. ``compound`` is
        the compound alone: split by it. Where profiles were read after several times, the library says none: keep the profiles of one time.

    Raises
    ------
    ArtefactError
        As :func:`c2s.perturbation.gct.read_gct`.
    DataError
        The same, or a field is missing.
    """
    cells = read_gct(path)
    symbols = require_column(cells.var, "pr_gene_symbol", "path").astype(str)
    if symbols.duplicated().any():
        msg = f"gene symbols stand twice: {listed(sorted(set(symbols[symbols.duplicated()])))}; keep one row a gene"
        raise DataError(msg)
    cells.var = cells.var.set_axis(symbols.to_numpy())
    is_vehicle = complete_column(cells.obs, "pert_type", "path") == "ctl_vehicle"
    products = complete_column(cells.obs, "pert_iname", "path")
    doses = require_column(cells.obs, "pert_idose", "path").astype(object).where(cells.obs["pert_idose"].notna(), "")
    times = complete_column(cells.obs, "pert_itime", "path")
    names = np.where(
        is_vehicle, "vehicle", [f"{name}, {dose}" if dose else name for name, dose in zip(products, doses)]
    )
    rows = list(zip(names, products, doses, times))
    of_name = {name: (product, str(dose)) for name, product, dose, _ in rows if name != "vehicle"}
    time_of = {name: time for name, _, _, time in rows} if len(set(times)) == 1 else {}
    return _drugs(cells, names, products, of_name, time_of, "vehicle", tables, synonyms, "cell_id")


def _drugs(
    cells: ad.AnnData,
    names: np.ndarray,
    products: np.ndarray,
    of_name: Mapping[str, tuple[str, str]],
    times: Mapping[str, str],
    control: str,
    tables: Sequence[pd.DataFrame],
    synonyms: Mapping[str, str] | None,
    cell_type_key: str,
) -> Study:
    """Return a study whose perturbations are compounds at doses."""
    if control not in names:
        msg = f"no cell is untreated; found {listed(sorted(set(products)))}. Name the vehicle"
        raise DataError(msg)
    singles = [Perturbation(product) for product in sorted({product for product, _ in of_name.values()})]
    if tables:
        singles, _ = with_descriptions(singles, tables, synonyms=synonyms)
    known = {row.name: row for row in singles}
    library = [Perturbation(control, role="vehicle")]
    library += [
        replace(known[product], name=name, dose=dose, time=times.get(name, ""))
        for name, (product, dose) in sorted(of_name.items())
    ]
    columns = {
        PERTURBATION: names,
        "compound": np.where(names == control, control, products),
        "cell_type": complete_column(cells.obs, cell_type_key, "cell_type_key"),
    }
    return study_of(cells, columns, library, control, ("cell_type",))
