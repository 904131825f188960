"""How a tokenizer covers genes: as one token, several, or not at all."""

from __future__ import annotations

import pandas as pd
from transformers import PreTrainedTokenizerBase

from c2s.cells.genes import GeneVocabulary
from c2s.tasks.wording import SentenceStyle


def gene_coverage(
    tokenizer: PreTrainedTokenizerBase, vocabulary: GeneVocabulary, *, style: SentenceStyle | None = None
) -> pd.DataFrame:
    """Return the tokens of each gene inside a sentence.

    A gene is covered where its tokens spell it again and none of them is the unknown token; one token is what a model can have
    learned as a word, several are spelt out, and each costs its time.

    Returns
    -------
    DataFrame
        One row a gene, indexed by symbol: ``n_tokens`` (int), ``covered`` (``"one"``, ``"several"`` or ``"none"``) and ``tokens``.
    """
    style = style or SentenceStyle()
    written = [symbol.upper() if style.upper else symbol for symbol in vocabulary.symbols]
    found = tokenizer(
        [style.delimiter + symbol for symbol in written], add_special_tokens=False, split_special_tokens=True
    )
    rows = []
    for symbol, ids in zip(written, found["input_ids"], strict=True):
        spelt = tokenizer.decode(ids, clean_up_tokenization_spaces=False).strip() == symbol.strip()
        known = bool(ids) and spelt and tokenizer.unk_token_id not in ids
        kind = "none" if not known else "one" if len(ids) == 1 else "several"
        rows.append((len(ids), kind, tokenizer.convert_ids_to_tokens(ids)))
    return pd.DataFrame(
        rows, index=pd.Index(vocabulary.symbols, name="gene"), columns=["n_tokens", "covered", "tokens"]
    )
