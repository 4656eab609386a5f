"""The grid, its layers and the natural join."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline_lib.pipeline.spec import JoinError, Need, build_paper, join
from pipeline_lib.pipeline.strict_yaml import DeclarationError


def paper(stages, scales=None, scale="laptop"):
    return build_paper({"stages": stages, "scales": scales or {}}, "toy", scale, "toy.yaml")


def names(found):
    return [cell.name for cell in found]


TRAIN_AND_SOLVE = {
    "train": {"kind": "train", "params": {"steps": 600}, "batch": {"seed": [0, 1, 2]},
              "grid": [{"axes": {"loss": ["l1", "l2"]}}, {"axes": {"loss": ["matching"]}, "params": {"steps": 200}, "needs": [{"stage": "train", "where": {"loss": "l1"}, "as": "start"}]}]},
    "solve": {"needs": ["train"], "batch": {"seed": [0, 1]},
              "grid": [{"axes": {"loss": ["l1", "l2", "matching"], "noise": [0.1, 0.3]}}, {"axes": {"loss": ["mean_filter"], "noise": [0.1, 0.3]}, "needs": []}]},
}


def test_a_grid_is_the_sum_of_its_products():
    toy = paper(TRAIN_AND_SOLVE)
    assert names(toy.stages["train"].cells) == ["loss~l1", "loss~l2", "loss~matching"]
    assert names(toy.stages["solve"].cells)[:3] == ["loss~l1/noise~0.1", "loss~l1/noise~0.3", "loss~l2/noise~0.1"]
    assert len(toy.stages["solve"].cells) == 8
    assert [cell.params["steps"] for cell in toy.stages["train"].cells] == [600, 600, 200]


def test_a_stage_without_a_grid_is_one_cell():
    assert names(paper({"solve": {}}).stages["solve"].cells) == ["all"]


def test_a_scale_merges_params_and_replaces_the_batch_and_the_grid():
    scales = {"smoke": {"train": {"params": {"steps": 2, "width": 8}, "batch": {"seed": [0]}}, "solve": {"grid": [{"axes": {"loss": ["l1"], "noise": [0.1]}}]}}}
    toy = paper(TRAIN_AND_SOLVE, scales, "smoke")
    assert [dict(cell.params) for cell in toy.stages["train"].cells] == [{"steps": 2, "width": 8}] * 3
    assert toy.stages["train"].cells[0].batch == {"seed": [0]}
    assert names(toy.stages["solve"].cells) == ["loss~l1/noise~0.1"]
    assert paper(TRAIN_AND_SOLVE, scales).stages["train"].cells[0].params == {"steps": 600}


def test_the_params_of_a_scales_own_sub_grid_win_over_the_scale():
    stages = {"solve": {"params": {"steps": 1}, "grid": [{"axes": {"m": ["a"]}, "params": {"steps": 2}}]}}
    scales = {"paper": {"solve": {"params": {"steps": 3}, "grid": [{"axes": {"m": ["a"]}, "params": {"steps": 4}}, {"axes": {"m": ["b"]}}]}}}
    assert [cell.params["steps"] for cell in paper(stages, scales, "paper").stages["solve"].cells] == [4, 3]


def test_split_makes_a_cell_of_each_value():
    stages = {"train": {"batch": {"seed": [0, 1]}, "split": ["seed"], "grid": [{"axes": {"loss": ["l1", "l2"]}}]}}
    cells = paper(stages).stages["train"].cells
    assert names(cells) == ["loss~l1/seed~0", "loss~l1/seed~1", "loss~l2/seed~0", "loss~l2/seed~1"]
    assert [cell.batch["seed"] for cell in cells] == [[0], [1], [0], [1]]


def test_the_same_cell_twice_is_refused():
    with pytest.raises(DeclarationError, match=r"toy.yaml: stages.solve: the cell m~a is declared twice"):
        paper({"solve": {"grid": [{"axes": {"m": ["a", "b"]}}, {"axes": {"m": ["a"]}}]}})


def test_a_name_too_long_for_a_folder_is_refused():
    with pytest.raises(DeclarationError, match="fewer than 150"):
        paper({"solve": {"grid": [{"axes": {"method": ["x" * 150]}}]}})


def test_needs_join_on_the_shared_axes():
    toy = paper(TRAIN_AND_SOLVE)
    for cell in toy.stages["solve"].cells[:6]:
        assert names(join(cell, cell.needs[0], toy.stages["train"])) == [f"loss~{cell.axes['loss']}"]


def test_where_fixes_an_axis_against_the_cells_own_value():
    toy = paper(TRAIN_AND_SOLVE)
    matching = toy.stages["train"].cells[2]
    assert matching.needs[0].name == "start"
    assert names(join(matching, matching.needs[0], toy.stages["train"])) == ["loss~l1"]


def test_several_cells_agree_where_an_axis_is_not_shared():
    stages = {"train": {"grid": [{"axes": {"loss": ["l1", "l2"], "lr": [0.1, 0.2]}}]}, "solve": {"needs": ["train"], "grid": [{"axes": {"loss": ["l2"]}}]}}
    toy = paper(stages)
    cell = toy.stages["solve"].cells[0]
    assert names(join(cell, cell.needs[0], toy.stages["train"])) == ["loss~l2/lr~0.1", "loss~l2/lr~0.2"]


def test_a_batched_axis_joins_with_an_axis_and_with_split_cells():
    stages = {"train": {"batch": {"seed": [0, 1, 2]}, "split": ["seed"]}, "noise": {"grid": [{"axes": {"sigma": [0.1, 0.2, 0.3]}}]},
              "solve": {"needs": ["train", "noise"], "batch": {"seed": [2, 0], "sigma": [0.1, 0.3]}}}
    toy = paper(stages)
    cell = toy.stages["solve"].cells[0]
    assert names(join(cell, cell.needs[0], toy.stages["train"])) == ["seed~0", "seed~2"]
    assert names(join(cell, cell.needs[1], toy.stages["noise"])) == ["sigma~0.1", "sigma~0.3"]


def test_a_join_with_nothing_says_what_to_write():
    stages = {"train": {"grid": [{"axes": {"loss": ["l1"]}}]}, "solve": {"needs": ["train"], "grid": [{"axes": {"loss": ["mean_filter"]}}]}}
    toy = paper(stages)
    cell = toy.stages["solve"].cells[0]
    with pytest.raises(JoinError, match=r"stages.solve: the cell loss~mean_filter needs 'train', which has no cell with loss = mean_filter; .* writes its own `needs`"):
        join(cell, cell.needs[0], toy.stages["train"])


def test_seeds_that_nobody_computes_are_named():
    stages = {"train": {"batch": {"seed": [0, 1]}}, "solve": {"needs": ["train"], "batch": {"seed": [0, 3]}}}
    toy = paper(stages)
    cell = toy.stages["solve"].cells[0]
    with pytest.raises(JoinError, match="for seed = 3, which train does not compute"):
        join(cell, cell.needs[0], toy.stages["train"])


def test_where_on_an_axis_that_is_not_there_is_refused():
    toy = paper({"train": {"grid": [{"axes": {"loss": ["l1"]}}]}, "solve": {}})
    with pytest.raises(JoinError, match="where los is fixed, but train has the axes loss"):
        join(toy.stages["solve"].cells[0], Need("train", "stage", "train", {"los": "l1"}), toy.stages["train"])


@settings(deadline=None, max_examples=40, derandomize=True)
@given(st.lists(st.sets(st.sampled_from("abcd"), min_size=1), min_size=1, max_size=3))
def test_the_join_is_the_relational_one(axes):
    """Against its definition: all pairs of points of two products that agree on the names that they share."""
    left = {f"x{k}": sorted(values) for k, values in enumerate(axes)}
    right = {f"x{k}": list("abcd") for k in range(1, len(axes) + 1)}
    toy = paper({"up": {"grid": [{"axes": right}]}, "down": {"needs": ["up"], "grid": [{"axes": left}]}})
    points = [dict(zip(right, values, strict=True)) for values in itertools.product(*right.values())]
    for cell in toy.stages["down"].cells:
        agreed = [point for point in points if all(cell.axes[axis] == point[axis] for axis in set(point) & set(cell.axes))]
        assert [dict(other.axes) for other in join(cell, cell.needs[0], toy.stages["up"])] == agreed
