"""Does a model read what it is told? The likelihood of real answers under their own prompt, against prompts in which one thing was swapped.

A model that answers by what all perturbations have in common, or by the context alone, loses nothing when the perturbation in its prompt is another.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import scipy.sparse as sp
import torch
from numpy.typing import NDArray

from c2s.cells.library import Perturbation
from c2s.cells.matching import match_controls, pool_alike, strata_of
from c2s.cells.normalise import to_log1p_cp10k
from c2s.cells.reading import complete_column, expression
from c2s.errors import DataError
from c2s.models.batching import TOKENS, by_length, right_padded
from c2s.perturbation.predict import known_perturbations, trained_on
from c2s.results import Result
from c2s.sentences.delta import DeltaRule
from c2s.stats import bootstrap_interval
from c2s.tasks.base import Example

if TYPE_CHECKING:
    from anndata import AnnData

    from c2s.models.cell_lm import CellLM

logger = logging.getLogger(__name__)

Array = NDArray[np.float64]
SWAPS = ("perturbation", "context", "cell")
ROWS = 64  # of a batch


def swap_gaps(
    model: CellLM, cells: AnnData, *, library: Sequence[Perturbation] | None = None, layer: str | None = None, n_cells: int = 256,
    n_treated: int = 4, n_controls: int = 8, seed: int = 0,
) -> list[Result]:  # fmt: skip
    """Return how much less likely real answers become where perturbation, context or control cell of the prompt are another's.

    Parameters
    ----------
    model : CellLM
        Trained on ``perturbation_response``.
    cells : AnnData
        Perturbed cells and their controls, which the model was not trained on.
    library : sequence of Perturbation, optional
        What the perturbations are; the model's own where left out.
    n_cells : int
        Perturbed cells asked about, spread evenly over conditions.
    n_treated, n_controls : int
        Of ``target="delta"``: cells averaged for an answer, as in training.
    seed : int

    Returns
    -------
    list of Result
        One of each swap: mean over conditions of the log-likelihood of the answer under its own prompt less that under the swapped one, nats a
        token, with a 95 % bootstrap interval over conditions; about 0 where the model does not read it. Another perturbation is drawn from the
        conditions of the cells, another context from theirs, another control cell from any other context (from the same where there is one).
        NaN with the reason where there is nothing to swap.

    Raises
    ------
    ModelError
        The model was trained on another task.
    DataError
        Columns are missing, no perturbed cell has a control of its context, or a perturbation is not in the library.
    """
    model.require_all_layers("swap gaps")
    spec, details = trained_on(model)
    names = complete_column(cells.obs, details.perturbation_key, "perturbation_key")
    known = known_perturbations(details, names, library)
    rng = np.random.default_rng([seed, 41])
    keys = list(details.context_keys)
    columns = {key: complete_column(cells.obs, key, "context_keys") for key in keys}
    by, control = list(dict.fromkeys((*keys, *details.match_by))), np.flatnonzero(names == details.control)
    strata = strata_of(cells.obs, by)
    asked = np.flatnonzero((names != details.control) & np.isin(strata, strata[control]))
    if len(lone := np.flatnonzero((names != details.control) & ~np.isin(strata, strata[control]))):
        logger.warning(
            "%d perturbed cells have no control of their context and are left out of the swap gaps", len(lone)
        )
    treated = _evenly(pd.DataFrame({**columns, "perturbation": names}), asked, n_cells, rng)  # fmt: skip
    if not len(treated):
        msg = f"no perturbed cell has a control ({details.control!r}) of its context; there is no answer to ask for"
        raise DataError(msg)
    sentences = model.encode(cells, layer=layer)
    if spec.target == "delta":
        assert details.delta_rule is not None
        pools = pool_alike(
            cells.obs, cells=treated, among=np.flatnonzero(names != details.control), by=[*by, details.perturbation_key],
            k=n_treated, rng=rng,
        )  # fmt: skip
        matches = match_controls(cells.obs, perturbed=treated, control=control, by=by, k=n_controls, rng=rng)
        matrix, genes = expression(cells, layer=layer)
        values = _in_order(to_log1p_cp10k(matrix)[0], genes, model.vocabulary.symbols)
        lists = DeltaRule.from_dict(details.delta_rule).read(values, pools, matches)
        answers = [spec.delta_answer(up, down) for up, down in zip(*lists)]
    else:
        matches = match_controls(cells.obs, perturbed=treated, control=control, by=by, k=1, rng=rng)
        answers = [spec.sentence_answer(sentences.row(int(cell))) for cell in treated]
    contexts = [tuple(columns[key][row] for key in keys) for row in treated]
    gene_ids = {symbol: i for i, symbol in enumerate(model.vocabulary.symbols)}

    def likelihood(controls: NDArray[np.int64], given: Sequence[str], context: Sequence[tuple[str, ...]]) -> Array:
        prompts = [
            (*spec.prefix(sentences.row(int(cell))), *spec.suffix(dict(zip(keys, values)), known[name], gene_ids))
            for cell, name, values in zip(controls, given, context)
        ]
        return answer_log_likelihoods(model, [Example(one, other) for one, other in zip(prompts, answers)])

    own = [str(name) for name in names[treated]]
    before = likelihood(matches[:, 0], own, contexts)
    conditions = pd.factorize(pd.Series(list(zip(own, contexts))))[0]
    swapped: dict[str, Array | str] = {}
    others = sorted(set(own))
    if len(others) < 2:
        swapped["perturbation"] = "there is one perturbation"
    else:
        drawn = [str(rng.choice([name for name in others if name != mine])) for mine in own]
        swapped["perturbation"] = likelihood(matches[:, 0], drawn, contexts)
    places = sorted(set(contexts))
    if len(places) < 2:
        swapped["context"] = "there is one context"
    else:
        drawn_places = [places[int(rng.choice([i for i, each in enumerate(places) if each != mine]))] for mine in contexts]  # fmt: skip
        swapped["context"] = likelihood(matches[:, 0], own, drawn_places)
    of_cell = [tuple(columns[key][row] for key in keys) for row in control]
    pool = [np.array([c for c, each in zip(control, of_cell) if len(places) < 2 or each != mine]) for mine in contexts]
    if any(len(each) < 2 for each in pool):
        swapped["cell"] = "there are no other control cells"
    else:
        swapped["cell"] = likelihood(np.array([int(rng.choice(each)) for each in pool]), own, contexts)
    return [_gap(name, before, swapped[name], conditions, seed) for name in SWAPS]


@torch.no_grad()
def answer_log_likelihoods(model: CellLM, examples: Sequence[Example]) -> Array:
    """Return the mean log-probability of each example's answer tokens, nats, shape (n,).

    A masked-diffusion model is asked for every place with the whole answer hidden.
    """
    prompts = [model.tokens.render(example.prompt) for example in examples]
    answers = [model.tokens.render(example.answer) for example in examples]
    in_turn = model.settings.objective == "next_token"
    canvas = [] if in_turn else [model.tokens.mask] * model.response_constraint().max_length
    whole = [prompt + (answer if in_turn else canvas) for prompt, answer in zip(prompts, answers)]
    found = np.zeros(len(whole))
    device = model.model.device
    for rows, batch in by_length(whole, tokens=TOKENS.get(device.type, TOKENS["cpu"]), rows=ROWS):
        ids, seen = right_padded(batch, model.tokens.pad, device)
        hidden = model.model.get_decoder()(input_ids=ids, attention_mask=seen, use_cache=False).last_hidden_state
        for place, row in enumerate(rows):
            first = len(prompts[row]) - in_turn  # where the model says what the answer's first token is
            logits = model.model.get_output_embeddings()(hidden[place, first : first + len(answers[row])]).float()
            asked = torch.tensor(answers[row], device=device)
            found[row] = float(torch.log_softmax(logits, -1).gather(1, asked[:, None]).mean())
    return found


def _in_order(matrix: sp.csr_matrix, genes: Sequence[str], wanted: Sequence[str]) -> sp.csr_matrix:
    """Return the columns of ``wanted`` genes, zeros where the matrix has none."""
    place = {str(gene): i for i, gene in enumerate(genes)}
    known = [i for i, gene in enumerate(wanted) if gene in place]
    pick = sp.csr_matrix(
        (np.ones(len(known), dtype=matrix.dtype), ([place[wanted[i]] for i in known], known)), shape=(len(place), len(wanted))
    )  # fmt: skip
    return (matrix @ pick).tocsr()


def _gap(name: str, before: Array, after: Array | str, conditions: NDArray[np.int64], seed: int) -> Result:
    metric = f"swap gap, {name}"
    if isinstance(after, str):
        return Result(metric, float("nan"), reason=after, seed=seed)
    means = pd.Series(before - after).groupby(conditions).mean().to_numpy()
    if len(means) < 2:
        return Result(metric, float(means[0]), n=1, space="nats a token", reason="one condition has no interval", seed=seed)  # fmt: skip
    found = bootstrap_interval(means, seed=seed)
    return Result(
        metric, float(found.value), float(found.low), float(found.high), n=len(means), space="nats a token",
        reference="the prompt as it was", seed=seed,
    )  # fmt: skip


def _evenly(conditions: pd.DataFrame, rows: NDArray[np.int64], n: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Return ``n`` of ``rows``, as evenly over conditions as they last, in rising order."""
    shuffled = rng.permutation(rows)
    place = conditions.iloc[shuffled].groupby(list(conditions.columns), observed=True).cumcount().to_numpy()
    return np.sort(shuffled[np.argsort(place, kind="stable")[:n]])
