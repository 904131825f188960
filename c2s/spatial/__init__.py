"""Cells in place: neighbourhoods from coordinates, groups and splits of tissue, and knowledge of gene pairs for prompts."""

from __future__ import annotations

from c2s.spatial.groups import Groups, held_out_neighbours, neighbourhood_groups, niche_groups
from c2s.spatial.interactions import read_biogrid, read_cellphonedb, read_omnipath, read_pairs
from c2s.spatial.knowledge import GenePair, PairIndex, PairKnowledge, knowledge_lines
from c2s.spatial.neighbourhoods import Neighbourhoods, coordinates_of
from c2s.spatial.splits import SpatialSplit, block_folds, block_split, blocks_of, leave_one_sample_out

__all__ = [
    "GenePair",
    "Groups",
    "Neighbourhoods",
    "PairIndex",
    "PairKnowledge",
    "SpatialSplit",
    "block_folds",
    "block_split",
    "blocks_of",
    "coordinates_of",
    "held_out_neighbours",
    "knowledge_lines",
    "leave_one_sample_out",
    "neighbourhood_groups",
    "niche_groups",
    "read_biogrid",
    "read_cellphonedb",
    "read_omnipath",
    "read_pairs",
]
