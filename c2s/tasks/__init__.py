"""Tasks by name: one file each, formats only."""

from __future__ import annotations

from c2s.tasks.base import Example, Genes, Mark, ParseError, Part, Task
from c2s.tasks.cell_generation import CellGeneration
from c2s.tasks.cell_type_annotation import CellTypeAnnotation
from c2s.tasks.cluster_captioning import ClusterCaptioning
from c2s.tasks.dataset_summary import DatasetSummary
from c2s.tasks.gene_set_enumeration import GeneSetEnumeration
from c2s.tasks.gene_set_naming import GeneSetNaming
from c2s.tasks.language_modelling import LanguageModelling
from c2s.tasks.multi_cell_language_modelling import MultiCellLanguageModelling
from c2s.tasks.neighbour_generation import NeighbourGeneration
from c2s.tasks.niche_label import NicheLabel
from c2s.tasks.perturbation_inverse import PerturbationInverse
from c2s.tasks.perturbation_response import PerturbationResponse
from c2s.tasks.prompt_set import PromptSet
from c2s.tasks.question_answering import Question, QuestionAnswering
from c2s.tasks.same_neighbourhood import SameNeighbourhood
from c2s.tasks.same_niche import SameNiche
from c2s.tasks.sample_abstract import SampleAbstract
from c2s.tasks.sample_cell_types import SampleCellTypes
from c2s.tasks.sample_generation import SampleGeneration
from c2s.tasks.samples import Samples, draw_samples
from c2s.tasks.text_task import TextTask
from c2s.tasks.tissue_inference import TissueInference
from c2s.tasks.wording import SentenceStyle, render_text

TASKS: dict[str, type] = {
    task.name: task
    for task in (
        LanguageModelling,
        CellTypeAnnotation,
        CellGeneration,
        MultiCellLanguageModelling,
        TissueInference,
        SampleGeneration,
        SampleCellTypes,
        SampleAbstract,
        ClusterCaptioning,
        DatasetSummary,
        QuestionAnswering,
        GeneSetNaming,
        GeneSetEnumeration,
        NicheLabel,
        NeighbourGeneration,
        SameNeighbourhood,
        SameNiche,
        PerturbationResponse,
        PerturbationInverse,
    )
}

__all__ = [
    "TASKS",
    "CellGeneration",
    "CellTypeAnnotation",
    "ClusterCaptioning",
    "DatasetSummary",
    "Example",
    "GeneSetEnumeration",
    "GeneSetNaming",
    "Genes",
    "LanguageModelling",
    "Mark",
    "MultiCellLanguageModelling",
    "NeighbourGeneration",
    "NicheLabel",
    "ParseError",
    "Part",
    "PerturbationInverse",
    "PerturbationResponse",
    "PromptSet",
    "Question",
    "QuestionAnswering",
    "SameNeighbourhood",
    "SameNiche",
    "SampleAbstract",
    "SampleCellTypes",
    "SampleGeneration",
    "Samples",
    "SentenceStyle",
    "Task",
    "TextTask",
    "TissueInference",
    "draw_samples",
    "render_text",
]
