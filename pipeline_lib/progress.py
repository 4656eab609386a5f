"""How a stage function shows its progress: it wraps what it iterates over in the `progress` that it is given."""

from collections.abc import Callable, Iterable
from typing import TextIO, TypeVar

Item = TypeVar("Item")
Progress = Callable[..., Iterable]


def silent(iterable: Iterable[Item], description: str = "", total: int | None = None) -> Iterable[Item]:
    """No progress: what a stage function uses when it is called from a test or a notebook."""
    return iterable


class _Lines:
    """A stream that ends each of tqdm's updates with a newline, so that the lines of concurrent jobs stay apart."""

    def __init__(self, stream: TextIO):
        self._stream = stream

    def write(self, text: str) -> int:
        text = text.strip("\r\n ")
        if text:
            self._stream.write(text + "\n")
        return len(text)

    def flush(self) -> None:
        self._stream.flush()


def lines(job: str, stream: TextIO, seconds: float = 10.0) -> Progress:
    """Progress as one line every `seconds` on `stream`, each headed by the name of the job."""
    from tqdm import tqdm

    def track(iterable: Iterable[Item], description: str = "", total: int | None = None) -> Iterable[Item]:
        label = f"{job} {description}".strip()
        return tqdm(iterable, desc=label, total=total, file=_Lines(stream), mininterval=seconds, maxinterval=seconds, delay=seconds,
                    leave=False, ascii=True, ncols=0, miniters=1)

    return track
