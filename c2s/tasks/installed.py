"""The wordings of an installed cell2sentence, read at run time: nothing of them is part of this project."""

from __future__ import annotations

import json
import re
from importlib import metadata, util
from pathlib import Path

from c2s.errors import ArtefactError, ConfigError, MissingDependencyError

KNOWN_VERSION = "1.2.0"

# task: file of the package, and its names for our slots
_FILES = {
    "cell_type_annotation": ("single_cell_cell_type_prediction_prompts.json", {"cell_type": "label"}),
    "cell_generation": ("single_cell_cell_type_conditional_generation_prompts.json", {}),
    "tissue_inference": ("multi_cell_tissue_prediction_prompts.json", {"tissue": "label"}),
    "sample_generation": ("multi_cell_tissue_conditional_generation.json", {}),
    "sample_abstract": ("multi_cell_natural_lang_interpretation_prompts.json", {"abstract": "text"}),
}
_NAMES = {"num_genes": "top_k", "num_cells": "n_cells", "cell_sentence": "sentence", "multi_cell_sentences": "cells"}
INSTALLED_TASKS = tuple(_FILES)


def installed_wordings(package: str, task: str) -> tuple[str, tuple[str, ...], str]:
    """Return the package's version, its prompts for ``task`` and its answer, with our names of slots.

    The full stop behind a single cell's sentence is left to the style, which writes it with the genes.

    Raises
    ------
    ConfigError, MissingDependencyError, ArtefactError
        As in :meth:`c2s.tasks.prompt_set.PromptSet.from_installed`.
    """
    if package != "cell2sentence":
        msg = f"wordings of {package!r} are not known; choose 'cell2sentence'"
        raise ConfigError(msg)
    if task not in _FILES:
        msg = f"cell2sentence has no wordings for {task!r}; it has some for {', '.join(_FILES)}. Use PromptSet.of({task!r})"
        raise ConfigError(msg)
    file, names = _FILES[task]
    spec = util.find_spec(package)  # finds the folder and imports nothing
    if spec is None or not spec.submodule_search_locations:
        msg = f"the wordings of released Cell2Sentence checkpoints are read from their package: pip install --no-deps cell2sentence=={KNOWN_VERSION}"
        raise MissingDependencyError(msg)
    path = Path(next(iter(spec.submodule_search_locations))) / "prompts" / file
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        prompts, (answer,) = record["model_input"], record["response"]
        version = metadata.version(package)
        ours = tuple(_renamed(prompt, names, path) for prompt in prompts)
        return version, ours, _renamed(answer, names, path)
    except (OSError, ValueError, KeyError, TypeError, metadata.PackageNotFoundError) as error:
        msg = f"cannot read wordings from {path}: {error}. Known is version {KNOWN_VERSION}: pip install --no-deps cell2sentence=={KNOWN_VERSION}"
        raise ArtefactError(msg) from error


def _renamed(template: str, names: dict[str, str], path: Path) -> str:
    names = _NAMES | names
    text = re.sub(r"\{([a-z_]+)\}", lambda slot: "{" + names.get(slot[1], slot[1]) + "}", template)
    if "[" in text or "]" in text or re.search(r"\{sentence\}(?!\.)", text):
        msg = f"{path.name} holds a template of another form than version {KNOWN_VERSION}"
        raise ValueError(msg)
    return text.replace("{sentence}.", "{sentence}")
