"""Random streams are named by words and by nothing else."""

import subprocess
import sys

import numpy as np
import pytest

from pipeline_lib.seeding import seed_of, stream, torch_stream


def test_the_same_words_give_the_same_numbers_in_another_process():
    code = "from pipeline_lib.seeding import stream; print(stream('toy', 'noise', 0, 0.5, True).standard_normal(3).tolist())"
    elsewhere = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": "123", "PATH": ""}).stdout
    assert str(stream("toy", "noise", 0, 0.5, True).standard_normal(3).tolist()) == elsewhere.strip()


def test_other_words_give_other_numbers():
    names = [("toy",), ("toy", 0), ("toy", 1), ("toy", "0"), ("toy", 0.0), ("toy", False), ("to", "y"), ("toy", "noise"), ("noise", "toy")]
    assert len({seed_of(*name) for name in names}) == len(names)


def test_numpy_scalars_count_as_the_numbers_they_are():
    assert seed_of("toy", np.int64(3), np.float64(0.5)) == seed_of("toy", 3, 0.5)


def test_streams_do_not_correlate():
    draws = np.array([stream("toy", k).standard_normal(2000) for k in range(20)])
    correlation = np.corrcoef(draws) - np.eye(20)
    assert np.abs(correlation).max() < 5 / np.sqrt(2000)


def test_torch_streams_follow_the_same_names():
    import torch

    draw = torch.randn(4, generator=torch_stream("toy", 1))
    assert torch.equal(draw, torch.randn(4, generator=torch_stream("toy", 1)))
    assert not torch.equal(draw, torch.randn(4, generator=torch_stream("toy", 2)))


def test_a_stream_without_a_name_or_with_a_list_in_it_is_refused():
    with pytest.raises(ValueError, match="at least one word"):
        stream()
    with pytest.raises(TypeError, match=r"not by \[0\]"):
        stream("toy", [0])
