"""The report: one offline file, everything escaped, every verdict explained, nothing required that may be missing."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from c2s.errors import DataError
from c2s.screening import evidence, palette
from c2s.screening.labels import place_labels
from c2s.screening.report import _auc_table, _environment, _pathway_cards, page, write_report
from c2s.screening.wording import shown_effect, shown_p, shown_value
from tests.screening.conftest import CONTEXTS, make_effects, make_record, make_table

NASTY = "</script><img src=x onerror=\"alert('1')\"> & Söhne"


class Page(HTMLParser):
    """Tags, JSON blocks by id, and the words outside scripts and styles."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.json: dict[str, Any] = {}
        self.words = ""
        self._open: list[str] = []
        self._block: str | None = None
        self._script = ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.tags.append((tag, found))
        if tag in ("script", "style"):
            self._open.append(tag)
            self._block = found.get("id") if found.get("type") == "application/json" else None
            self._script = ""

    def handle_endtag(self, tag):
        if tag in ("script", "style") and self._open:
            self._open.pop()
            if self._block:
                self.json[self._block] = json.loads(self._script)
                self._block = None

    def handle_data(self, data):
        if self._block:
            self._script += data
        elif not self._open:
            self.words += data + " "

    @property
    def text(self) -> str:
        return " ".join(self.words.split())


@pytest.fixture(scope="module")
def pathways() -> dict[str, pd.DataFrame]:
    table = pd.DataFrame(
        {"term": ["HYPOXIA", "RIBOSOME"], "es": [0.6, -0.4], "nes": [1.8, -1.1], "p_value": [0.01, 0.4], "q_value": [0.02, 0.4],
         "n_genes": [12, 20], "leading_genes": ["LDHA|PGK1", "RPL3"]}
    )  # fmt: skip
    still = table.iloc[:0].copy()
    still.attrs["reason"] = "no gene moves"
    return {"drug-02 · interferon low": table, "still": still}


@pytest.fixture(scope="module")
def written(tmp_path_factory, table, record, effects, pathways) -> Path:
    return write_report(tmp_path_factory.mktemp("report"), table, record, effects, pathways=pathways)


@pytest.fixture(scope="module")
def shown(written) -> Page:
    return Page(written.read_text(encoding="utf-8"))


def test_one_file_that_asks_the_network_for_nothing(written, shown):
    assert sorted(path.name for path in written.parent.iterdir()) == ["screen.html", "screen.png"]
    for tag, attributes in shown.tags:
        assert tag not in ("link", "iframe", "object", "embed", "base", "img")
        assert "src" not in attributes
        assert "href" not in attributes or attributes["href"].startswith("#")
    policy = [found["content"] for tag, found in shown.tags if found.get("http-equiv") == "Content-Security-Policy"]
    assert len(policy) == 1
    assert "default-src 'none'" in policy[0]
    assert "form-action 'none'" in policy[0]
    styles = "".join(re.findall(r"<style>(.*?)</style>", written.read_text(encoding="utf-8"), flags=re.DOTALL))
    assert "url(" not in styles
    assert "@import" not in styles


def test_plotly_is_inlined_once_and_may_not_upload(written):
    text = written.read_text(encoding="utf-8")
    assert text.count("plotly.js v") == 1
    assert "showSendToCloud: false" in text
    assert 4e6 < written.stat().st_size < 8e6


def test_sections_come_in_the_promised_order(shown):
    order = [found["id"] for tag, found in shown.tags if tag == "section"]
    assert order == ["gates", "hits", "scatter", "table", "evidence", "headroom", "pathways", "methods", "limits"]


def test_links_and_figures_lead_somewhere(shown):
    ids = [found["id"] for _, found in shown.tags if "id" in found]
    assert len(ids) == len(set(ids))
    assert {found["href"][1:] for tag, found in shown.tags if tag == "a"} <= set(ids)
    drawn = {f"figure-{found['data-figure']}" for _, found in shown.tags if "data-figure" in found}
    assert drawn == {name for name in shown.json if name.startswith("figure-")}


def test_table_block_holds_every_row_and_the_baselines(shown, table):
    columns = shown.json["columns"]
    assert {len(column) for column in columns.values()} == {len(table)}
    assert columns["perturbation"] == table["perturbation"].tolist()
    np.testing.assert_allclose(columns["split"], table["split"], rtol=1e-4)
    np.testing.assert_allclose(columns["ridge_split"], table["ridge_split"], rtol=1e-4)
    assert [verdict == "hit" for verdict in columns["verdict"]] == table["hit"].tolist()
    assert all(failed == 0 for failed, hit in zip(columns["failed"], table["hit"], strict=True) if hit)
    assert all(failed > 0 for failed, hit in zip(columns["failed"], table["hit"], strict=True) if not hit)


def test_hits_are_listed_named_in_the_scatter_and_have_evidence(shown, table):
    hits = table.loc[table["hit"], "perturbation"].tolist()
    assert 5 <= len(hits) <= 12
    assert f"{len(hits)} hits" in shown.text
    labels = [label["text"] for label in shown.json["figure-scatter"]["labels"]["wide"]]
    assert sorted(labels) == sorted(f"<b>{name}</b>" for name in hits)
    for place in np.flatnonzero(table["hit"]):
        assert f"figure-card{place}-cells" in shown.json
        assert f"figure-card{place}-genes" in shown.json


def test_refused_rows_have_their_own_symbol_and_their_reason(shown, table):
    refused = table.loc[table["refused_because"] != "", "perturbation"]
    symbols = [trace["marker"]["symbol"] for trace in shown.json["figure-scatter"]["data"]]
    drawn = sum(np.ravel(symbol).tolist().count("square-x-open") for symbol in symbols)
    assert drawn == len(refused) + 1  # one more in the legend
    assert "Refused. Ceiling: " in shown.text
    assert "there B2M already rank" in shown.text


def test_band_is_drawn_at_delta(shown, record):
    delta = record["config"]["delta"]
    spans = [(shape["y0"], shape["y1"]) for shape in shown.json["figure-scatter"]["layout"]["shapes"]]
    assert (-delta, delta) in spans
    without = page(make_table(make_effects(n_drugs=6)), {}, make_effects(n_drugs=6), pathways={})
    assert all(shape["y1"] != delta for shape in without["figures"]["scatter"]["layout"]["shapes"])


def test_gates_say_their_state_in_words_and_failures_lead_the_hits(shown, table):
    assert shown.text.count("Pass Does") == 2
    assert "Fail Does the model read the context?" in shown.text
    assert "Not testable Do named controls" in shown.text
    hits = shown.text.index(f"{int(table['hit'].sum())} hits")
    assert (
        "1 gate failed (Does the model read the context?). Read the hits with this in mind."
        in shown.text[hits : hits + 400]
    )


def test_demo_shows_the_truth_and_simulation_is_said(shown):
    assert "Responses are simulated." in shown.text
    assert "k nearest neighbours on targets × context 0.74" in shown.text
    assert "this model 0.97" in shown.text
    assert "Against the planted truth" in shown.text
    assert "Nothing about real drugs." in shown.text


def test_hostile_names_stay_text(tmp_path, effects, table, record):
    rows = effects.rows.replace({"name": {"drug-02": NASTY}})
    hostile = type(effects)(**{**effects.__dict__, "rows": rows, "contexts": CONTEXTS})
    renamed = table.replace({"perturbation": {"drug-02": NASTY}})
    renamed["mechanism"], renamed["planted_class"] = NASTY, NASTY
    renamed.attrs = table.attrs
    told = {
        **record,
        "notes": [NASTY],
        "gates": [
            {
                "name": NASTY,
                "question": NASTY,
                "answer": NASTY,
                "passed": False,
                "detail": NASTY,
                "values": {NASTY: NASTY},
            }
        ],
    }
    text = write_report(tmp_path, renamed, told, hostile, pathways={NASTY: pd.DataFrame()}).read_text(encoding="utf-8")
    seen = Page(text)
    assert NASTY in seen.text
    assert NASTY in seen.json["columns"]["perturbation"]
    assert "<img" not in text.split("plotly.js v")[0]
    assert not [found for tag, found in seen.tags if tag == "img" or "onerror" in found]
    hover = [item for trace in seen.json["figure-scatter"]["data"] for item in trace.get("text") or [] if "hne" in item]
    assert hover
    assert all("<img" not in item and "&lt;img" in item for item in hover)


def test_page_without_hits_says_how_many_failed_which_part(tmp_path):
    still = make_effects(n_drugs=24, n_decoys=40)
    still.effect = {key: 0.1 * value for key, value in still.effect.items()}
    called = make_table(still, planted=False)
    told = make_record(still, called, demo=False)
    seen = Page(write_report(tmp_path, called, told, still).read_text(encoding="utf-8"))
    assert "No hit" in seen.text
    assert "None of the 24 drugs passes every part of the definition of a hit." in seen.text
    failing = int((called["effect_first_low"] <= told["config"]["delta"]).sum())
    assert f"Effect in interferon low lower bound above δ = 0.03 {failing} {24 - failing}" in seen.text
    assert "The rows that came nearest" in seen.text
    assert "Read this result with this in mind" in seen.text
    assert "simulated" not in seen.text.lower()
    assert seen.json["figure-scatter"]["labels"] == {"wide": [], "middle": [], "narrow": []}


def test_too_few_decoys_is_said_to_be_the_reason(tmp_path):
    few = make_effects(n_drugs=12, n_decoys=5)
    seen = Page(write_report(tmp_path, make_table(few), {}, few).read_text(encoding="utf-8"))
    assert "too few decoys" in seen.text
    assert "5 ran here" in seen.text


def test_optional_parts_may_be_missing(tmp_path):
    bare = make_effects(n_drugs=6, n_decoys=0)
    bare.rows = bare.rows[bare.rows["set"] == "library"]
    bare.effect = {key: value[:6] for key, value in bare.effect.items()}
    bare.rank_shift = bare.rank_shift[:6]
    required = ["effect_first", "effect_second", "split"]
    called = pd.DataFrame({"perturbation": [*bare.rows["name"][:5], "not in effects"]})
    for name in required:
        called[name], called[f"{name}_low"], called[f"{name}_high"] = 0.1, 0.05, np.nan
    called["p_value"] = called["q_value"] = np.nan
    called["hit"] = [True] + [False] * 5
    seen = Page(write_report(tmp_path, called, {}, bare).read_text(encoding="utf-8"))
    assert "No gate was evaluated" in seen.text
    assert "1 hit " in seen.text
    assert "δ or the false discovery rate is not in the record" in seen.text
    assert seen.json["columns"]["q_value"] == [None] * 6
    assert not {"pathways"} & {found.get("id") for tag, found in seen.tags if tag == "section"}


def test_no_row_at_all(tmp_path, table, effects):
    seen = Page(write_report(tmp_path, table.iloc[:0], {}, effects).read_text(encoding="utf-8"))
    assert "No hit" in seen.text
    assert seen.json["columns"]["perturbation"] == []


def test_five_thousand_rows_stay_small(table, effects, record):
    many = pd.concat([table] * 84, ignore_index=True).iloc[:5000]
    many["perturbation"] = [f"drug {i}" for i in range(5000)]
    many.attrs = {}
    html = (
        _environment()
        .get_template("screen.html.j2")
        .render(**{**page(many, record, effects, pathways={}), "plotly_js": ""})
    )
    assert len(html) < 4e6
    assert html.count("<tr") < 200
    assert len(Page(html).json["columns"]["split"]) == 5000


def test_png_is_written_at_the_stated_size(written):
    data = (written.parent / "screen.png").read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    assert (int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")) == (1440, 960)


def test_bad_tables_are_refused_before_anything_is_written(tmp_path, table, effects):
    with pytest.raises(DataError, match="no column q_value"):
        write_report(tmp_path, table.drop(columns="q_value"), {}, effects)
    with pytest.raises(DataError, match="twice: drug-"):
        write_report(tmp_path, pd.concat([table, table.iloc[:1]]), {}, effects)
    assert not list(tmp_path.iterdir())


def test_every_figure_colour_has_a_dark_partner(shown):
    partners = palette.dark_partners()
    assert len(partners) == len(palette.PALETTE) + len(palette.CLASS_COLOURS)
    used = {
        shade
        for name, value in shown.json.items()
        if name.startswith("figure-")
        for shade in re.findall(r"#[0-9a-f]{6}", json.dumps(value))
    }
    assert used
    assert used <= set(partners)


@pytest.mark.parametrize("column", [0, 1])
@pytest.mark.parametrize("ground", ["page", "surface"])
def test_text_colours_are_readable_in_both_themes(column, ground):
    for name in ("ink", "muted", "hit", "refused", "pass", "fail", "second"):
        assert _contrast(palette.PALETTE[name][column], palette.PALETTE[ground][column]) >= 4.5, name
    for name in ("hit", "refused"):
        assert _contrast(palette.PALETTE[name][column], palette.PALETTE[f"{name}_tint"][column]) >= 4.5, name
    for pair in palette.CLASS_COLOURS:
        assert _contrast(pair[column], palette.PALETTE[ground][column]) >= 3.0, pair


def _contrast(first: str, second: str) -> float:
    """Return the contrast ratio of WCAG 2."""

    def luminance(shade: str) -> float:
        parts = [int(shade[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    high, low = sorted((luminance(first), luminance(second)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_density_peaks_where_the_values_are():
    grid = np.linspace(-1, 1, 201)
    heights = evidence.density(np.full(50, 0.3), grid)
    assert heights.max() == 1.0
    assert grid[heights.argmax()] == pytest.approx(0.3)


def test_unit_means_and_carriers_match_brute_force(effects):
    cells, values = effects.cells, effects.effect["u"]
    expected = [
        values[4, ((cells["context"] == "neutral") & (cells["unit"] == f"donor {u}")).to_numpy()].mean()
        for u in range(6)
    ]
    np.testing.assert_allclose(evidence.unit_means(effects, 4, "neutral"), expected, rtol=1e-5)
    assert evidence.carriers(effects, 5) == ["B2M"]  # a ceiling case


def test_head_room_marks_the_planted_floor_and_ceiling(effects):
    frame = evidence.head_room(effects).set_index("gene")
    assert frame.loc["B2M", "second_remark"] == "ceiling"
    assert frame.loc["NLRC5", "second_remark"] == "floor"
    assert frame.loc["B2M", "first_room"] == pytest.approx(39)


def test_funnel_counts_add_up(table, record):
    passes = evidence.parts(table, delta=record["config"]["delta"], fdr=0.1)
    steps = evidence.funnel(passes)
    assert [step["part"] for step in steps] == list(evidence.PARTS)
    assert all(step["passed"] + step["failed"] == len(table) for step in steps)
    assert steps[-1]["left"] == int(table["hit"].sum())


def test_labels_do_not_overlap_when_there_is_room():
    rng = np.random.default_rng(0)
    named = pd.DataFrame(
        {"name": [f"name {i}" for i in range(10)], "x": rng.uniform(0, 1, 10), "y": rng.uniform(0, 1, 10)}
    )
    labels = place_labels(named, named[["x", "y"]].to_numpy(), (0, 1), (0, 1), size=(900, 500))
    boxes = []
    for label in labels:
        width = 0.58 * 12 * len(label.text)
        left = label.x * 900 + label.dx - {"left": 0, "center": width / 2, "right": width}[label.align]
        middle = label.y * 500 + label.dy
        boxes.append((left, middle - 8, left + width, middle + 8))
    clashes = [
        (a, b)
        for i, a in enumerate(boxes)
        for b in boxes[:i]
        if a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
    ]
    assert len(labels) == 10
    assert not clashes


def test_numbers_are_shown_as_people_write_them():
    assert [shown_effect(value) for value in (0.1234, -0.1234, -0.0001, float("nan"), None)] == [
        "+0.123",
        "−0.123",
        "0.000",
        "–",
        "–",
    ]
    assert [shown_p(value) for value in (0.034567, 0.00012, 1.0, None)] == ["0.035", "1e−4", "1", "–"]
    assert [shown_value(value) for value in (1_104_320, 0.1, True, None)] == ["1,104,320", "0.1", "yes", "not set"]


def test_auc_table_has_a_column_for_each_tier_of_support():
    plain = _auc_table({"demo": {"auc": {"model": 0.9, "ridge": None}}})
    assert plain == {"columns": ["seen targets"], "rows": [("model", [0.9]), ("ridge", [None])]}
    tiers = _auc_table({"demo": {"auc": {"model": 0.9, "knn": 0.7}, "auc_unseen": {"model": 0.6}}})
    assert tiers == {
        "columns": ["seen targets", "unseen targets"],
        "rows": [("model", [0.9, 0.6]), ("knn", [0.7, None])],
    }
    assert _auc_table({}) is None


def test_contexts_of_one_perturbation_stand_side_by_side():
    names = ["a (low)", "b (low)", "a (high)", "b (high)"]
    cards = _pathway_cards({name: pd.DataFrame() for name in names}, {})
    assert [card["name"] for card in cards] == ["a (low)", "a (high)", "b (low)", "b (high)"]
