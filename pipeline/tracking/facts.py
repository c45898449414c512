"""What runs are sorted and searched by: the network in a few words, and what it cost."""

from collections.abc import Mapping
from typing import Any

from pipeline.report.results import TrainingCost


def of_network(network: Mapping[str, Any] | None) -> dict[str, str]:
    """Tags of an entry's network; none where it is null, as for weights of a backbone alone."""
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


def training_cost(cost: TrainingCost | None) -> dict[str, float]:
    """Hours of all trainings of a chain, and the speed of the last, as metrics."""
    if cost is None:
        return {}
    return {
        "cost/training_hours": cost.hours,
        "cost/images_per_second": cost.last.images_per_second,
    }


def devices(cost: TrainingCost | None) -> dict[str, str]:
    """What a network was trained on, as tags."""
    if cost is None:
        return {}
    last = cost.last
    return {"devices": f"{last.num_devices} x {last.device}", "torch": last.torch}
