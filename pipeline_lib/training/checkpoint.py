"""Checkpoints: what a training run must restore to go on bit for bit, in one file that is replaced at once."""

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any


class Checkpoint:
    """A file that a long computation saves to now and then.

    `path` lies in an existing folder; `seconds` is the time between two saves. A stage that trains several things in turn gives each its
    own `part(name)`. Only tensors, numbers, text and containers of them are read back (`torch.load(weights_only=True)`).
    """

    def __init__(self, path: str | Path, seconds: float = 60):
        self.path = Path(path)
        self.seconds = seconds
        self._last = time.monotonic()

    def part(self, name: str) -> "Checkpoint":
        """The checkpoint of one part of the work, in a file of its own."""
        if not name or not all(c.isalnum() or c in "_.-+" for c in name):
            raise ValueError(f"the part of a checkpoint is named {name!r}; letters, digits and _.-+ are expected")
        return Checkpoint(self.path.with_name(f"{self.path.stem}.{name}{self.path.suffix}"), self.seconds)

    def due(self) -> bool:
        """Whether it is time to save."""
        return time.monotonic() - self._last >= self.seconds

    def load(self) -> dict[str, Any] | None:
        """What was saved last, on the CPU; None where nothing was, or where the file is cut (it is written anew then)."""
        import torch

        if not self.path.exists():
            return None
        try:
            return torch.load(self.path, weights_only=True, map_location="cpu")
        except (EOFError, RuntimeError, OSError) as error:
            import warnings

            warnings.warn(f"the checkpoint {self.path} cannot be read ({error}); the work starts from its beginning", stacklevel=2)
            return None

    def save(self, state: Mapping[str, Any]) -> None:
        """Writes beside, syncs, renames."""
        import torch

        temporary = self.path.with_name(f".{self.path.name}.tmp-{os.getpid()}")
        try:
            with temporary.open("wb") as file:
                torch.save(dict(state), file)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(self.path)
        finally:
            temporary.unlink(missing_ok=True)
        self._last = time.monotonic()

    def clear(self) -> None:
        """Removes the file and those of its parts: the work is done."""
        for path in (self.path, *self.path.parent.glob(f"{self.path.stem}.*{self.path.suffix}")):
            path.unlink(missing_ok=True)
