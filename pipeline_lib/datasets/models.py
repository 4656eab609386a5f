"""Weights of pretrained models, as arrays."""

import json
import re
from collections.abc import Mapping
from pathlib import Path

import xarray as xr


def minilm(sources: Mapping[str, Path], *, layers: int = 2) -> xr.Dataset:
    """all-MiniLM-L6-v2 (22.7 M parameters, 6 layers, width 384): the embeddings and the first `layers` encoder layers, as `weight:` variables.

    The attribute `config` is the model's configuration as JSON, with that number of layers. Raises ValueError for a number that the model does not have.
    """
    from safetensors.torch import load_file

    from pipeline_lib.training.weights import to_dataset

    config = json.loads(sources["minilm_config"].read_text())
    if not 1 <= layers <= config["num_hidden_layers"]:
        raise ValueError(f"layers is {layers}; the model has 1 to {config['num_hidden_layers']}")
    config["num_hidden_layers"] = layers
    kept = {}
    for name, value in load_file(sources["minilm_weights"]).items():
        layer = re.match(r"encoder\.layer\.(\d+)\.", name)
        if (layer and int(layer[1]) < layers) or (not layer and name.startswith("embeddings.") and "position_ids" not in name):
            kept[name] = value
    return to_dataset(kept).assign_attrs(config=json.dumps(config, sort_keys=True))
