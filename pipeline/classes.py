"""What a data set's label values mean: class names, colours and the void value.

A split carries its table of classes with it, so everything after the split works on any data set.
"""

import json
from dataclasses import dataclass

Colour = tuple[int, int, int]


@dataclass(frozen=True)
class Classes:
    """A data set's classes, in the order of their label values.

    Attributes:
        names: K names; the name's index is its label value.
        colours: K colours as (red, green, blue) in 0..255, for label maps people look at.
        ignore_index: label value of void, in 0..255 and not a class.
    """

    names: tuple[str, ...]
    colours: tuple[Colour, ...]
    ignore_index: int

    def __post_init__(self) -> None:
        if not self.names or len(set(self.names)) != len(self.names):
            raise ValueError(f"class names must be distinct and at least one: {self.names}")
        if len(self.colours) != len(self.names):
            raise ValueError(f"{len(self.names)} classes but {len(self.colours)} colours")
        if not len(self.names) <= self.ignore_index <= 255:
            raise ValueError(
                f"ignore_index {self.ignore_index} is not above the classes, {len(self.names)}..255"
            )

    @property
    def num_classes(self) -> int:
        """K, background included."""
        return len(self.names)

    def agrees_with(self, other: "Classes") -> bool:
        """Whether both tables name the same classes in the same order, in whatever colours."""
        return (self.names, self.ignore_index) == (other.names, other.ignore_index)

    def require_equal(self, other: "Classes", place: str, other_place: str) -> None:
        """Raises a ValueError unless both tables agree."""
        if not self.agrees_with(other):
            raise ValueError(
                f"{place} is of {self.num_classes} classes ({', '.join(self.names)}; void "
                f"{self.ignore_index}), {other_place} of {other.num_classes} "
                f"({', '.join(other.names)}; void {other.ignore_index})"
            )

    def to_json(self) -> str:
        """The table as JSON text, for a file's metadata."""
        table = {"names": self.names, "colours": self.colours, "ignore_index": self.ignore_index}
        return json.dumps(table)

    @staticmethod
    def from_json(text: str) -> "Classes":
        """The inverse of `to_json`."""
        table = json.loads(text)
        colours = tuple((red, green, blue) for red, green, blue in table["colours"])
        return Classes(tuple(table["names"]), colours, table["ignore_index"])
