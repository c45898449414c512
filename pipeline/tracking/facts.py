"""What one sorts and searches runs by: the network in a few words, and what it cost."""

from collections.abc import Mapping
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


def inference_cost(cost: Mapping[str, float]) -> dict[str, float]:
    """The tables' last column, in its units, and the size of the network, as metrics.

    Args:
        cost: a row's entry of metrics/multiply_adds.json.
    """
    return {
        "cost/billion_multiply_adds": cost["authors_multiply_adds"] / 1e9,
        "cost/million_parameters": cost["parameters"] / 1e6,
    }
