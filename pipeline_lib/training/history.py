"""What is logged along a training run, as something that a checkpoint restores."""

from typing import Any

import torch
from torch import Tensor


class History:
    """Records of named tensors, each of the same shapes; `stacked()` gives them along a first dimension."""

    def __init__(self) -> None:
        self._steps: list[int] = []
        self._records: dict[str, list[Tensor]] = {}

    def log(self, step: int, **values: Any) -> None:
        """Adds a record. Raises ValueError where its names are not those of the first."""
        if self._records and set(values) != set(self._records):
            raise ValueError(f"a record of {sorted(values)} was logged; {sorted(self._records)} are expected")
        self._steps.append(step)
        for name, value in values.items():
            self._records.setdefault(name, []).append(torch.as_tensor(value).detach().cpu().clone())

    @property
    def steps(self) -> list[int]:
        return list(self._steps)

    def stacked(self) -> dict[str, Tensor]:
        return {name: torch.stack(values) for name, values in self._records.items()}

    def state_dict(self) -> dict[str, Any]:
        return {"steps": list(self._steps), "records": self.stacked()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._steps = list(state["steps"])
        self._records = {name: list(values) for name, values in state["records"].items()}
