"""The one training loop: progress, checkpoints, bit-exact resume, and an early clear failure on a loss that is not finite."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from pipeline_lib.progress import Progress, silent
from pipeline_lib.training.checkpoint import Checkpoint


def fit(step: Callable[[int], torch.Tensor], *, steps: int, state: Mapping[str, Any] | None = None, name: str = "training", checkpoint: Checkpoint | None = None,
        progress: Progress = silent, check_every: int = 50) -> np.ndarray:
    """Runs `step(i)` for i in 0 .. steps-1 and returns the losses, float64 with the shape (steps,) or (steps, S).

    `step` does one optimisation step and returns its loss, a tensor without dimensions, or with the dimension S for S models trained at once.
    `state` names all that changes: modules, optimisers, schedulers (anything with state_dict and load_state_dict), generators, and dicts of
    tensors, which are restored in place. With a `checkpoint` it is saved when due and the run goes on from it, with the same bits as an
    uninterrupted one; it is saved at the end too, so that a stage of several trainings never repeats one. Losses are looked at every `check_every` steps only, so that a GPU need not wait.

    Raises FloatingPointError that names the first step whose loss is not finite, the value, the model among S, and what to try.
    """
    state = dict(state or {})
    losses: list[torch.Tensor] = []
    first = 0
    if checkpoint is not None and (saved := checkpoint.load()) is not None:
        if set(saved["state"]) != set(state):
            raise ValueError(f"{checkpoint.path} holds the state of {sorted(saved['state'])}; {sorted(state)} are expected")
        for key, value in saved["state"].items():
            _restore(state[key], value)
        first = saved["step"]
        losses = [saved["losses"]] if first else []
    pending: list[torch.Tensor] = []
    for i in progress(range(first, steps), name):
        pending.append(step(i).detach())
        if (i + 1) % check_every == 0 or i + 1 == steps:
            losses.append(_checked(torch.stack(pending), i + 1 - len(pending), name))
            pending = []
            if checkpoint is not None and (i + 1 == steps or checkpoint.due()):
                losses = [torch.cat(losses)]
                checkpoint.save({"step": i + 1, "losses": losses[0], "state": {key: _saved(value) for key, value in state.items()}})
    return torch.cat(losses).numpy() if losses else np.zeros(0)


def _checked(losses: torch.Tensor, first: int, name: str) -> torch.Tensor:
    losses = losses.to(device="cpu", dtype=torch.float64)
    wrong = ~torch.isfinite(losses)
    if wrong.any():
        index = wrong.nonzero()[0].tolist()
        which = f" of model {index[1]} of {losses.shape[1]}" if losses.ndim > 1 else ""
        raise FloatingPointError(f"{name}: the loss{which} is {losses[tuple(index)].item()} at step {first + index[0]}; try a smaller learning rate, a longer warm-up, or clipping the gradient")
    return losses


def _saved(value: Any) -> Any:
    if isinstance(value, torch.Generator):
        return value.get_state()
    return {key: tensor.detach().clone() for key, tensor in value.items()} if isinstance(value, dict) else value.state_dict()


def _restore(target: Any, value: Any) -> None:
    if isinstance(target, torch.Generator):
        target.set_state(value)
    elif isinstance(target, dict):
        with torch.no_grad():
            for key, tensor in target.items():
                tensor.copy_(value[key])
    else:
        target.load_state_dict(value)
