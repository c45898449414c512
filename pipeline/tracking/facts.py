"""What one sorts and searches runs by: the network in a few words, and what it cost."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def of_network(network: Mapping[str, Any] | None) -> dict[str, str]:
    """Tags, from an entry's network; a backbone's weights alone (null) have none."""
    if network is None:
        return {}
    return {
        "backbone": network["backbone"],
        "decoder": "no" if network["decoder"] is None else "yes",
        "output_stride.training": str(network["output_stride"]),
    }


def training_cost(timing: Path) -> tuple[dict[str, float], dict[str, str]]:
    """What a training took and on what, as metrics and as tags; nothing where no file says so.

    Args:
        timing: JSON beside the history, no DVC out that anything depends on.
    """
    if not timing.exists():
        return {}, {}
    took = json.loads(timing.read_text(encoding="utf-8"))
    metrics = {
        "cost/training_hours": took["seconds"] / 3600,
        "cost/images_per_second": took["images_per_second"],
    }
    tags = {
        "training.device": took["device"],
        "training.num_devices": took["num_devices"],
        "training.torch": took["torch"],
    }
    return metrics, {name: str(value) for name, value in tags.items()}


def inference_cost(cost: Mapping[str, float]) -> dict[str, float]:
    """The tables' last column, in its units, and the size of the network, as metrics.

    Args:
        cost: a row's entry of metrics/multiply_adds.json.
    """
    return {
        "cost/billion_multiply_adds": cost["authors_multiply_adds"] / 1e9,
        "cost/million_parameters": cost["parameters"] / 1e6,
    }
