"""The cache knows the code: what an edit, a revert, a lost state or shuffled file times make run again."""

import json
import os
import random
import shutil

import pytest

YAML = "config/papers/stein_paradox.yaml"
CODE = "pipeline_lib/papers/stein_paradox.py"
METHOD = "pipeline_lib/approximation/james_stein.py"
ALL = {"solve": 12, "analyse": 1, "judge": 1, "figure": 1, "gather": 1}
AFTER_ESTIMATE = {"solve": 6, "analyse": 1, "judge": 1, "figure": 1, "gather": 1}


def test_a_finished_atlas_has_nothing_to_do(finished):
    assert finished.planned() == {}


def test_the_worked_example_runs_from_nothing_to_verdicts(finished):
    claim = finished.claims()["claims"]["shrinkage_wins"]
    assert claim["verdict"] == "reproduced"
    assert claim["tests"][0]["seeds"] == 3
    assert 0.4 < claim["tests"][0]["interval"][0] < claim["tests"][0]["interval"][1] < 0.6
    gathered = json.loads((finished.root / "results/laptop/claims.json").read_text())
    assert "stein_paradox" in gathered["papers"]
    for suffix in ("svg", "png", "pdf"):
        assert (finished.root / f"results/laptop/stein_paradox/figures/risk.{suffix}").stat().st_size > 3000


def test_a_second_run_gives_the_same_bits(finished):
    before = finished.products()
    shutil.rmtree(finished.root / "results")
    finished.snakemake("--forceall")
    assert finished.products() == before


@pytest.mark.parametrize("edit", [
    (METHOD, '    d = observed.shape[-1]', '    # The number of coordinates.\n\n    d = observed.shape[-1]'),
    (METHOD, "of a Gaussian mean (James and Stein, 1961).", "of the mean of a Gaussian."),
    (METHOD, "Raises ValueError for d < 3", "It raises ValueError for d < 3"),
    (METHOD, "def james_stein", "def unused(x):\n    return x + 1\n\n\ndef james_stein"),
    ("pipeline_lib/metrics/__init__.py", "", "\n\ndef psnr(x):\n    return x\n"),
    (CODE, "import numpy as np", "import math\n\nimport numpy as np"),
    (YAML, "title: Estimation", "title: On estimation"),
    (YAML, "mem_mb: 4000", "mem_mb: 8000"),
])
def test_what_the_results_do_not_depend_on_makes_nothing_stale(finished, edit):
    file, old, new = edit
    if old:
        finished.edit(file, old, new)
    else:
        finished.write(file, (finished.root / file).read_text() + new)
    assert finished.planned() == {}


@pytest.mark.parametrize(("edit", "runs"), [
    ((METHOD, "1 - (d - 2)", "1 - (d - 3)"), AFTER_ESTIMATE | {"solve": 9}),
    ((CODE, "np.square(estimates - data", "np.abs(estimates - data"), AFTER_ESTIMATE | {"solve": 9}),
    ((CODE, 'stream("stein_paradox", "mean", s)', 'stream("stein_paradox", "means", s)'), ALL),
    ((CODE, "risk.sel({\"method\": \"positive_part\"}) / ", "0.9 * risk.sel({\"method\": \"positive_part\"}) / "), {"analyse": 1, "judge": 1, "figure": 1, "gather": 1}),
    ((CODE, 'ylabel="squared error / d"', 'ylabel="risk / d"'), {"figure": 1}),
    ((YAML, 'in [0.4, 0.6]', 'in [0.3, 0.6]'), {"judge": 1, "gather": 1}),
    ((YAML, "alt: Three lines", "alt: Three falling lines"), {"figure": 1}),
    ((YAML, "params: {trials: 400}", "params: {trials: 401}"), ALL),
    ((YAML, "dimension: [3, 10, 100]}\nclaims", "dimension: [3, 100]}\nclaims"), {"analyse": 1, "judge": 1, "figure": 1, "gather": 1}),
])
def test_an_edit_makes_exactly_what_depends_on_it_run_and_a_revert_reuses_the_stores(finished, edit, runs):
    before = finished.products()
    finished.edit(*edit)
    assert finished.planned() == runs
    finished.snakemake()
    assert finished.planned() == {}
    finished.edit(edit[0], edit[2], edit[1])
    again = finished.planned()
    assert not {"solve", "analyse"} & set(again)
    finished.snakemake()
    after = finished.products()
    assert {name: after[name] for name in before} == before


def test_the_reason_of_a_job_is_named(finished):
    finished.edit(METHOD, "1 - (d - 2)", "1 - (d - 3)")
    assert "pipeline_lib.approximation.james_stein.james_stein" in finished.snakemake("-n")
    finished.edit(METHOD, "1 - (d - 3)", "1 - (d - 2)")
    finished.edit(YAML, "trials: 400", "trials: 500")
    assert "trials 400 -> 500" in finished.snakemake("-n")
    finished.edit(YAML, "trials: 500", "trials: 400")
    next(finished.root.glob("results/laptop/stein_paradox/cells/estimate/method~observation/dimension~3@*")).unlink()
    assert "its store is missing" in finished.snakemake("-n")
    finished.edit(YAML, "dimension: [3, 10, 100]}\n  estimate", "dimension: [3, 10, 30, 100]}\n  estimate")
    assert "no earlier store" in finished.snakemake("-n")


def shuffle_times(root):
    """Every file gets a time of its own at random, as after a clone or a copy."""
    draw = random.Random(0)
    for path in sorted(root.rglob("*")):
        if path.is_file():
            moment = 1.7e9 + draw.random() * 1e6
            os.utime(path, (moment, moment))


def test_a_clone_with_shuffled_times_and_no_state_has_nothing_to_do(finished):
    shutil.rmtree(finished.root / ".snakemake")
    shuffle_times(finished.root)
    assert finished.planned() == {}


def test_a_clone_of_other_code_runs_what_the_edit_reaches_alone(finished):
    finished.edit(CODE, 'ylabel="squared error / d"', 'ylabel="risk / d"')
    finished.edit(YAML, 'in [0.4, 0.6]', 'in [0.3, 0.6]')
    shutil.rmtree(finished.root / ".snakemake")
    shuffle_times(finished.root)
    assert finished.planned() == {"figure": 1, "judge": 1, "gather": 1}
    finished.snakemake()
    assert finished.planned() == {}


def test_figures_are_redrawn_from_the_analysis_alone(finished):
    shutil.rmtree(finished.root / "results/laptop/stein_paradox/cells")
    before = finished.products()
    shutil.rmtree(finished.root / "results/laptop/stein_paradox/figures")
    assert finished.planned("stein_paradox_figures") == {"figure": 1}
    finished.snakemake("stein_paradox_figures")
    assert finished.products() == before


def test_stale_stores_are_removed_on_request_and_valid_ones_kept(finished):
    valid = set(finished.products())
    finished.edit(YAML, "trials: 400", "trials: 40")
    finished.snakemake()
    finished.edit(YAML, "trials: 40}", "trials: 400}")
    finished.snakemake()
    assert set(finished.products()) > valid
    finished.snakemake("clean_stale")
    assert set(finished.products()) == valid
    assert len(list(finished.root.glob("results/laptop/stein_paradox/provenance/**/*.json"))) == 13
    assert finished.planned() == {}


def test_an_edit_under_way_never_stores_new_results_under_an_old_key(project):
    """The experiment edits itself while the first job of two layers runs: jobs that were planned before refuse."""
    project.edit(CODE, "    observed, means = [], []\n", "    observed, means = [], []\n    edit_the_method()\n")
    project.edit(CODE, "def observe(", '''def edit_the_method():
    from pathlib import Path

    file = Path("pipeline_lib/approximation/james_stein.py")
    file.write_text(file.read_text().replace("1 - (d - 2)", "1 - (d - 3)"))


def observe(''')
    output = project.snakemake(fails=True)
    assert "the code or the declaration changed since this job was planned" in output
    assert not project.stores("laptop/stein_paradox/cells/estimate/**/*.zarr.zip")
    project.snakemake()
    project.snakemake("--forceall", "-n")
    assert project.planned() == {}


def test_split_makes_jobs_and_no_function_sees_them(finished):
    """The same numbers come out when the seeds are cut into jobs."""
    before = finished.claims()
    finished.edit(YAML, "  observe:\n    params: {trials: 400}", "  observe:\n    split: [seed]\n    params: {trials: 400}")
    assert finished.planned()["solve"] == 9 + 9
    finished.snakemake()
    after = finished.claims()
    assert after["claims"] == before["claims"]


def test_results_elsewhere_and_another_scale(project, tmp_path):
    project.snakemake("--config", "scale=smoke", f"results={tmp_path}/elsewhere", "papers=[stein_paradox]", "device=cpu")
    claims = json.loads((tmp_path / "elsewhere/smoke/stein_paradox/claims.json").read_text())
    assert claims["claims"]["shrinkage_wins"]["verdict"] == "reported"
    assert not (project.root / "results").exists()
