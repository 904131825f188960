"""One call for every checkpoint: a folder of ``c2s train``, or any causal language model of transformers."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch

from c2s.engines.elastic_cache.settings import DecodeSettings, preset
from c2s.engines.layer_routing.router import Router
from c2s.errors import ConfigError
from c2s.models.cell_lm import CellLM
from c2s.models.checkpoint import Quantization, read_checkpoint
from c2s.models.diffusion_lm import DiffusionLM
from c2s.models.folder import ModelParts
from c2s.models.routed_prefix import require_own_router
from c2s.models.settings import SETTINGS_FILE
from c2s.models.text_lm import TextLM
from c2s.tasks.prompt_set import prompt_set


def load_model(
    source: str | os.PathLike[str],
    *,
    device: str | None = None,
    dtype: str = "auto",
    device_map: str | dict[str, Any] | None = None,
    quantization: Quantization | None = None,
    adapter: str | os.PathLike[str] | None = None,
    prompts: str = "c2s",
    n_genes: int = 200,
    download: bool = False,
    trust_remote_code: bool = False,
    decoding: DecodeSettings | str | os.PathLike[str] | None = None,
    routing: Router | str | os.PathLike[str] | None = None,
) -> CellLM | TextLM:
    """Return a language model of cells.

    A folder that ``c2s train`` wrote gives a :class:`~c2s.models.cell_lm.CellLM`, in which a gene is a token. Any other causal
    language model gives a :class:`~c2s.models.text_lm.TextLM`, which reads sentences as words.

    Parameters
    ----------
    source : path or str
        A folder, or the name of a model on the hub that was downloaded before (or is, with ``download``). A folder with a LoRA
        adapter alone loads the base model it names.
    device : str, optional
        ``"cuda"`` when there is one, else ``"cpu"``.
    dtype : str
        A torch dtype name, or ``"auto"`` for the one on disk.
    device_map : str or dict, optional
        ``"auto"`` spreads a model over the devices there are (transformers and accelerate).
    quantization : {"4bit", "8bit"}, optional
        By bitsandbytes, extra ``c2s[quantized]``.
    adapter : path, optional
        A LoRA adapter of peft; it is merged into the weights unless these are quantized.
    prompts : str
        Of a TextLM: ``"c2s"``, or the installed package ``"cell2sentence"``, whose wordings its released checkpoints know.
    n_genes : int
        Of a TextLM: genes shown of each cell.
    download : bool
        Fetch what is not on this machine from the hub.
    trust_remote_code : bool
        Run code that comes with a checkpoint.
    decoding : DecodeSettings or str, optional
        Of a masked-diffusion model: how answers are filled; settings, the name of a preset, or a JSON file of settings.
    routing : Router or path, optional
        Of a model of ``c2s train`` that foretells the next token: the router of ``c2s route train`` that decides which layers each
        cell skips, runs or repeats. It must have been trained on these weights.

    Raises
    ------
    ArtefactError
        No such folder, a file is missing or truncated, or weights are pickled.
    ModelError
        The files do not belong together or were written by a newer c2s; or the router is of another model.
    ConfigError
        Settings that contradict each other, or ``prompts`` that there are not.
    MissingDependencyError
        ``quantization`` without its extra, or ``prompts`` of a package that is not installed.
    """
    folder = Path(source)
    if any((folder / inner / SETTINGS_FILE).is_file() for inner in ("", "model")):
        asked = {"device_map": device_map, "quantization": quantization, "adapter": adapter}
        if wrong := [name for name, value in asked.items() if value is not None]:
            msg = f"{folder} is a model of c2s train, which takes no {', '.join(wrong)}; give device= and dtype= only"
            raise ConfigError(msg)
        return load_cell_lm(folder, device=device, dtype=dtype, decoding=decoding, routing=routing)
    if decoding is not None:
        msg = f"decoding says how masked-diffusion models of c2s train fill an answer; {source} is none, leave it out"
        raise ConfigError(msg)
    if routing is not None:
        msg = f"a router decides the layers of a model of c2s train, whose prompts it was trained on; {source} is none, leave routing out"
        raise ConfigError(msg)
    prompt_set(prompts, "cell_type_annotation")  # before minutes of loading
    model, tokenizer = read_checkpoint(
        str(source), device=device, dtype=dtype, device_map=device_map, quantization=quantization,
        adapter=None if adapter is None else os.fspath(adapter), download=download, trust_remote_code=trust_remote_code,
    )  # fmt: skip
    return TextLM(model, tokenizer, prompts=prompts, n_genes=n_genes)


def load_cell_lm(
    folder: str | os.PathLike[str],
    *,
    device: str | None = None,
    dtype: str = "auto",
    decoding: DecodeSettings | str | os.PathLike[str] | None = None,
    routing: Router | str | os.PathLike[str] | None = None,
) -> CellLM:
    """Return the model in ``folder``, as ``c2s train`` writes it; the arguments are those of :func:`load_model`.

    Raises
    ------
    ArtefactError
        No such folder, no ``c2s.json`` in it, or a file is missing or truncated.
    ModelError
        The files do not belong together or were written by a newer c2s; or the router is of another model, or this one fills masks.
    ConfigError
        ``decoding`` for a model that foretells the next token, or settings that there are not.
    """
    settings = _decoding(decoding)
    router = routing if routing is None or isinstance(routing, Router) else Router.load(routing)
    parts = ModelParts.read(folder, dtype=dtype)
    parts.model.to(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    found = cell_lm(parts)
    if settings is not None:
        if not isinstance(found, DiffusionLM):
            msg = f"{folder} foretells the next token; decoding is read by models of --objective masked_diffusion, leave it out"
            raise ConfigError(msg)
        found.decoding = settings
    if router is not None:
        found.require_next_token("layer routing")
        require_own_router(router, found.model)
        found.routing = router.to(found.model.device)
    return found


def _decoding(asked: DecodeSettings | str | os.PathLike[str] | None) -> DecodeSettings | None:
    if asked is None or isinstance(asked, DecodeSettings):
        return asked
    name = os.fspath(asked)
    return DecodeSettings.from_file(name) if name.endswith((".json", ".toml")) else preset(name)


def cell_lm(parts: ModelParts) -> CellLM:
    """Return the model that ``parts`` make, of the class that their objective asks for."""
    made = DiffusionLM if parts.settings.objective == "masked_diffusion" else CellLM
    return made(
        parts.model.eval(),
        parts.tokens,
        parts.background,
        parts.settings,
        decoder=parts.decoder,
        responses=parts.responses,
    )
