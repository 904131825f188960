"""scGPT's architecture for perturbation response: control values and perturbation flags in, values of perturbed cells out.

Cui et al., Nature Methods 21, 1470 (2024). Of their pre-training nothing is here. Theirs knows a perturbation by the flag on
the genes it targets and so only genes that are measured; here each part and target of the training perturbations has an
embedding besides, which reaches every gene, so that a drug or a cytokine reaches the network, too.
"""

from __future__ import annotations

import logging
from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import nn

from c2s.baselines.descriptors import Descriptors
from c2s.baselines.network import SEARCH_SHARE, VALIDATION_SHARE, warm_up_and_cosine
from c2s.baselines.response_table import Context, Pair, Rows, TrainingCells
from c2s.baselines.responses import Block, ResponseBaseline, in_blocks
from c2s.baselines.scgpt_arch import ScgptNetwork
from c2s.baselines.tokens import FIRST_GENE
from c2s.errors import ConfigError
from c2s.metrics.conditions import mean_profile
from c2s.metrics.profiles import correlation_of_changes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from c2s.cells.library import Perturbation

logger = logging.getLogger(__name__)

MIN_PERTURBATIONS = 10  # of training, to hold out a tenth of them
CHECKED = 16  # control cells of a context that a validation starts from
_PREDICTED = 1 << 15  # tokens at once


class ScgptResponder(ScgptNetwork):
    """scGPT's embeddings and encoder; its value head reads every gene's state instead of the start token's.

    Parameters
    ----------
    n_genes, n_descriptors : int
    width, heads, layers : int
    """

    def __init__(self, n_genes: int, n_descriptors: int, *, width: int, heads: int, layers: int) -> None:
        super().__init__(
            n_genes + FIRST_GENE, 1, width=width, heads=heads, hidden=2 * width, layers=layers, dropout=0.0
        )
        self.flags = nn.Embedding(2, width)
        self.descriptors = nn.Parameter(torch.randn(n_descriptors, width))
        self.to_states = nn.Linear(width, width, bias=False)

    def forward(self, values: torch.Tensor, flags: torch.Tensor, given: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        """Return each gene's value, (n, n_genes), of control values and flags (n, n_genes) and descriptors (n, n_descriptors)."""
        ids = torch.arange(values.shape[1], device=values.device) + FIRST_GENE
        beside = self.norm_values(self.value_out(F.relu(self.value_in(values[..., None]))))
        states = self.norm_genes(self.genes(ids)) + beside + self.flags(flags)
        states = states + self.to_states(given @ self.descriptors)[:, None]
        seen = torch.ones_like(flags, dtype=torch.bool)
        for layer in self.layers:
            states = layer(states, seen)
        return self.head(states)[..., 0]


class ScgptResponse(ResponseBaseline):
    """scGPT's architecture with a value head and perturbation flags, from random weights: same data, no pre-training.

    It is trained by squared error on pairs of a random control cell and a treated cell of the same context, every condition
    equally often, and on control cells that are to stay as they are, one condition more for each context. The ``n_genes`` of
    largest variance over the training cells are its tokens and what it predicts; the others keep the value of the control cell. A flag marks targets
    among these genes. The part names and target symbols of a perturbation add up to a vector that goes, by a linear map, to
    every gene; those that training did not have add nothing, and a context is known by its control cells only. Since pairs are
    random, what a network can learn of the cell it starts from is its context.

    The learning rate is the one of the highest mean Pearson delta on a tenth of the training perturbations, such whose parts
    and targets others have as well; where there are too few of these, on a tenth of the cells of each condition.

    Parameters
    ----------
    width, heads, layers : int
        Of the encoder; its hidden layer is twice as wide.
    steps, batch_size : int
        Of AdamW with the rate chosen. The search takes three sevenths as many steps in all.
    learning_rates : sequence of float
        Rates tried; a single one is taken without a search.
    n_genes : int

    Attributes
    ----------
    learning_rate_ : float
        The rate chosen.
    search_ : list of dict
        Every rate tried, with its Pearson delta.
    """

    name = "scGPT's architecture with perturbation flags, same data, no pre-training"
    reads = "parts"

    def __init__(
        self,
        *,
        width: int = 64,
        heads: int = 4,
        layers: int = 2,
        steps: int = 600,
        batch_size: int = 16,
        learning_rates: Sequence[float] = (3e-4, 1e-3),
        n_genes: int = 512,
    ) -> None:
        rates = tuple(learning_rates)
        if min(width, heads, layers, steps, batch_size, n_genes) < 1 or width % heads or min(rates, default=0) <= 0:
            msg = "width, heads, layers, steps, batch_size, n_genes and learning_rates must be above 0, width a multiple of heads; "
            msg += f"got {width}, {heads}, {layers}, {steps}, {batch_size}, {n_genes}, {list(rates)}"
            raise ConfigError(msg)
        self.width, self.heads, self.layers, self.steps = width, heads, layers, steps
        self.batch_size, self.learning_rates, self.n_genes = batch_size, rates, n_genes

    def _learn(self, training: TrainingCells, seed: int) -> None:
        self._chosen = _most_variable(training.matrix, self.n_genes)
        self._descriptors = Descriptors(training.perturbations.values(), control=training.control)
        self._place = {training.genes[column]: place for place, column in enumerate(self._chosen)}
        matrix = training.matrix[:, self._chosen]
        self.search_: list[dict[str, Any]] = []
        if len(self.learning_rates) > 1:
            train, held = self._split(training, seed)
            steps = max(1, round(SEARCH_SHARE / (1 - SEARCH_SHARE) * self.steps / len(self.learning_rates)))
            for rate in self.learning_rates:
                network = self._trained(matrix, training, train, rate, steps, seed)
                delta = self._pearson_delta(network, matrix, training, held)
                self.search_.append({"learning_rate": rate, "Pearson delta": delta, "steps": steps})
        deltas = [trial["Pearson delta"] for trial in self.search_] or [0.0]
        self.learning_rate_ = self.learning_rates[int(np.argmax(deltas))]
        self._network = self._trained(matrix, training, training.treated, self.learning_rate_, self.steps, seed)
        logger.info("%s: rate %g of %s, %d genes", self.name, self.learning_rate_, self.search_, len(self._chosen))

    def _respond(
        self, matrix: sp.csr_matrix, contexts: list[Context], perturbations: list[Perturbation], seed: int
    ) -> sp.csr_matrix:
        flags, given = self._flags(perturbations), self._descriptors.hot(perturbations)
        n = len(perturbations)

        def answered(cells: Block, rows: slice) -> Block:
            start = np.repeat(cells[:, self._chosen], n, axis=0)
            values = _values(self._network, start, np.tile(flags, (len(cells), 1)), np.tile(given, (len(cells), 1)))
            found = np.repeat(cells[:, None], n, axis=1)
            found[:, :, self._chosen] = values.reshape(len(cells), n, -1)
            return found

        return in_blocks(matrix, n, answered)

    def _flags(self, perturbations: Sequence[Perturbation]) -> NDArray[np.int64]:
        """Return 1 at the genes that a perturbation targets, shape (n, n_genes)."""
        flags = np.zeros((len(perturbations), len(self._chosen)), dtype=np.int64)
        for row, each in enumerate(perturbations):
            flags[row, [self._place[symbol] for symbol in each.targets if symbol in self._place]] = 1
        return flags

    def _split(self, training: TrainingCells, seed: int) -> tuple[Mapping[Pair, Rows], Mapping[Pair, Rows]]:
        """Return conditions to train on and to validate on: other perturbations, or other cells of the same ones."""
        rng = np.random.default_rng([seed, 1])
        made_of = {name: set(self._descriptors.of(each)) for name, each in training.perturbations.items()}
        uses = Counter(each for found in made_of.values() for each in found)
        wanted = round(VALIDATION_SHARE * len(made_of)) if len(made_of) >= MIN_PERTURBATIONS else 0
        held: set[str] = set()
        for name in rng.permutation(sorted(made_of)):
            if len(held) < wanted and all(uses[each] > 1 for each in made_of[name]):
                held.add(name)
                uses.subtract(made_of[name])
        if wanted and len(held) == wanted:
            parts = [{pair: rows for pair, rows in training.treated.items() if (pair[0] in held) is side} for side in (False, True)]  # fmt: skip
            return parts[0], parts[1]
        shuffled = {pair: rng.permutation(rows) for pair, rows in training.treated.items()}
        cut = {pair: max(1, round(VALIDATION_SHARE * len(rows))) for pair, rows in shuffled.items()}
        return {p: rows[cut[p] :] for p, rows in shuffled.items()}, {p: rows[: cut[p]] for p, rows in shuffled.items()}

    def _trained(
        self, matrix: sp.csr_matrix, training: TrainingCells, treated: Mapping[Pair, Rows], rate: float, steps: int, seed: int
    ) -> ScgptResponder:  # fmt: skip
        """Return the network after ``steps`` on these conditions and the controls; the caller's RNG is untouched."""
        where = "cuda" if torch.cuda.is_available() else "cpu"
        given = [training.perturbations[name] for name, _ in treated]
        still = len(training.controls)
        flags = np.pad(self._flags(given), ((0, still), (0, 0)))
        made_of = np.pad(self._descriptors.hot(given), ((0, still), (0, 0)))
        pools = [(training.controls[context], rows) for (_, context), rows in treated.items()]
        pools += [(rows, rows) for rows in training.controls.values()]
        rng = np.random.default_rng([seed, 2])
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            network = ScgptResponder(
                len(self._chosen), len(self._descriptors), width=self.width, heads=self.heads, layers=self.layers
            ).to(where)
            optimizer = torch.optim.AdamW(network.parameters(), lr=rate, weight_decay=0.01)
            schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: warm_up_and_cosine(step, steps))
            for _ in range(steps):
                picked = rng.integers(len(pools), size=self.batch_size)
                after = np.array([rng.choice(pools[one][1]) for one in picked])
                before = np.array([rng.choice(pools[one][0]) for one in picked])
                before = np.where(picked < len(given), before, after)  # a control cell stays as it is
                inputs = (matrix[before].toarray(), flags[picked], made_of[picked])
                found = network(*(torch.from_numpy(each).to(where) for each in inputs))
                loss = F.mse_loss(found, torch.from_numpy(matrix[after].toarray()).to(where))
                optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(network.parameters(), 1.0)
                optimizer.step()
                schedule.step()
        return network.eval()

    def _pearson_delta(
        self, network: ScgptResponder, matrix: sp.csr_matrix, training: TrainingCells, held: Mapping[Pair, Rows]
    ) -> float:
        """Return the mean over conditions of the correlation of changes; one that cannot be had counts as -1."""
        truth, predicted, control = [], [], []
        for (name, context), rows in held.items():
            controls = matrix[training.controls[context]]
            start = controls[:CHECKED].toarray()
            given = [training.perturbations[name]] * len(start)
            predicted.append(_values(network, start, self._flags(given), self._descriptors.hot(given)).mean(axis=0))
            truth.append(mean_profile(matrix[rows]))
            control.append(mean_profile(controls))
        found = correlation_of_changes(np.stack(truth), np.stack(predicted), np.stack(control))
        return float(np.nan_to_num(found, nan=-1.0).mean())


def _most_variable(matrix: sp.csr_matrix, n_genes: int) -> NDArray[np.intp]:
    """Return columns of the largest variance, sorted; of a tie the earlier. Ranking by scanpy would leave OpenMP other threads."""
    from sklearn.utils.sparsefuncs import mean_variance_axis  # slow to import

    _, variance = mean_variance_axis(matrix.astype(np.float64), axis=0)
    return np.sort(np.argsort(-variance, kind="stable")[:n_genes])


def _values(network: ScgptResponder, cells: Block, flags: NDArray[np.int64], given: Block) -> Block:
    """Return what the network makes of cells, shape (n, n_genes)."""
    where = next(network.parameters()).device
    size = max(1, _PREDICTED // cells.shape[1])
    found = []
    with torch.no_grad():
        for begin in range(0, len(cells), size):
            here = slice(begin, begin + size)
            inputs = (torch.from_numpy(each[here]).to(where) for each in (cells, flags, given))
            found.append(network(*inputs).cpu().numpy())
    return np.concatenate(found)
