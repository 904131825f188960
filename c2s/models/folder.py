"""A model on disk: an ordinary transformers folder with ``c2s.json``, a decoder and, for drug models, responses."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from c2s.artefacts import atomic_path, read_json, write_json
from c2s.cells.genes import GeneVocabulary, listed
from c2s.errors import ArtefactError, ModelError
from c2s.models.settings import FORMAT, SETTINGS_FILE, ModelSettings
from c2s.models.tokenizer import PartTokenizer
from c2s.quiet import no_bars
from c2s.sentences.background import Background
from c2s.sentences.decode import RankDecoder

RESPONSES_FILE = "responses.parquet"


@dataclass
class ModelParts:
    """What a model folder holds; :class:`c2s.models.cell_lm.CellLM` says what each part is."""

    model: PreTrainedModel
    tokens: PartTokenizer
    background: Background
    settings: ModelSettings
    decoder: RankDecoder
    responses: pd.DataFrame | None

    def write(self, folder: str | os.PathLike[str]) -> None:
        """Write weights (safetensors), tokenizer, decoder, responses and, last, ``c2s.json``."""
        with no_bars():
            self.model.save_pretrained(folder)  # safetensors
        self.tokens.tokenizer.save_pretrained(folder)
        self.decoder.write(Path(folder) / "decoder", overwrite=True)
        if self.responses is not None:
            with atomic_path(Path(folder) / RESPONSES_FILE) as temporary:
                self.responses.to_parquet(temporary)
        record = {
            "vocabulary": self.tokens.vocabulary.to_dict(),
            "background": self.background.to_dict(),
            "settings": self.settings.with_(format=FORMAT).model_dump(mode="json"),
        }
        write_json(Path(folder) / SETTINGS_FILE, record)

    @classmethod
    def read(cls, folder: str | os.PathLike[str], *, dtype: str = "auto") -> ModelParts:
        """Return the parts in ``folder``, or in the ``model`` folder of a run. Nothing is downloaded.

        Raises
        ------
        ArtefactError
            No such folder, or a file is missing or truncated.
        ModelError
            The files do not belong together or were written by a newer c2s.
        """
        path = Path(folder)
        if path.joinpath("model", SETTINGS_FILE).is_file():
            path = path / "model"  # a run folder of c2s train
        if not path.joinpath(SETTINGS_FILE).is_file():
            msg = f"{folder} holds no {SETTINGS_FILE}, so it is not a c2s model; give the folder that c2s train wrote"
            raise ArtefactError(msg)
        record = read_json(path / SETTINGS_FILE)
        if not isinstance(record, dict) or not {"settings", "vocabulary", "background"} <= record.keys():
            msg = f"{path / SETTINGS_FILE} lacks the settings, the vocabulary or the background; train or copy the model again"
            raise ArtefactError(msg)
        written = record["settings"].get("format", FORMAT)
        if written > FORMAT:  # asked first, because it may hold fields that this c2s does not know
            msg = f"{folder} was written by a newer c2s (format {written}, this one reads up to {FORMAT}); upgrade c2s"
            raise ModelError(msg)
        if written < 2:  # a setting of training that is no more
            record["settings"].get("tasks", {}).get("perturbation_response", {}).pop("moved_ranks", None)
        settings = ModelSettings(**record["settings"])
        vocabulary = GeneVocabulary.from_dict(record["vocabulary"])
        try:
            with no_bars():
                tokenizer = AutoTokenizer.from_pretrained(path, local_files_only=True, trust_remote_code=False)
                model, report = AutoModelForCausalLM.from_pretrained(
                    path,
                    local_files_only=True,
                    trust_remote_code=False,
                    dtype=dtype,
                    use_safetensors=True,
                    output_loading_info=True,
                )
        except Exception as error:  # transformers, tokenizers and safetensors raise their own kinds
            msg = f"cannot load the model in {folder}: {error}. The files may be truncated; train or copy it again"
            raise ArtefactError(msg) from error
        refuse_broken_weights(model, report, folder)
        n_embeddings = model.get_input_embeddings().num_embeddings
        if n_embeddings < len(tokenizer):
            msg = (
                f"{folder}: {len(tokenizer)} tokens but {n_embeddings} embeddings; the files belong to different models"
            )
            raise ModelError(msg)
        return cls(
            model,
            PartTokenizer(tokenizer, vocabulary),
            Background.from_dict(record["background"]),
            settings,
            decoder=RankDecoder.read(path / "decoder"),
            responses=_read_responses(path / RESPONSES_FILE),
        )


def refuse_broken_weights(model: PreTrainedModel, report: Mapping[str, Any], source: str | os.PathLike[str]) -> None:
    """Raise a ModelError where weights were missing, and so are random, or are no numbers; ``report`` is transformers' of the loading."""
    if missing := sorted(report.get("missing_keys", ())):
        msg = f"{source} lacks {len(missing)} of the model's weights ({listed(missing, 3)}), which would be random; copy or train it again"
        raise ModelError(msg)
    broken = [
        name for name, each in model.named_parameters() if each.is_floating_point() and not bool(each.isfinite().all())
    ]
    if broken:
        msg = f"{len(broken)} weights of {source} hold values that are no numbers ({listed(broken, 3)}); training diverged, or the file is damaged"
        raise ModelError(msg)


def _read_responses(path: Path) -> pd.DataFrame | None:
    if not path.is_file():
        return None
    try:
        return pd.read_parquet(path)
    except (OSError, ValueError) as error:  # pyarrow's errors are ValueErrors
        msg = f"cannot read {path}: {error}. It may be truncated; train or copy the model again"
        raise ArtefactError(msg) from error
