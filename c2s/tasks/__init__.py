"""Tasks by name: one file each, formats only."""

from __future__ import annotations

from c2s.tasks.base import Example, Genes, Mark, ParseError, Part, Task
from c2s.tasks.cell_generation import CellGeneration
from c2s.tasks.cell_type_annotation import CellTypeAnnotation
from c2s.tasks.perturbation_response import PerturbationResponse

TASKS: dict[str, type] = {task.name: task for task in (CellTypeAnnotation, CellGeneration, PerturbationResponse)}

__all__ = [
    "TASKS",
    "CellGeneration",
    "CellTypeAnnotation",
    "Example",
    "Genes",
    "Mark",
    "ParseError",
    "Part",
    "PerturbationResponse",
    "Task",
]
