"""Sentences with human sentiment ratings (Hutto and Gilbert, ICWSM 2014), as word pieces of a language model's tokenizer."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import xarray as xr


def movie_reviews(sources: Mapping[str, Path], *, max_length: int = 24) -> xr.Dataset:
    """About 10,000 sentences of film reviews; see `rated_sentences`."""
    return rated_sentences(sources["movie_ratings"], sources["minilm_tokenizer"], max_length)


def tweets(sources: Mapping[str, Path], *, max_length: int = 24) -> xr.Dataset:
    """About 4,000 tweets; see `rated_sentences`."""
    return rated_sentences(sources["tweet_ratings"], sources["minilm_tokenizer"], max_length)


def product_reviews(sources: Mapping[str, Path], *, max_length: int = 24) -> xr.Dataset:
    """About 3,000 sentences of product reviews; see `rated_sentences`."""
    return rated_sentences(sources["product_ratings"], sources["minilm_tokenizer"], max_length)


def rated_sentences(ratings: Path, tokenizer: Path, max_length: int) -> xr.Dataset:
    """The sentences with |valence| > 0.5, in the order of `default_rng(0).permutation`.

    `token` (sentence, position) int32, padded with 0 to `max_length`; `length` (sentence) with [CLS] and [SEP]; `label` (sentence) int8, 1 where the
    mean human valence (-4..4, kept in `valence`) is positive. Raises ValueError for a line that is not id, valence and text.
    """
    from tokenizers import Tokenizer

    valence, texts = [], []
    for number, line in enumerate(ratings.read_text(encoding="latin-1").split("\n"), 1):
        if not line.strip():
            continue
        parts = line.rstrip("\r").split("\t", 2)
        if len(parts) != 3:
            raise ValueError(f"{ratings}, line {number}: an id, a valence and a text separated by tabs are expected, not {line[:80]!r}")
        valence.append(float(parts[1]))
        texts.append(parts[2].strip())
    valence = np.array(valence)
    kept = np.flatnonzero(np.abs(valence) > 0.5)
    kept = kept[np.random.default_rng(0).permutation(len(kept))]
    pieces = Tokenizer.from_file(str(tokenizer))
    pieces.no_padding()
    pieces.enable_truncation(max_length)
    encoded = [np.array(entry.ids, np.int32) for entry in pieces.encode_batch([texts[k] for k in kept])]
    length = np.array([len(ids) for ids in encoded], np.int32)
    token = np.zeros((len(encoded), max_length), np.int32)
    token[np.arange(max_length) < length[:, None]] = np.concatenate(encoded)
    return xr.Dataset({"token": (("sentence", "position"), token), "length": ("sentence", length),
                       "label": ("sentence", (valence[kept] > 0).astype(np.int8)), "valence": ("sentence", valence[kept])})
