"""Cells in place: neighbourhoods from coordinates, groups and splits of tissue, and knowledge of gene pairs for prompts."""

from __future__ import annotations

from c2s.spatial.groups import Groups, neighbourhood_groups, niche_groups
from c2s.spatial.neighbourhoods import Neighbourhoods, coordinates_of
from c2s.spatial.splits import SpatialSplit, block_split, blocks_of, leave_one_sample_out

__all__ = [
    "Groups",
    "Neighbourhoods",
    "SpatialSplit",
    "block_split",
    "blocks_of",
    "coordinates_of",
    "leave_one_sample_out",
    "neighbourhood_groups",
    "niche_groups",
]
