"""What an experiment is given."""

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline_lib.cells import Cells


def cells(**grid):
    entries = [({"method": m, "noise": s}, xr.Dataset({"psnr": ("seed", [len(m) + s, 2.0]), "k": ((), i)}, {"seed": [0, 1]}))
               for i, (m, s) in enumerate((m, s) for m in ("net", "filter") for s in (0.1, 0.3))]
    return Cells(entries, "solve")


def test_one_and_where_choose_by_axes():
    assert float(cells().one(method="net", noise=0.3).psnr[0]) == 3.3
    assert [axes["noise"] for axes, _ in cells().where(method="filter")] == [0.1, 0.3]


@pytest.mark.parametrize("axes", [{"method": "nte"}, {"methd": "net"}, {"method": "net", "noise": 0.2}])
def test_what_is_not_there_is_an_error_that_lists_what_is(axes):
    with pytest.raises(KeyError, match="no cell of solve has .*method~filter/noise~0.3"):
        cells().where(**axes)


def test_one_of_several_is_an_error():
    with pytest.raises(KeyError, match="2 cells of solve have method~net, where one is wanted"):
        cells().one(method="net")
    with pytest.raises(KeyError, match="4 cells"):
        cells().one()


def test_variable_lays_the_cells_into_the_product_of_the_axes():
    psnr = cells().variable("psnr")
    assert psnr.dims == ("method", "noise", "seed")
    for axes, dataset in cells():
        np.testing.assert_array_equal(psnr.sel(axes), dataset.psnr)


def test_variable_is_nan_where_the_grid_has_no_cell_and_keeps_integers_where_it_is_complete():
    entries = list(cells())
    assert np.isnan(Cells(entries[:3]).variable("psnr").sel({"method": "filter", "noise": 0.3})).all()
    assert cells().variable("k").dtype.kind == "i"
    assert Cells(entries[:3]).variable("k").dtype == float


def test_variable_aligns_lengths_that_differ():
    entries = [({"n": n}, xr.Dataset({"error": ("iteration", np.arange(n, dtype=float))}, {"iteration": np.arange(n)})) for n in (2, 4)]
    error = Cells(entries).variable("error")
    assert error.shape == (2, 4)
    assert np.isnan(error.sel(n=2)[2:]).all()


def test_variable_of_cells_with_different_axes_asks_for_a_choice():
    mixed = Cells([({"lr": 0.1}, xr.Dataset({"loss": 1.0})), ({"lr": 0.1, "damp": 1.0}, xr.Dataset({"loss": 2.0}))])
    with pytest.raises(ValueError, match="different axes"):
        mixed.variable("loss")
    assert mixed.where(damp=1.0).variable("loss").item() == 2.0
    with pytest.raises(KeyError, match="no cell of stage has a variable 'gain'"):
        mixed.variable("gain")


def test_text_and_booleans_survive():
    entries = [({"m": m}, xr.Dataset({"name": ("k", [m, "x"]), "ok": ((), m == "a")})) for m in "ab"]
    assert Cells(entries).variable("name").sel(m="b").values.tolist() == ["b", "x"]
    assert Cells(entries).variable("ok").dtype == bool


def test_a_cell_is_opened_once_and_only_when_used():
    opened = []
    lazy = Cells([({"k": k}, lambda k=k: opened.append(k) or xr.Dataset({"v": k})) for k in range(3)])
    lazy.one(k=1), lazy.one(k=1)
    assert opened == [1]


@settings(deadline=None, max_examples=25, derandomize=True)
@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from([1, 2, 3])), unique=True, min_size=1))
def test_variable_holds_exactly_the_cells_that_exist(points):
    found = Cells([({"m": m, "k": k}, xr.Dataset({"v": float(ord(m) * k)})) for m, k in points]).variable("v")
    assert int(found.notnull().sum()) == len(points)
    assert all(found.sel(m=m, k=k).item() == ord(m) * k for m, k in points)
