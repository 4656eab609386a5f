"""Bad declarations: each gives one clear message before anything runs."""

import pytest

YAML = "config/papers/stein_paradox.yaml"
CODE = "pipeline_lib/papers/stein_paradox.py"


def refused(project, *arguments) -> str:
    """What a refused run says; nothing may have been made."""
    output = project.snakemake(*arguments, fails=True)
    assert not project.stores()
    assert "Traceback" not in output
    return output


WRONG = {
    "a misspelt key": (YAML, "summary:", "sumary:", ["stein_paradox.yaml: sumary: this key is not known here; did you mean 'summary'?", "summary: this key is missing"]),
    "a misspelt key of a stage": (YAML, "    params: {trials: 400}", "    parms: {trials: 400}", ["stages.observe.parms: this key is not known here; did you mean 'params'?"]),
    "a misspelt key of a claim": (YAML, "    says: At", "    say: At", ["claims.shrinkage_wins.say: this key is not known here; did you mean 'says'?"]),
    "a misspelt stage in a scale": (YAML, "    estimate: {batch", "    estimat: {batch", ["scales.smoke: there is no stage 'estimat'; did you mean 'estimate'?"]),
    "a misspelt scale": (YAML, "  smoke:", "  smoky:", ["scales.smoky"]),
    "an axis that the function does not take": (YAML, "axes: {dimension: [3, 10, 100]}\n  estimate", "axes: {dimensions: [3, 10, 100]}\n  estimate",
                                                ["the function observe takes no 'dimensions'; did you mean 'dimension'?", "the function observe needs 'dimension', and nobody gives it"]),
    "a parameter that the function does not take": (YAML, "params: {trials: 400}", "params: {trials: 400, burn_in: 5}", ["stages.observe: the cell dimension~3: the function observe takes no 'burn_in'"]),
    "a parameter that nobody gives": (YAML, "    params: {trials: 400}\n", "", ["the function observe needs 'trials', and nobody gives it"]),
    "a kind that is none": (YAML, "  estimate:\n    needs", "  estimate:\n    kind: slove\n    needs", ["stages.estimate.kind: 'slove' is not one of", "did you mean 'solve'?"]),
    "the same cell twice": (YAML, "dimension: [3, 10, 100]}\nclaims", "dimension: [3, 10, 10]}\nclaims", ["stages.estimate: the cell method~observation/dimension~10 is declared twice"]),
    "a repeated key": (YAML, "title:", "title: first\ntitle:", ["stein_paradox.yaml, line 2, column 1: the key 'title' stands twice"]),
    "a value that cannot stand in a file name": (YAML, "james_stein, positive_part], dimension: [3, 10, 100]", "'james/stein'], dimension: [3, 10, 100]",
                                                 ["stages.estimate.grid.0.axes.method.1", "james/stein"]),
    "a path that climbs as a value": (YAML, "james_stein, positive_part], dimension: [3, 10, 100]", "'../../x'], dimension: [3, 10, 100]", ["'../../x'"]),
    "a need that is nothing": (YAML, "needs: [observe]", "needs: [obsrve]", ["needs 'obsrve', which is neither a stage nor a dataset; did you mean 'observe'?"]),
    "a need that joins with no cell": (YAML, "positive_part], dimension: [3, 10, 100]", "positive_part], dimension: [3, 11]", ["needs 'observe', which has no cell with dimension = 11"]),
    "a seed that nobody computes": (YAML, "    needs: [observe]\n    batch: {seed: [0, 1, 2]}", "    needs: [observe]\n    batch: {seed: [0, 5]}", ["for seed = 5, which observe does not compute"]),
    "a bar that is none": (YAML, 'bar: "<= 0"', 'bar: "=< 0"', ["claims.shrinkage_wins.tests.1.bar", "=< 0"]),
    "a split that is no batched axis": (YAML, "split: [seed]", "split: [sed]", None),
    "a figure that is not drawn": (YAML, "  risk:\n    caption", "  risks:\n    caption", ["figure_risks"]),
    "a YAML tag": (YAML, "venue: Proceedings", "venue: !!python/object/apply:os.getcwd [] #", ["could not determine a constructor"]),
    "a negative resource": (YAML, "mem_mb: 4000", "mem_mb: -4", ["scales.paper.observe.resources.mem_mb: -4"]),
    "a function that is not there": (CODE, "def estimate(", "def estimates(", ["estimate"]),
    "a syntax error in the experiment": (CODE, "def analyse(cells):", "def analyse(cells:", ["stein_paradox.py"]),
}


@pytest.mark.parametrize("what", [name for name, case in WRONG.items() if case[3]])
def test_refused_with_file_place_and_expectation(project, what):
    file, old, new, says = WRONG[what]
    project.edit(file, old, new)
    output = refused(project)
    for text in says:
        assert text in output, output


def test_a_split_that_is_no_batched_axis_is_refused_at_its_scale(project):
    project.edit(YAML, "split: [seed]", "split: [sed]")
    assert "sed" in refused(project, "--config", "scale=paper")


@pytest.mark.parametrize(("setting", "says"), [
    ("scale=laptob", "scale is 'laptob'; expected one of smoke, laptop, paper; did you mean 'laptop'?"),
    ("papers=[stein_paradx]", "there is no paper 'stein_paradx'; did you mean 'stein_paradox'?"),
    ("device=gpu", "device is 'gpu'; expected one of auto, cpu, cuda"),
    ("scael=smoke", "the key 'scael' is not known; did you mean 'scale'?"),
    ("sources={mnist: 3}", "sources is a mapping"),
    ("sources={mnist: {path: x}}", "there is no source 'mnist'"),
])
def test_settings_are_refused_with_what_was_meant(project, setting, says):
    assert says in refused(project, "--config", setting)


def test_a_misspelt_target_is_refused(project):
    assert "stein_paradx" in refused(project, "stein_paradx")


def test_a_metric_that_the_analysis_does_not_return_is_named_with_what_there_is(project):
    project.edit(YAML, "metric: positive_part_loses", "metric: positive_part_wins")
    output = project.snakemake(fails=True)
    assert "stein_paradox.yaml" in output and "'positive_part_wins'" in output and "gain" in output
    assert not (project.root / "results/laptop/stein_paradox/claims.json").exists()
    project.edit(YAML, "metric: positive_part_wins", "metric: positive_part_loses")
    assert set(project.planned()) == {"judge", "gather"}


def test_a_stage_that_returns_another_batch_is_refused(project):
    project.edit(CODE, '(("seed", "trial"), error)}, {"seed": seed})', '(("seed", "trial"), error)}, {"seed": [s + 1 for s in seed]})')
    output = project.snakemake(fails=True)
    assert "the coordinate 'seed' is [1, 2, 3], where [0, 1, 2] were asked for" in output.replace("np.int64(", "").replace(")", "")
    assert not project.stores("*/stein_paradox/cells/estimate/**/*.zarr.zip")


def test_a_user_file_with_nan_or_another_checksum_is_refused(project):
    project.write("pipeline_lib/datasets/table.py", '''"""A table of the user's own."""
import numpy as np
import xarray as xr


def table(sources):
    values = np.loadtxt(sources["user_table"])
    if np.isnan(values).any():
        raise ValueError(f"{sources['user_table'].name}: row {np.isnan(values).argmax()} is NaN; numbers are expected")
    return xr.Dataset({"value": ("row", values)})
''')
    project.write("config/datasets.yaml", """
sources:
  user_table: {from: user, file: table.txt, licence: own, cite: own}
datasets:
  table: {builder: table.table, title: A table, sources: [user_table], licence: own, cite: own}
""")
    project.edit(YAML, "  observe:\n    params", "  observe:\n    needs: [table]\n    params")
    project.write("own/table.txt", "1\nnan\n3\n")
    output = refused(project, "--config", "sources={user_table: {path: own/table.txt}}")
    checksum = __import__("hashlib").sha256((project.root / "own/table.txt").read_bytes()).hexdigest()
    assert checksum in output and "user_table" in output
    wrong = refused(project, "--config", f"sources={{user_table: {{path: own/table.txt, sha256: {'0' * 64}}}}}")
    assert checksum in wrong and "0" * 64 in wrong
    nan = refused(project, "--config", f"sources={{user_table: {{path: own/table.txt, sha256: {checksum}}}}}")
    assert "row 1 is NaN" in nan
    (project.root / "data/raw/user_table/table.txt").unlink()
    absent = refused(project)
    assert "user_table" in absent and "table" in absent and "stein_paradox" in absent and "config.yaml" in absent
