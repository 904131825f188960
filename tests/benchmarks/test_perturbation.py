"""The perturbation benchmark on pairs and on wells: nothing held out can be found in training, rows find what was planted, scores are those of libraries."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import rankdata, spearmanr
from sklearn.metrics import roc_auc_score

from benchmarks.perturbation import norman_model, norman_report, norman_runs, norman_scores
from benchmarks.perturbation.l1000_world import CONTROL, LEVELS, world_of
from benchmarks.perturbation.norman import TIERS, Surface, additive, shuffled, shuffled_beyond
from benchmarks.perturbation.norman import world_of as pair_world
from benchmarks.perturbation.norman_rows import ROWS, bilinear, factors, likeness, neighbours, ridge, told_by
from benchmarks.perturbation.rows import BASELINES
from benchmarks.perturbation.run import NOT_ASKED, scored
from c2s.perturbation.datasets import load_l1000, load_norman_maps
from c2s.perturbation.drug_tables import read_drug_table

GENES = [f"G{i:02d}" for i in range(30)]


def planted(*, interaction: float = 0.1, seed: int = 0) -> pd.DataFrame:
    """Pairs whose fitness is the sum of the singles', and as much beyond it as two random numbers of either gene say."""
    rng = np.random.default_rng(seed)
    single, kind = rng.uniform(-0.4, 0.1, len(GENES)), rng.standard_normal((len(GENES), 2))
    one, other = np.triu_indices(len(GENES), 1)
    beyond = interaction * (kind[one] * kind[other]).sum(axis=1)
    total = single[one] + single[other] + beyond
    names = np.array(GENES)
    columns = {"a": names[one], "b": names[other], "fitness_a": single[one], "fitness_b": single[other]}
    return pd.DataFrame({**columns, "fitness_ab": total, "gi": 0.0})


@pytest.fixture(scope="module")
def world():
    table = planted()
    return pair_world(table, table[table["a"] != "G00"], 0)


def as_names(known, pairs):
    return {frozenset((known.genes[a], known.genes[b])) for a, b in pairs}


@pytest.mark.parametrize("seed", [0, 1])
def test_every_pair_is_on_one_side_whichever_gene_comes_first(seed):
    table = planted()
    found = pair_world(table, table, seed)
    known = found.known
    sides = [as_names(known, pairs) for pairs in (known.training, known.validation, known.asked)]
    assert [len(names) for names in sides] == [len(known.training), len(known.validation), len(known.asked)]
    assert not sides[0] & sides[1] and not sides[0] & sides[2] and not sides[1] & sides[2]
    turned = table.rename(columns={"a": "b", "b": "a", "fitness_a": "fitness_b", "fitness_b": "fitness_a"})
    same = pair_world(turned.sample(frac=1, random_state=1), turned, seed)
    assert same.known.asked.tolist() == known.asked.tolist() and np.array_equal(same.truth, found.truth)


def test_tiers_say_how_many_of_the_genes_training_has_in_other_pairs(world):
    trained = set(world.known.training.ravel().tolist())
    counts = [f"seen {len(trained & set(pair))}" for pair in world.known.asked.tolist()]
    assert counts == world.tiers.tolist() and set(counts) == set(TIERS)


def test_what_is_held_out_changes_no_answer():
    table = planted()
    found = pair_world(table, table, 0)
    asked = as_names(found.known, found.known.asked)
    other = table.copy()
    held = [frozenset(pair) in asked for pair in zip(table["a"], table["b"])]
    other.loc[held, ["fitness_ab", "gi"]] = 5.0
    blind = pair_world(other, other, 0)
    assert (blind.truth == 5).all()
    for row in ("ridge on genes and singles", "low rank", "neighbours by interaction profile", "quadratic curve of each gene"):  # fmt: skip
        assert np.array_equal(told_by(row, found, 0).fitness, told_by(row, blind, 0).fitness)


def test_the_sum_of_singles_is_the_truth_of_an_additive_map():
    table = planted(interaction=0.0)
    found = pair_world(table, table, 0)
    assert np.allclose(told_by("sum of single fitnesses", found, 0).fitness, found.truth)
    assert np.allclose(additive(found.known.single, found.known.asked), found.truth)
    assert np.allclose(Surface.of(found.known).coefficients, [0, 1, 0, 0], atol=1e-9)
    assert np.allclose(told_by("quadratic curve of each gene", found, 0).fitness, found.truth)


def test_a_surface_of_second_degree_is_found():
    table = planted(interaction=0.0)
    a, b = table["fitness_a"], table["fitness_b"]
    table["fitness_ab"] = 0.02 + 1.1 * (a + b) + 0.3 * (a + b) ** 2 + 0.5 * a * b
    known = pair_world(table, table, 0).known
    assert np.allclose(Surface.of(known).coefficients, [0.02, 1.1, 0.3, 0.5])


def test_a_map_of_low_rank_is_found_again(world):
    seen = world.tiers == "seen 2"
    told = bilinear(world.known, 0)
    truth, surface = world.truth[seen], Surface.of(world.known)(world.known.single, world.known.asked)[seen]
    assert told.record["rank"] >= 2
    assert np.corrcoef(told.fitness[seen] - surface, truth - surface)[0, 1] > 0.95
    floor = bilinear(shuffled_beyond(world.known, 0), 0).fitness[seen]
    assert abs(np.corrcoef(floor - surface, truth - surface)[0, 1]) < 0.35
    nowhere = world.tiers == "seen 0"
    expected = Surface.of(world.known)(world.known.single, world.known.asked)[nowhere]
    assert np.allclose(told.fitness[nowhere], expected)  # nothing is known of either gene but its own fitness


def test_factors_hold_main_effects():
    rng = np.random.default_rng(0)
    effect = rng.standard_normal(20)
    pairs = np.column_stack(np.triu_indices(20, 1))[::2]
    left, right = factors(20, pairs, effect[pairs].sum(axis=1), rank=1, penalty=1e-6, seed=0)
    rest = np.column_stack(np.triu_indices(20, 1))[1::2]
    found = [(left[i] * right[j]).sum(axis=1) for i, j in (rest.T, rest.T[::-1])]
    assert np.corrcoef(np.mean(found, axis=0), effect[rest].sum(axis=1))[0, 1] > 0.99


def test_likeness_is_the_correlation_over_what_both_have():
    rng = np.random.default_rng(0)
    table = rng.standard_normal((6, 40))
    table[rng.random(table.shape) < 0.3] = np.nan
    found = likeness(table)
    shared = np.isfinite(table[1]) & np.isfinite(table[4])
    assert found[1, 4] == pytest.approx(max(0, np.corrcoef(table[1, shared], table[4, shared])[0, 1]))
    assert not found.diagonal().any() and np.allclose(found, found.T)
    table[0, 9:] = np.nan
    assert not likeness(table)[0].any()  # too few


def test_genes_that_are_alike_tell_of_each_other(world):
    seen = world.tiers == "seen 2"
    surface = Surface.of(world.known)(world.known.single, world.known.asked)
    told = neighbours(world.known, 0).fitness
    assert np.corrcoef(told[seen] - surface[seen], world.truth[seen] - surface[seen])[0, 1] > 0.5


def test_ridge_finds_an_effect_of_a_gene_that_its_own_fitness_does_not_tell():
    table = planted(interaction=0.0)
    hot = np.array([(table["a"] == gene) | (table["b"] == gene) for gene in GENES])
    table["fitness_ab"] += np.random.default_rng(1).normal(0, 0.1, len(GENES)) @ hot
    found = pair_world(table, table, 0)
    seen = found.tiers == "seen 2"
    assert np.abs(ridge(found.known, 0).fitness - found.truth)[seen].mean() < 0.01
    flat = ridge(shuffled(found.known, 0), 0).fitness
    assert np.abs(flat - found.truth)[seen].mean() > 0.05


def test_runs_are_made_once_and_their_figures_have_intervals(world, tmp_path, monkeypatch):
    monkeypatch.setattr(norman_model, "STEPS", 40)
    monkeypatch.setattr(norman_model, "LOOKS", 2)
    monkeypatch.setattr(norman_runs, "norman", lambda seed: world)
    monkeypatch.setattr(norman_report, "PICTURE", tmp_path / "pairs.png")
    monkeypatch.setattr(norman_report, "RESAMPLES", 20)
    norman_runs.make(tmp_path / "made", ROWS, 0)
    norman_runs.make(tmp_path / "made", ("sum of single fitnesses",), 1)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "made").iterdir()}
    assert len(before) == len(ROWS) + 3 and max(path.stat().st_size for path in before) < 60_000
    norman_runs.make(tmp_path / "made", ROWS, 0)
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "made").iterdir()}
    figures, seconds, commits = norman_report.figures(tmp_path / "made")
    of_name = {figure.name: figure for figure in figures}
    assert seconds >= 0 and len(commits) == 1 and (tmp_path / "pairs.png").exists()
    total = of_name["norman pairs, seen 2, sum of single fitnesses: Pearson, fitness"]
    seen = world.tiers == "seen 2"
    truth = np.corrcoef(additive(world.known.single, world.known.asked)[seen], world.truth[seen])[0, 1]
    assert total.value == pytest.approx(truth, abs=1e-4) and total.low <= total.value <= total.high
    assert total.n == 2 * seen.sum() and total.seeds == [0, 1]
    flat = of_name["norman pairs, seen 2, sum of single fitnesses: Pearson, beyond the sum"]
    assert flat.value is None and flat.reason
    replicate = of_name["norman pairs, seen 2, one guide a gene: mean absolute error"]
    assert replicate.value == pytest.approx(0, abs=1e-9) and replicate.n < seen.sum()  # of the pairs that have one
    gap = of_name["norman pairs, seen 2: Pearson, beyond the surface, language model less low rank (goal: above 0)"]
    assert gap.value < 0 and gap.seeds == [0] and gap.bar is None


def test_the_language_model_reads_fitness(world, monkeypatch):
    monkeypatch.setattr(norman_model, "STEPS", 100)
    told, chosen = norman_model.language_model(world.known, 0)
    assert np.corrcoef(told, world.truth)[0, 1] > 0.5 and chosen["step"] > 0
    assert world.known.fitness.min() < told.min() and told.max() < world.known.fitness.max()


def test_a_prompt_names_genes_that_were_taught_and_tells_the_fitness_of_both(world):
    known = world.known
    written = norman_model.Prompts(known)
    ids = written.prompts(known.asked, known.single[known.asked]).numpy()
    assert ids.shape == (len(known.asked), 6)
    named = ids[:, [1, 3]] != written.unknown
    assert named.sum(axis=1).tolist() == [int(tier[-1]) for tier in world.tiers]
    place = {token: i for i, token in enumerate(written.tokens.tolist())}
    bins = np.vectorize(place.get)(ids[:, [2, 4]])
    assert np.array_equal(bins, np.digitize(known.single[known.asked], written.edges))
    dropped = written.prompts(
        known.training, known.single[known.training], drop=np.ones(known.training.shape, dtype=bool)
    )
    assert (dropped.numpy()[:, [1, 3]] == written.unknown).all()


def test_scores_are_those_of_libraries_and_resamples_count_pairs_as_often_as_drawn():
    rng = np.random.default_rng(0)
    told, true = rng.standard_normal((2, 60)).round(1)  # with ties
    weights = np.vstack([np.ones(60), rng.multinomial(60, np.full(60, 1 / 60), size=2)])
    drawn = [np.repeat(np.arange(60), row.astype(int)) for row in weights]
    for row, places in enumerate(drawn):
        assert norman_scores.correlations(told, true, weights)[row] == pytest.approx(np.corrcoef(told[places], true[places])[0, 1])  # fmt: skip
        assert norman_scores.rank_correlations(told, true, weights)[row] == pytest.approx(spearmanr(told[places], true[places]).statistic)  # fmt: skip
        assert norman_scores.areas(told, true > 0, weights)[row] == pytest.approx(roc_auc_score(true[places] > 0, told[places]))  # fmt: skip
        assert np.allclose(norman_scores.ranks(told, weights)[row][places], rankdata(told[places]))
    assert np.isnan(norman_scores.areas(told, true > 2, weights)).all()


def gct(path, *, doses=(0.04, 0.12, 0.37, 1.11, 3.33, 10.0), n_drugs=10, n_vehicles=12, n_genes=30):
    """A plate: each drug changes three genes of its own, more at higher doses."""
    rng = np.random.default_rng(0)
    wells = [(f"drug{i}", dose) for i in range(n_drugs) for dose in doses] + [("DMSO", None)] * n_vehicles
    values = rng.normal(8, 1.5, n_genes) + rng.normal(0, 0.1, (len(wells), n_genes))
    for row, (name, dose) in enumerate(wells):
        if dose is not None:
            values[row, 3 * int(name[4:]) : 3 * int(name[4:]) + 3] += np.log2(1 + dose)
    fields = {
        "pert_iname": [name for name, _ in wells], "pert_type": ["ctl_vehicle" if dose is None else "trt_cp" for _, dose in wells],
        "pert_idose": ["-666" if dose is None else f"{dose} um" for _, dose in wells], "pert_itime": ["24 h"] * len(wells),
        "cell_id": ["A375"] * len(wells), "pert_dose": ["-666" if dose is None else str(dose) for _, dose in wells],
    }  # fmt: skip
    lines = ["#1.3", f"{n_genes}\t{len(wells)}\t1\t{len(fields)}"]
    lines.append("\t".join(["id", "pr_gene_symbol", *(f"w{i}" for i in range(len(wells)))]))
    lines += ["\t".join([name, "na", *column]) for name, column in fields.items()]
    lines += ["\t".join([f"p{g}", f"GENE{g}", *(f"{v:.4f}" for v in values[:, g])]) for g in range(n_genes)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    table = path.with_suffix(".tsv")
    table.write_text("pert_iname\tmoa\ttarget\n" + "".join(f"drug{i}\tinhibitor\tT{i // 2}\n" for i in range(n_drugs)), encoding="utf-8")  # fmt: skip
    return load_l1000(path, tables=[read_drug_table(table)])


@pytest.mark.parametrize("seed", [0, 1])
def test_no_dose_of_a_held_out_drug_and_no_well_of_its_controls_is_trained_on(tmp_path, seed):
    study = gct(tmp_path / "plate.gct")
    found = world_of(study, seed, split="drug")
    held = set(found.test.obs["drug"]) - {CONTROL}
    assert len(held) == 2 and not held & set(found.training.obs["drug"])
    assert not set(found.test.obs_names) & set(found.training.obs_names)
    assert found.training.n_obs + found.test.n_obs == study.cells.n_obs
    assert (found.test.obs["drug"].value_counts()[list(held)] == 6).all()  # all doses together
    assert set(found.tiers) == {"control", "unseen drug"} and (found.tiers == "control").sum() == 6
    assert {row.name for row in found.library} == set(study.cells.obs["compound"])
    assert all(row.targets and not row.dose for row in found.library if row.name != CONTROL)


def test_only_high_doses_of_a_drug_are_held_out_where_doses_are(tmp_path):
    found = world_of(gct(tmp_path / "plate.gct"), 0, split="dose")
    treated = found.test.obs[found.test.obs["drug"] != CONTROL]
    assert set(treated["level"]) == {LEVELS[1]} and set(found.tiers) == {"control", "unseen dose"}
    drugs = set(treated["drug"])
    known = found.training.obs[found.training.obs["drug"].isin(drugs)]
    assert set(known["drug"]) == drugs and set(known["level"]) == {LEVELS[0]} and len(known) == 3 * len(drugs)
    for part in (found.training, found.test):
        vehicles = part.obs[part.obs["drug"] == CONTROL]
        assert vehicles["level"].value_counts().tolist() == [6, 6] and part.obs_names.is_unique
    bare = [{name.split(",")[0] for name in part.obs_names} for part in (found.training, found.test)]
    assert not bare[0] & bare[1]


def test_intensities_come_back_from_counts(tmp_path):
    study = gct(tmp_path / "plate.gct")
    found = world_of(study, 0, split="drug")
    counts = found.training.X.toarray()
    assert (counts == np.rint(counts)).all() and counts.min() >= 1
    there = study.cells[found.training.obs_names].X
    assert np.allclose(np.log2(counts), there, atol=0.1)


def test_rows_run_on_wells_and_targets_tell_of_drugs_that_share_them(tmp_path):
    found = world_of(gct(tmp_path / "plate.gct"), 0, split="drug")
    rows = {}
    for row in ("no change", "mean of training perturbations", "mean shift", "ridge on descriptors", "neighbours by descriptors", "half of the real cells"):  # fmt: skip
        told = BASELINES[row](found, 0)
        rows[row] = pd.DataFrame(scored(found, told.cells, 0, halved=row == "half of the real cells"))
        assert len(rows[row]) == 2 and set(rows[row]["tier"]) == {"unseen drug"}
        assert rows[row]["scFID"].isna().all() and rows[row]["energy distance"].notna().all()
    mean = [rows[row]["energy distance"].mean() for row in ("no change", "half of the real cells")]
    assert mean[1] < mean[0]
    pd.testing.assert_frame_equal(rows["mean shift"], rows["mean of training perturbations"])  # an unseen drug
    assert "half of the real cells" in NOT_ASKED["l1000, unseen dose"]


@pytest.mark.real
def test_the_map_and_the_plate_as_they_are_given_out(data_dir):
    from benchmarks.perturbation.l1000_world import l1000
    from benchmarks.perturbation.norman import norman

    found = norman(0)
    assert len(found.known.genes) == 112 and set(found.tiers) == set(TIERS)
    total = sum(map(len, (found.known.training, found.known.validation, found.known.asked)))
    assert total == 112 * 111 // 2
    table = load_norman_maps(*(data_dir / "norman_gi" / f"processed_{name}.csv.gz" for name in ("fitnesses", "emap")))
    known = dict(zip(zip(table["a"], table["b"]), table["fitness_ab"]))
    a, b = (found.known.genes[place] for place in found.known.asked[7])
    assert found.truth[7] == known.get((a, b), known.get((b, a)))
    wells = l1000(0, split="drug")
    assert wells.training.n_obs + wells.test.n_obs == 377 and (wells.tiers == "control").sum() == 13
    assert sum(bool(row.targets) for row in wells.library) > 35
