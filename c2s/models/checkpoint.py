"""Any causal language model of transformers: a folder or a hub's name, its precision, its adapter; nothing downloaded unasked."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from c2s.artefacts import read_json
from c2s.errors import ArtefactError, ConfigError, MissingDependencyError
from c2s.models.folder import refuse_broken_weights
from c2s.quiet import no_bars

Quantization = Literal["4bit", "8bit"]


def read_checkpoint(
    source: str | Path,
    *,
    device: str | None = None,
    dtype: str = "auto",
    device_map: str | dict[str, Any] | None = None,
    quantization: Quantization | None = None,
    adapter: str | Path | None = None,
    download: bool = False,
    trust_remote_code: bool = False,
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Return a model in evaluation mode and its tokenizer; the arguments are those of :func:`c2s.load_model`.

    Raises
    ------
    ArtefactError
        Not a checkpoint, not on this machine (and ``download`` is false), or files are missing or truncated.
    ConfigError
        Settings that contradict each other.
    MissingDependencyError
        ``quantization`` without bitsandbytes.
    """
    if device is not None and device_map is not None:
        msg = f"device={device!r} and device_map={device_map!r}; give one of them"
        raise ConfigError(msg)
    base, lora = _base_and_adapter(source, adapter)
    settings: dict[str, Any] = {"trust_remote_code": trust_remote_code, "local_files_only": not download}
    placed = device_map
    if quantization is not None:
        settings["quantization_config"] = _quantized(quantization)
        placed = placed or device or ("cuda" if torch.cuda.is_available() else "cpu")
    if placed is not None:
        settings["device_map"] = placed
    try:
        with no_bars():
            tokenizer = AutoTokenizer.from_pretrained(
                base, trust_remote_code=trust_remote_code, local_files_only=not download
            )
            model, report = AutoModelForCausalLM.from_pretrained(
                base, dtype=dtype, use_safetensors=True, output_loading_info=True, **settings
            )
            if lora is not None:
                from peft import PeftModel

                tuned: Any = PeftModel.from_pretrained(model, lora, local_files_only=not download)
                model = tuned if quantization else tuned.merge_and_unload()
    except Exception as error:  # transformers, tokenizers, huggingface_hub, peft and safetensors raise their own kinds
        raise ArtefactError(_why(base, error, download=download)) from error
    refuse_broken_weights(model, report, base)
    n_embeddings = model.get_input_embeddings().num_embeddings
    if n_embeddings < len(tokenizer):
        msg = f"{base}: {len(tokenizer)} tokens but {n_embeddings} embeddings; the files belong to different models"
        raise ArtefactError(msg)
    if placed is None:
        model = model.to(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    return model.eval(), tokenizer


def _base_and_adapter(source: str | Path, adapter: str | Path | None) -> tuple[str, str | None]:
    """Return the base model and the adapter; a folder that holds only an adapter names its base."""
    folder = Path(source)
    record = folder / "adapter_config.json"
    if not record.is_file() or (folder / "config.json").is_file():
        if folder.is_dir() and not (folder / "config.json").is_file():
            msg = f"{folder} holds no config.json, so it is not a c2s model, nor one of transformers; give the folder with the weights"
            raise ArtefactError(msg)
        return str(source), None if adapter is None else str(adapter)
    if adapter is not None:
        msg = f"{folder} is an adapter itself; give its base model, or leave out adapter={str(adapter)!r}"
        raise ConfigError(msg)
    base = read_json(record).get("base_model_name_or_path")
    if not base:
        msg = f"{record} does not name its base model; pass that as the model and {folder} as adapter="
        raise ArtefactError(msg)
    return str(base), str(folder)


def _quantized(kind: str) -> Any:
    if kind not in get_args(Quantization):
        msg = f"quantization={kind!r}; choose {' or '.join(map(repr, get_args(Quantization)))}"
        raise ConfigError(msg)
    if importlib.util.find_spec("bitsandbytes") is None:
        msg = f'quantization={kind!r} needs bitsandbytes: pip install "c2s[quantized]"'
        raise MissingDependencyError(msg)
    from transformers import BitsAndBytesConfig

    if kind == "8bit":
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.bfloat16)


def _why(base: str, error: Exception, *, download: bool) -> str:
    folder = Path(base)
    if folder.is_dir():
        if list(folder.glob("*.bin")) and not list(folder.glob("*.safetensors")):
            return (
                f"{base} holds pickled weights only, which can run any code when they are read; convert them to safetensors "
                "in a place you trust: model.save_pretrained(folder)"
            )
        return f"cannot load the model in {base}: {error}. The files may be truncated, or of another kind of model"
    if download:
        return f"cannot load {base}: {error}"
    return (
        f"there is no folder {base}, and no model of that name among those downloaded before. Pass download=True to fetch it "
        f"from its hub, or the folder that holds it"
    )
