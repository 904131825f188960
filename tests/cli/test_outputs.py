"""Where a verb may not write is said before any work: the inputs named here do not even exist."""

from __future__ import annotations

import pytest

from c2s.sentences.corpus import read_sentences
from tests import tiny

FOLDER_VERBS = {
    "encode": ("encode", "no.h5ad"),
    "generate": ("generate", "no-model"),
    "perturb": ("perturb", "predict", "no-model", "no.h5ad", "no.csv"),
}
FILE_VERBS = {"decode": ("decode", "no-corpus"), "annotate": ("annotate", "no-model", "no.h5ad")}


@pytest.mark.parametrize("more", [(), ("--overwrite",)], ids=["", "overwrite"])
@pytest.mark.parametrize("verb", FOLDER_VERBS)
def test_folders_are_checked_first(c2s, tmp_path, verb, more):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.docx").write_text("mine")
    foreign = "was not written by c2s" if more else "is not empty"
    for out, message in (("file", "is a file; name a folder"), ("mine", foreign), ("file/out", "lies below")):
        assert message in c2s(*FOLDER_VERBS[verb], tmp_path / out, *more).error
    assert (tmp_path / "file").read_text() == (tmp_path / "mine" / "thesis.docx").read_text() == "mine"
    assert c2s(*FOLDER_VERBS[verb], tmp_path / "new", *more).error
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "mine"]


@pytest.mark.parametrize("more", [(), ("--overwrite",)], ids=["", "overwrite"])
@pytest.mark.parametrize("verb", FILE_VERBS)
def test_files_are_checked_first(c2s, tmp_path, verb, more):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("mine")
    for out, message in (("folder", "is a folder; name a file"), ("file/out", "lies below")):
        assert message in c2s(*FILE_VERBS[verb], tmp_path / out, *more).error
    refused = "exists; name another file, or pass --overwrite" in c2s(*FILE_VERBS[verb], tmp_path / "file", *more).error
    assert refused is not bool(more)
    assert (tmp_path / "file").read_text() == "mine"


def test_a_verb_that_fails_leaves_the_older_result(c2s, files, tmp_path):
    out = tmp_path / "corpus"
    assert c2s("encode", files / "cells.h5ad", out, "--n-genes", 3).code == 0
    assert c2s("encode", files / "absent.h5ad", out, "--overwrite").error
    again = (tiny.run_folder(), files / "cells.h5ad", files / "absent.csv")
    assert c2s("perturb", "predict", *again, out, "--overwrite").error
    assert read_sentences(out).encoding.n_genes == 3
    assert c2s("encode", files / "cells.h5ad", out, "--n-genes", 4, "--overwrite", "--fit-decoder").code == 0
    assert read_sentences(out).encoding.n_genes == 4
    assert (out / "decoder" / "decoder.json").is_file()
    assert list(tmp_path.iterdir()) == [out]


def test_overwrite_spares_the_inputs(c2s, files, tmp_path):
    """A folder of ours that holds what is read is not replaced by what is written."""
    out = tmp_path / "corpus"
    assert c2s("encode", files / "cells.h5ad", out).code == 0
    inside = out / "cells.h5ad"
    inside.write_bytes((files / "cells.h5ad").read_bytes())
    before = inside.read_bytes()
    for arguments in (("encode", inside, out), ("perturb", "predict", tiny.run_folder(), inside, files / "drugs.csv", out),
                      ("train", inside, out), ("annotate", tiny.run_folder(), inside, inside)):  # fmt: skip
        assert "is or holds" in c2s(*arguments, "--overwrite").error, arguments
    assert inside.read_bytes() == before
    assert "name it .h5ad" in c2s("decode", out, tmp_path / "decoded.csv").error


def test_a_report_is_not_written_over_the_cells(c2s, files, tmp_path):
    (tmp_path / "table.csv").write_text("old,new\nA,B\n")
    table, out = tmp_path / "table.csv", tmp_path / "out.h5ad"
    for report in (out, table):
        ran = c2s("genes", "map", files / "cells.h5ad", out, "--table", table, "--report", report, "--overwrite")
        assert "is or holds" in ran.error
    assert table.read_text() == "old,new\nA,B\n"


def test_a_condition_is_given_once(c2s, tmp_path):
    ran = c2s("generate", "no-model", tmp_path / "out", "--condition", "a=b", "--condition", "a=c")
    assert "--condition names a key twice: a=b, a=c" in ran.error
