"""StableMax, softmax collapse, perpGrad and the alignment with the weights: identities and limits."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline_lib.learning.alignment import alignment_of, euler_identity_gap, nlm_alignment
from pipeline_lib.learning.orthograd import OrthoGrad, orthogonalize_
from pipeline_lib.learning.precision import cross_entropy_in, collapse_gap, softmax_collapse_fraction
from pipeline_lib.learning.stablemax import log_stablemax, stablemax, stablemax_cross_entropy
from pipeline_lib.learning.tasks import modular_dataset, sparse_parity
from pipeline_lib.networks.mlp import StackedMLP, mlp

few = settings(deadline=None, max_examples=20, derandomize=True)
seeds = st.integers(0, 10**6)


def normal(seed, *shape, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@few
@given(seed=seeds, scale=st.floats(0.01, 1e6))
def test_stablemax_is_a_distribution_and_the_definition(seed, scale):
    x = scale * normal(seed, 4, 7)
    s = torch.where(x >= 0, x + 1, 1 / (1 - x.clamp(max=0)))
    torch.testing.assert_close(stablemax(x), s / s.sum(-1, keepdim=True), rtol=1e-9, atol=1e-300)
    torch.testing.assert_close(stablemax(x).sum(-1), torch.ones(4, dtype=torch.float64))
    assert (stablemax(x).argsort(-1) == x.argsort(-1)).all()


def test_a_shift_changes_stablemax_and_not_softmax():
    x = normal(0, 3, 5)
    assert (stablemax(x + 2) - stablemax(x)).abs().max() > 1e-3
    torch.testing.assert_close(torch.softmax(x + 2, -1), torch.softmax(x, -1))


def test_stablemax_has_slope_one_at_zero_from_both_sides():
    x = torch.zeros(1, 2, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(log_stablemax(x)[0, 0], x)
    torch.testing.assert_close(slope, torch.tensor([[0.5, -0.5]], dtype=torch.float64))
    target = torch.tensor([0])
    (slope,) = torch.autograd.grad(stablemax_cross_entropy(x, target), x)
    torch.testing.assert_close(slope, torch.tensor([[-0.5, 0.5]], dtype=torch.float64))


@few
@given(seed=seeds, scale=st.floats(0.1, 1e4))
def test_the_cross_entropy_is_the_logarithm_and_its_gradient(seed, scale):
    x = (scale * normal(seed, 6, 5)).requires_grad_()
    target = torch.arange(6) % 5
    loss = stablemax_cross_entropy(x, target)
    reference = -log_stablemax(x).gather(1, target[:, None]).mean()
    torch.testing.assert_close(loss, reference)
    torch.testing.assert_close(torch.autograd.grad(loss, x)[0], torch.autograd.grad(reference, x)[0], rtol=1e-9, atol=1e-14)


def test_stablemax_survives_logits_that_overflow_an_exponential():
    x = torch.tensor([[1e30, -1e30, 0.0]], requires_grad=True)
    loss = stablemax_cross_entropy(x, torch.tensor([1]))
    loss.backward()
    assert math.isfinite(loss.item()) and torch.isfinite(x.grad).all()


@few
@given(seed=seeds)
def test_cross_entropy_in_single_precision_is_torchs(seed):
    x, target = normal(seed, 8, 5, dtype=torch.float32), torch.arange(8) % 5
    torch.testing.assert_close(cross_entropy_in(torch.float32, x, target), torch.nn.functional.cross_entropy(x, target))


@few
@given(seed=seeds, scale=st.floats(1, 40))
def test_collapse_comes_earlier_in_lower_precision(seed, scale):
    logits = scale * normal(seed, 40, 6)
    shares = [softmax_collapse_fraction(logits, dtype).item() for dtype in (torch.float64, torch.float32, torch.float16)]
    assert shares == sorted(shares)


@pytest.mark.parametrize(("dtype", "gap"), [(torch.float16, 7.6), (torch.float32, 16.6), (torch.float64, 36.7)])
def test_the_gap_is_where_loss_and_gradient_become_exactly_zero(dtype, gap):
    assert collapse_gap(dtype, 2) == pytest.approx(gap, abs=0.05)
    for excess, collapsed in ((0.8, True), (-0.8, False)):
        logits = torch.zeros(1, 10, dtype=torch.float64)
        logits[0, 3] = collapse_gap(dtype, 10) + excess
        logits.requires_grad_()
        loss = cross_entropy_in(dtype, logits, torch.tensor([3]))
        loss.backward()
        assert (loss.item() == 0) == collapsed and (logits.grad[0, 3].item() == 0) == collapsed
        assert softmax_collapse_fraction(logits, dtype).item() == float(collapsed)
        assert logits.grad[0, 0].item() > 0


@few
@given(seed=seeds, shape=st.sampled_from([(3,), (4, 5), (2, 3, 4)]), rescale=st.booleans())
def test_perpgrad_is_orthogonal_and_keeps_the_norm(seed, shape, rescale):
    w, g = normal(seed, *shape, dtype=torch.float32), normal(seed + 1, *shape, dtype=torch.float32)
    before = g.clone()
    orthogonalize_([w], [g], rescale=rescale)
    assert abs((w * g).sum()) <= 2e-6 * g.norm() * w.norm()
    expected = before - (w * before).sum() / (w * w).sum() * w
    torch.testing.assert_close(g, expected * (before.norm() / expected.norm() if rescale else 1), rtol=2e-4, atol=1e-5)


def test_a_gradient_along_the_weights_becomes_zero_and_zeros_stay():
    w = normal(0, 50, dtype=torch.float32)
    gradients = [3 * w, torch.zeros(50), w.clone()]
    orthogonalize_([w, w, torch.zeros(50)], gradients)
    assert gradients[0].norm() < 1e-5 and gradients[1].norm() == 0
    torch.testing.assert_close(gradients[2], w)


def test_stacked_models_are_projected_one_by_one():
    w, g = normal(0, 3, 4, 5), normal(1, 3, 4, 5)
    alone = [g[k].clone() for k in range(3)]
    for k in range(3):
        orthogonalize_([w[k]], [alone[k]])
    orthogonalize_([w], [g], stacked=1)
    torch.testing.assert_close(g, torch.stack(alone))


def test_orthograd_round_trips_takes_a_closure_and_ignores_parameters_without_gradient():
    def made():
        torch.manual_seed(0)
        model = mlp([3, 4, 2], generator=torch.Generator().manual_seed(0))
        return model, OrthoGrad([{"params": model[0].parameters(), "lr": 1e-2}, {"params": model[2].parameters()}], torch.optim.AdamW, lr=1e-3)

    def run(model, optimizer, steps):
        for _ in range(steps):
            def closure():
                optimizer.zero_grad()
                loss = model(torch.ones(2, 3)).square().sum()
                loss.backward()
                return loss
            assert optimizer.step(closure).item() > 0
        return [p.detach().clone() for p in model.parameters()]

    whole = run(*made(), 6)
    model, optimizer = made()
    run(model, optimizer, 3)
    saved = optimizer.state_dict()
    other, again = made()
    other.load_state_dict(model.state_dict())
    again.load_state_dict(saved)
    for a, b in zip(run(other, again, 3), whole, strict=True):
        assert torch.equal(a, b)
    lone = torch.nn.Parameter(torch.ones(2))
    OrthoGrad([lone], torch.optim.SGD, lr=1.0).step()
    assert lone.tolist() == [1, 1]
    with pytest.raises(TypeError, match="base_cls"):
        OrthoGrad([lone], "AdamW")


@pytest.mark.parametrize("layers", [2, 3, 4])
def test_eulers_identity_and_the_alignment(layers):
    model = mlp([5, *[9] * (layers - 1), 4], bias=False, generator=torch.Generator().manual_seed(layers))
    x, target = normal(layers, 20, 5, dtype=torch.float32), torch.arange(20) % 4
    assert euler_identity_gap(model, x, lambda z: torch.nn.functional.cross_entropy(z, target), layers) < 1e-4
    found = nlm_alignment(model, torch.nn.functional.cross_entropy(model(x), target))
    gradients = torch.autograd.grad(torch.nn.functional.cross_entropy(model(x), target), list(model.parameters()))
    flat_w, flat_g = (torch.cat([t.flatten() for t in ts]).detach() for ts in (list(model.parameters()), gradients))
    assert found["all"].item() == pytest.approx(torch.nn.functional.cosine_similarity(-flat_g, flat_w, dim=0).item(), abs=1e-5)
    doubled = alignment_of({"w": flat_w}, {"w": -2 * flat_w})
    assert doubled["w"].item() == pytest.approx(1)


def test_gathered_rows_are_the_one_hot_product_and_seeds_do_not_depend_on_the_stack():
    generators = [torch.Generator().manual_seed(k) for k in range(3)]
    stack = StackedMLP([14, 8, 7], generators)
    x = torch.randint(7, (3, 11, 2), generator=torch.Generator().manual_seed(9))
    dense = torch.nn.functional.one_hot(x, 7).flatten(2).float()
    torch.testing.assert_close(stack(x), stack(dense))
    alone = StackedMLP([14, 8, 7], [torch.Generator().manual_seed(2)])
    torch.testing.assert_close(stack(x)[2], alone(x[2:])[0])


@few
@given(p=st.integers(2, 20), operation=st.sampled_from(["add", "multiply"]), fraction=st.floats(0.2, 0.8), seed=seeds)
def test_a_task_is_every_pair_once(p, operation, fraction, seed):
    task = modular_dataset(p, operation, fraction, np.random.default_rng(seed))
    pairs = np.concatenate([task.train_x, task.test_x])
    assert len({tuple(pair) for pair in pairs}) == p * p == len(pairs)
    labels = np.concatenate([task.train_y, task.test_y])
    expected = (pairs[:, 0] + pairs[:, 1] if operation == "add" else pairs[:, 0] * pairs[:, 1]) % p
    assert (labels == expected).all() and len(task.train_y) == round(fraction * p * p)


def test_parity_is_of_the_first_bits():
    task = sparse_parity(200, 3, 10, 0.5, np.random.default_rng(0))
    assert (task.train_x[:, :3].sum(1) % 2 == task.train_y).all() and task.train_x.shape == (100, 13)


@pytest.mark.parametrize(("call", "message"), [
    (lambda: stablemax_cross_entropy(torch.zeros(2, 3), torch.tensor([0, 3])), "classes 0 to 2"),
    (lambda: stablemax_cross_entropy(torch.zeros(2, 3, dtype=torch.int64), torch.tensor([0, 1])), "floating-point"),
    (lambda: stablemax_cross_entropy(torch.zeros(2, 3), torch.tensor([0, 1]), "median"), "mean, sum or none"),
    (lambda: log_stablemax(torch.zeros(2, dtype=torch.int32)), "floating-point"),
    (lambda: cross_entropy_in(torch.int32, torch.zeros(2, 3), torch.tensor([0, 1])), "torch.int32"),
    (lambda: modular_dataset(1, "add", 0.5, np.random.default_rng(0)), "p is 1"),
    (lambda: modular_dataset(5, "add", 1.0, np.random.default_rng(0)), "fraction is 1.0"),
    (lambda: modular_dataset(5, "divide", 0.5, np.random.default_rng(0)), "operation is 'divide'"),
])
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
