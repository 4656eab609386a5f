"""The training loop: resume with the same bits, failures that say where, batches, stacks, weights as arrays."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline_lib.networks.mlp import mlp
from pipeline_lib.training.batches import epochs
from pipeline_lib.training.checkpoint import Checkpoint
from pipeline_lib.training.ensemble import stack_modules
from pipeline_lib.training.history import History
from pipeline_lib.training.loop import fit
from pipeline_lib.training.weights import from_dataset, to_dataset


class Killed(Exception):
    pass


def training(checkpoint=None, stop_at=None, steps=40):
    """A run with momentum, a schedule, random data, a running mean and a history; it may be killed before a step."""
    generator = torch.Generator().manual_seed(3)
    model = mlp([4, 6, 2], generator=torch.Generator().manual_seed(0))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, steps)
    mean, history = {"first": torch.zeros(6, 4)}, History()

    def step(i):
        if i == stop_at:
            raise Killed
        optimizer.zero_grad()
        loss = model(torch.randn(8, 4, generator=generator)).square().mean()
        loss.backward()
        optimizer.step()
        schedule.step()
        mean["first"].add_(model[0].weight.detach())
        if i % 10 == 0:
            history.log(i, loss=loss)
        return loss

    losses = fit(step, steps=steps, state={"model": model, "optimizer": optimizer, "schedule": schedule, "generator": generator, "mean": mean, "history": history},
                 checkpoint=checkpoint, check_every=5)
    return losses, model.state_dict(), mean["first"], history


@pytest.mark.parametrize("stop_at", [0, 4, 5, 6, 23, 39])
def test_a_killed_run_resumes_with_the_same_bits(tmp_path, stop_at):
    whole = training()
    with pytest.raises(Killed):
        training(Checkpoint(tmp_path / "run.ckpt", seconds=0), stop_at)
    resumed = training(Checkpoint(tmp_path / "run.ckpt", seconds=0))
    assert (resumed[0] == whole[0]).all() and torch.equal(resumed[2], whole[2])
    assert all(torch.equal(resumed[1][name], value) for name, value in whole[1].items())
    assert resumed[3].steps == [0, 10, 20, 30] and torch.equal(resumed[3].stacked()["loss"], whole[3].stacked()["loss"])


def test_a_finished_run_is_not_repeated_and_clear_removes_every_part(tmp_path):
    checkpoint = Checkpoint(tmp_path / "run.ckpt", seconds=0)
    whole = training(checkpoint.part("a"))
    again = training(checkpoint.part("a"), stop_at=0)
    assert (again[0] == whole[0]).all()
    checkpoint.save({"x": 1})
    checkpoint.clear()
    assert list(tmp_path.iterdir()) == []


def test_a_cut_checkpoint_is_not_used(tmp_path):
    checkpoint = Checkpoint(tmp_path / "run.ckpt", seconds=0)
    training(checkpoint)
    content = checkpoint.path.read_bytes()
    checkpoint.path.write_bytes(content[: len(content) // 2])
    with pytest.warns(UserWarning, match="cannot be read"):
        assert (training(checkpoint)[0] == training()[0]).all()


def test_a_checkpoint_is_no_pickle(tmp_path):
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "harm"), "w"))

    torch.save({"state": Evil()}, tmp_path / "run.ckpt")
    with pytest.raises(Exception, match="[Ww]eights.?only"):
        Checkpoint(tmp_path / "run.ckpt").load()
    assert not (tmp_path / "harm").exists()


def test_state_of_another_run_is_refused(tmp_path):
    training(Checkpoint(tmp_path / "run.ckpt", seconds=0))
    with pytest.raises(ValueError, match="holds the state of"):
        fit(lambda i: torch.zeros(()), steps=60, state={"other": {}}, checkpoint=Checkpoint(tmp_path / "run.ckpt"))


@pytest.mark.parametrize("bad", [3, 49, 50, 77])
def test_a_loss_that_is_not_finite_is_named_with_its_step_and_model(bad):
    def step(i):
        losses = torch.ones(3)
        if i >= bad:
            losses[1] = float("nan")
        return losses

    with pytest.raises(FloatingPointError, match=rf"model 1 of 3 is nan at step {bad}; try a smaller learning rate"):
        fit(step, steps=100)


@settings(deadline=None, max_examples=20, derandomize=True)
@given(n=st.integers(1, 30), batch=st.integers(1, 30), count=st.integers(1, 4), seed=st.integers(0, 99))
def test_an_epoch_sees_each_sample_at_most_once(n, batch, count, seed):
    if batch > n:
        with pytest.raises(ValueError, match="batch_size"):
            epochs(n, batch, count, torch.Generator())
        return
    order = epochs(n, batch, count, torch.Generator().manual_seed(seed))
    assert order.shape == (count * (n // batch), batch)
    for epoch in order.reshape(count, -1):
        assert len(set(epoch.tolist())) == len(epoch) and set(epoch.tolist()) <= set(range(n))
    assert torch.equal(order, epochs(n, batch, count, torch.Generator().manual_seed(seed)))


def test_a_stack_trains_as_its_models_do_alone():
    def models():
        return [mlp([3, 5, 2], generator=torch.Generator().manual_seed(k)) for k in range(3)]

    x = torch.randn(3, 7, 3, generator=torch.Generator().manual_seed(5))
    params, buffers, forward = stack_modules(models())
    optimizer = torch.optim.Adam(params.values(), lr=1e-2)
    for _ in range(5):
        optimizer.zero_grad()
        forward(params, buffers, x).square().mean((1, 2)).sum().backward()
        optimizer.step()
    for k, model in enumerate(models()):
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
        for _ in range(5):
            optimizer.zero_grad()
            model(x[k]).square().mean().backward()
            optimizer.step()
        for name, value in model.named_parameters():
            torch.testing.assert_close(params[name][k], value)


def test_weights_round_trip_through_a_store(tmp_path):
    from pipeline_lib.pipeline.store import load_store, write

    state = mlp([3, 4, 2], generator=torch.Generator().manual_seed(0)).state_dict() | {"steps": torch.tensor(7), "half": torch.ones(2, dtype=torch.float16)}
    write(to_dataset(state), tmp_path / "w.zarr.zip")
    back = from_dataset(load_store(tmp_path / "w.zarr.zip"))
    assert set(back) == set(state) and all(torch.equal(back[name], value) and back[name].dtype == value.dtype for name, value in state.items())
    stacked = to_dataset({"a": torch.zeros(3, 2)}, dims=("seed",))
    assert stacked["weight:a"].dims[0] == "seed"
    with pytest.raises(ValueError, match="holds no weights"):
        from_dataset(stacked.drop_vars("weight:a"))
    with pytest.raises(ValueError, match="bfloat16"):
        to_dataset({"a": torch.zeros(1, dtype=torch.bfloat16)})
    assert np.isfinite(stacked["weight:a"]).all()
