"""The costs of all rows of a params file."""

from collections.abc import Iterator, Mapping

from pipeline import sources
from pipeline.cost import multiply_adds
from pipeline.cost.config import Described, Row
from pipeline.cost.multiply_adds import Cost
from pipeline.originals.config import Custom


def costs(
    models: Mapping[str, Described],
    imports: Mapping[str, Described],
    rows: Mapping[str, Row],
    custom: Mapping[str, Custom],
) -> Iterator[tuple[str, Cost]]:
    """Yields (key, cost) of each row, in their order.

    Raises:
        ValueError: a row is of no network, or its number of classes is not known.
    """
    networks = {**models, **imports}
    for key, row in rows.items():
        if row.model not in networks:
            known = ", ".join(sorted(networks)) or "none"
            raise ValueError(
                f"rows.{key}.model: {row.model!r} is not one of models and imports ({known})"
            )
        network = networks[row.model].network
        if network is None:
            raise ValueError(f"rows.{key}.model: {row.model} is a backbone's weights, no network")
        num_classes = sources.classes_of(row.data, custom, f"rows.{key}.data").num_classes
        try:
            yield key, multiply_adds.of_row(network, row.inference, num_classes)
        except ValueError as error:
            raise ValueError(f"rows.{key}: {error}") from error
