"""docs/guide/text.md: its code runs in order, and its table of metrics is the registry's."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd

from c2s.cells.genes import GeneVocabulary
from c2s.metrics import METRICS
from c2s.metrics.text import text_similarity
from c2s.results import Result
from c2s.sentences.corpus import CellSentences
from c2s.tasks import ClusterCaptioning
from c2s.training.question_kinds import WORDINGS

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "guide" / "text.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
OBO = '[Term]\nid: CL:0000084\nname: T cell\ndef: "A T. Yes." []\n\n[Term]\nid: CL:0000625\nname: CD8\nis_a: CL:0000084\n\n[Term]\nid: CL:0000236\nname: B\n'


def test_the_code_of_the_page_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("cl-basic.obo").write_text(OBO, encoding="utf-8")
    Path("descriptions.csv").write_text("id,description\nCL:0000625,They kill. Often.\n", encoding="utf-8")
    rng = np.random.default_rng(0)
    labels = rng.choice(["CD8 T", "B"], size=160)
    obs = pd.DataFrame({"cell_type": labels, "leiden": np.where(labels == "B", 0, 1)}, index=map(str, range(160)))
    rows = [[int(label == "B"), *rng.permutation(np.arange(2, 8))[:4]] for label in labels]
    texts = ["B cells with MS4A1", "T cells with CD3D"]
    page = {
        "__name__": "page", "task": ClusterCaptioning(), "truths": texts, "answers": [texts[0], None], "training_texts": texts,
        "truth": texts, "our_answers": texts, "its_answers": texts[::-1], "test_means": np.eye(2),
        "training_captions": texts, "training_means": np.eye(2),
        "sentences": CellSentences.from_lists(rows, GeneVocabulary(tuple("ABCDEFGH")), obs=obs),
    }  # fmt: skip
    for block in BLOCKS:
        if "AutoModel" not in block:  # needs weights; what it makes is tested as the embedder of text_similarity
            exec(compile(block, "text.md", "exec", dont_inherit=True), page)
    assert isinstance(page["score"](page["truths"], page["answers"], seed=0), Result)
    assert "They kill." in page["texts"]["1"]
    assert {row.metric for row in page["rows"]} >= {"ROUGE-L F, ours", "ROUGE-L F, nearest training caption"}
    assert len(list(page["examples"])) == len(page["asked"])


def test_the_embedder_of_the_page_is_one(monkeypatch):
    import torch
    import transformers

    class Tokenizer:
        def __call__(self, text, **settings):
            return {"input_ids": torch.tensor([[len(word) for word in text.split()]])}

    class Model:
        def eval(self):
            return self

        def __call__(self, input_ids):
            vectors = torch.nn.functional.one_hot(input_ids, 20).to(torch.bfloat16)
            return type("Out", (), {"last_hidden_state": vectors})

    loaders = {"AutoTokenizer": Tokenizer, "AutoModel": Model}
    for name, made in loaders.items():
        loader = type(name, (), {"from_pretrained": staticmethod(lambda folder, made=made: made())})
        monkeypatch.setattr(transformers, name, loader)
    (block,) = [block for block in BLOCKS if "AutoModel" in block]
    page = {"folder": "x", "truth": ["a bb", "a"], "answers": ["cc d", None]}
    exec(compile(block, "text.md", "exec", dont_inherit=True), page)
    np.testing.assert_allclose(page["scores"].f1, [1, np.nan])
    assert text_similarity(["a"], ["a"], embedder=page["embedder"]).f1[0] == 1


def test_tables_name_what_there_is():
    (table,) = re.findall(r"\| name \| value of an answer.*?\n\n", PAGE, flags=re.DOTALL)
    assert set(re.findall(r"`(\w+)`", table)) == set(METRICS)
    (table,) = re.findall(r"\| kind \| asks.*?\n\n", PAGE, flags=re.DOTALL)
    assert set(re.findall(r"`(\w+)`", table)) == set(WORDINGS)
