"""Checksums of what users download: a file is the one that was read here, or it is refused."""

from __future__ import annotations

import gzip
import hashlib
import os
from pathlib import Path

from c2s.artefacts import require_access
from c2s.cells.genes import listed
from c2s.errors import ArtefactError, ConfigError

# SHA-256 of the contents, unpacked, as the files are in their repositories: olegursu/drugtarget, broadinstitute/lincs-cell-painting,
# cole-trapnell-lab/sci-plex, thomasmaxwellnorman/Perturbseq_GI, cmap/cmapPy. There is none of the h5ad files (Kang, Norman, sci-Plex3, Dong) and of
# L1000's own: each is given out in several versions, and none was seen here as it is given out.
CHECKSUMS = {
    "drugcentral_drug_target.tsv": "9c21962c0c5753bc6f012022d37384991d01df3ab4fde863aa4e62a30bc456be",
    "repurposing_drugs_20200324.txt": "9c3a08b9d4369fe4257dc9aa763d682fc5ef6b7dd0615534bb44f92b48bc287b",
    "repurposing_samples_20200324.txt": "3324dfac93d19ceaeafbe7d9e466127709328777cb2f6c5a465740cd327088e9",
    "sciplex_drugProperties_short.tsv": "2fb69b8f9014c911fb48b39593a066cf67c21a0875529cbdaacb4c14c197c533",
    "sciplex_Supplementary_Table_3.txt": "dddd94490c3c24b1e8d115dc191c2848ff3dcccace76a93983351e4c41d29aee",
    "processed_emap.csv": "bb163917c350ad327c54fb635ccaa85df9618de890f39ec2865ba0ee50e7645e",
    "processed_fitnesses.csv": "5624edd4fb2aca77aeb9361c98a97823be21586e0fdc553972c76f5c7061b0a2",
    "processed_perturbseq_emap.csv": "87f13d1cd7c055bff653474a1e1f74a6249933b5e49c980638d7fffcf7489f21",
    "processed_perturbseq_fitnesses.csv": "2a236f57535405cfb201b68b51138d7aeb6424853d8e300d100192739a938a40",
    "test_l1000.gct": "efd7682a473e84f3bd76e79d83f99dcf35744fb0557322564468e80bf8d15a95",
}


def verified(path: str | os.PathLike[str], name: str) -> Path:
    """Return ``path`` if the file's contents, unpacked, have the checksum recorded under ``name`` in :data:`CHECKSUMS`.

    Raises
    ------
    ConfigError
        No checksum of that name is recorded.
    ArtefactError
        The file cannot be read or has another checksum.
    """
    if name not in CHECKSUMS:
        msg = f"no checksum of {name!r} is known, so that nothing can be verified; known are {listed(CHECKSUMS, len(CHECKSUMS))}"
        raise ConfigError(msg)
    file = Path(path)
    require_access(file)
    try:
        raw = file.read_bytes()
        found = hashlib.sha256(gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw).hexdigest()
    except (OSError, EOFError) as error:
        msg = f"cannot read {file}: {error}. Download it again"
        raise ArtefactError(msg) from error
    if found != CHECKSUMS[name]:
        msg = f"{file} has SHA-256 {found} (unpacked), {name} has {CHECKSUMS[name]}: it is another version or damaged. Download it again"
        raise ArtefactError(msg)
    return file
