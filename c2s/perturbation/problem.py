"""A trained response model and its training cells as a problem for the reinforcement-learning engine."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field

from c2s.cells.library import Perturbation
from c2s.cells.reading import complete_column
from c2s.config import Config
from c2s.errors import ConfigError, DataError, ModelError
from c2s.models.answers import perturbed_cells
from c2s.perturbation.predict import known_perturbations, trained_on
from c2s.perturbation.rewards import Conditions, ResponseRewards, read_cells
from c2s.sentences.delta import DeltaRule

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

    from c2s.engines.rl.problem import Problem
    from c2s.engines.rl.rewards import Reward
    from c2s.models.cell_lm import CellLM
    from c2s.models.tokenizer import PartTokenizer
    from c2s.sentences.corpus import CellSentences


class RewardConfig(Config):
    """What a written cell is rewarded for.

    Attributes
    ----------
    kind : {"energy", "squared_error", "kendall"}
        Credit in the energy distance between a prompt's answers and real cells (the default), or likeness to one real cell, which is
        mean-seeking and here to be compared with.
    verifier : bool, optional
        Whether the answer moved the right way, as the binary part of a recipe with ``flat_groups="hybrid"`` (HERO). Left out: with those
        recipes and no others.
    still_weight : float
        Of the same credit over the genes that no training perturbation moves, which penalises moving them; 0 leaves it out.
    programme : tuple of str
        Genes that are rewarded; those that respond in training where empty.
    real_cells : int
        That a prompt's answers are compared with.
    changed : int
        Control cells that each answer is applied to where answers are changes (``target="delta"``).
    n_prompts, n_held_out : int
        Control cells asked about, spread evenly over the conditions of training and of validation.
    """

    kind: Literal["energy", "squared_error", "kendall"] = "energy"
    verifier: bool | None = None
    still_weight: float = Field(1.0, ge=0)
    programme: tuple[str, ...] = ()
    real_cells: int = Field(64, ge=2)
    changed: int = Field(16, ge=2)
    n_prompts: int = Field(2048, ge=1)
    n_held_out: int = Field(64, ge=1)


def response_problem(
    model: CellLM, sentences: CellSentences, *, validation: NDArray[np.bool_], library: Sequence[Perturbation] | None = None,
    config: RewardConfig | None = None, seed: int = 0,
) -> tuple[Problem, Conditions]:  # fmt: skip
    """Return the problem of writing perturbed cells that are like real ones, and what it is measured against.

    Parameters
    ----------
    model : CellLM
        Trained on ``perturbation_response``; it is not changed.
    sentences : CellSentences
        Training cells, whole, with the model's columns in ``obs``; no test cell.
    validation : ndarray of bool, shape (n_cells,)
        Perturbed cells of conditions that are not trained on: held-out answers are asked for them. A condition is whole on either side.
    library : sequence of Perturbation, optional
        What the cells' perturbations are; the model's own library where left out.
    config : RewardConfig, optional
    seed : int
        Of the draws of control cells.

    Raises
    ------
    ModelError
        The model was trained on another task, or is none that foretells the next token.
    DataError
        Columns are missing, a perturbation is in neither library, or a condition is on both sides.
    ConfigError
        Nothing is held out, or nothing is left to train on.
    """
    from datasets import Dataset

    from c2s.engines.rl.pipeline import policy_copy
    from c2s.engines.rl.problem import Problem

    config = config or RewardConfig()
    model.require_next_token("reinforcement")
    model.require_all_layers("reinforced weights")
    spec, details = trained_on(model)
    names = complete_column(sentences.obs, details.perturbation_key, "perturbation_key")
    by = list(dict.fromkeys((*details.context_keys, *details.match_by)))
    for key in by:
        complete_column(sentences.obs, key, "context_keys or match_by")
    known = known_perturbations(details, names, library)
    keys = list(zip(*(sentences.obs[key].astype(str) for key in by), map(str, names), strict=True))
    is_control = names == details.control
    sides = [{key for key, out, c in zip(keys, validation, is_control) if out == side and not c} for side in (False, True)]  # fmt: skip
    if both := sides[0] & sides[1]:
        msg = f"{len(both)} conditions are both trained on and held out, such as {' | '.join(min(both))}; hold out whole conditions"
        raise DataError(msg)
    if not sides[0] or not sides[1]:
        msg = f"{len(sides[0])} conditions to train on and {len(sides[1])} held out; at least one of each is needed"
        raise ConfigError(msg)
    n_answer = spec.n_answer if spec.target == "sentence" else None
    conditions = Conditions.of(
        model, sentences, names, by=by, control=details.control, n_answer=n_answer, validation=validation & ~is_control,
        programme=config.programme, seed=seed,
    )  # fmt: skip
    rewards = ResponseRewards(
        conditions, answer_reader(model, sentences, n_answer=n_answer), real_cells=config.real_cells,
        changed=config.changed if spec.target == "delta" else 1,
    )  # fmt: skip
    first: Reward = rewards.energy() if config.kind == "energy" else rewards.to_one_cell(config.kind)
    dense = [first, *([rewards.still_genes(config.still_weight)] if config.still_weight else [])]
    tokenizer = prompt_tokenizer(model.tokens)
    rng = np.random.default_rng([seed, 32])
    rows = (
        pd.Series(range(len(keys)))[is_control].groupby(pd.Series([key[:-1] for key in keys])[is_control]).apply(list)
    )
    sets = []
    for side, n in ((sides[0], config.n_prompts), (sides[1], config.n_held_out)):
        kept = [key for key in conditions.keys if key in side]
        order = [kept[i] for i in rng.permutation(len(kept))]
        drawn = [(key, int(rng.choice(rows[key[:-1]]))) for key in itertools.islice(itertools.cycle(order), n)]
        sets.append(list(dict.fromkeys(drawn)))
    gene_ids = {symbol: i for i, symbol in enumerate(model.vocabulary.symbols)}

    def asked_of(key: tuple[str, ...], control: int) -> dict[str, Any]:
        context = {name: key[by.index(name)] for name in details.context_keys}
        parts = (*spec.prefix(sentences.row(control)), *spec.suffix(context, known[key[-1]], gene_ids))
        return {
            "prompt": prompt_text(parts, model.tokens, tokenizer), "condition": conditions.places[key], "control": control,
            "paired": int(rng.integers(1 << 30)),
        }  # fmt: skip

    prompts, held_out = (Dataset.from_list([asked_of(key, control) for key, control in each]) for each in sets)
    start = policy_copy(model.model)
    problem = Problem(
        lambda _: policy_copy(start), tokenizer, prompts, held_out, rewards=dense, verifier=rewards.direction() if config.verifier else None,
        held_out_reward=rewards.energy(), constraint=model.response_constraint(),
    )  # fmt: skip
    return problem, conditions


def answer_reader(
    model: CellLM, sentences: CellSentences, *, n_answer: int | None
) -> Callable[[Sequence[Sequence[int]], Sequence[int]], NDArray[np.float32]]:
    """Return what turns token ids of answers, and the rows of the controls shown, into cells (n, n_genes), log1p CP10k."""
    spec, details = trained_on(model)
    rule = DeltaRule.from_dict(details.delta_rule) if details.delta_rule else None
    unnamed = [Perturbation("answer")]

    def read(completion_ids: Sequence[Sequence[int]], controls: Sequence[int]) -> NDArray[np.float32]:
        longest = max(map(len, completion_ids))
        padded = np.full((len(completion_ids), 1, 1, longest), model.tokens.pad, dtype=np.int64)
        for row, ids in enumerate(completion_ids):
            padded[row, 0, 0, : len(ids)] = ids
        shown = sentences[np.asarray(controls, dtype=np.int64)]
        bare = shown.with_obs(pd.DataFrame(index=pd.RangeIndex(len(shown)).astype(str)))
        cells = perturbed_cells(
            padded, bare, unnamed, tokens=model.tokens, rule=rule, target=spec.target, background=model.background
        )
        return read_cells(model, cells, n_answer)

    return read


def prompt_tokenizer(tokens: PartTokenizer) -> PreTrainedTokenizerFast:
    """Return a copy of a model's tokenizer that reads ``<gene:X>`` in a text as the token of gene X, which the model's own never does."""
    from tokenizers import AddedToken

    found = copy.deepcopy(tokens.tokenizer)
    genes = found.convert_ids_to_tokens(tokens.gene_tokens.tolist())
    found.add_tokens([AddedToken(gene, normalized=False, special=True) for gene in genes], special_tokens=True)
    if len(found) != len(tokens.tokenizer):
        msg = "gene tokens are not part of the tokenizer's vocabulary; the model folder was changed"
        raise ModelError(msg)
    return found


def prompt_text(parts: Sequence[Any], tokens: PartTokenizer, tokenizer: PreTrainedTokenizerFast) -> str:
    """Return the text that the engine's tokenizer reads as the tokens of ``parts``.

    Raises
    ------
    DataError
        A name or a context that it would read otherwise, such as one that spells a mark.
    """
    ids = tokens.render(parts)
    texts: list[str] = []
    for part in parts:
        own = tokens.render((part,))
        if isinstance(part, str):
            texts.append(f" {part}" if texts and not texts[-1].endswith(">") else part)
        else:
            texts.append("".join(tokenizer.convert_ids_to_tokens(own)))
    text = "".join(texts)
    if tokenizer(text, add_special_tokens=False)["input_ids"] != ids:
        shown = [part for part in parts if isinstance(part, str)]
        msg = f"one of {shown} cannot be written as a text and read back as the same tokens; rename it (marks such as <cell> are reserved)"
        raise DataError(msg)
    return text
