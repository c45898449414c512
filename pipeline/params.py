"""params.yaml -> frozen, strict pydantic models.

No section has a default in Python: a number that is not in params.yaml is invisible to DVC, which
would then not re-run the stage that uses it.
"""

from pathlib import Path
from typing import Any, TypeVar

import pydantic
import yaml

T = TypeVar("T")


class Config(pydantic.BaseModel):
    """A section of params.yaml: unknown key, missing key and wrong type are errors."""

    model_config = pydantic.ConfigDict(
        strict=True, frozen=True, extra="forbid", allow_inf_nan=False
    )


def read(path: Path) -> dict[str, Any]:
    """Reads a YAML mapping.

    Raises:
        ValueError: not YAML, a key given twice, or not a mapping.
    """
    try:
        document = yaml.load(path.read_text(encoding="utf-8"), Loader=_StrictLoader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not readable as YAML: {' '.join(str(error).split())}") from error
    if not isinstance(document, dict):
        raise ValueError(f"{path}: expected a mapping, found {type(document).__name__}")
    return document


def load(path: Path, key: str, type_: type[T]) -> T:
    """Loads one section.

    Args:
        path: params.yaml.
        key: dotted place of the section, as in dvc.yaml's `params`, e.g. "models.v3plus.network".
        type_: a Config, or any other type that pydantic can validate, e.g. dict[str, Row].

    Raises:
        ValueError: the section is missing or not of that type; a line per mistake names file, key
            and value.
    """
    section: Any = read(path)
    for part in key.split("."):
        if not isinstance(section, dict) or part not in section:
            raise ValueError(f"{path}: {key} is missing")
        section = section[part]
    return validate(path, section, type_, key)


def validate(path: Path, section: Any, type_: type[T], *key: str) -> T:
    """Turns a section that was read from `path`, at `key` or the whole of it, into `type_`."""
    try:
        return pydantic.TypeAdapter(type_).validate_python(section, strict=True)
    except pydantic.ValidationError as error:
        raise ValueError("\n".join(_lines(error, path, section, key))) from None


def _lines(
    error: pydantic.ValidationError, path: Path, section: Any, key: tuple[str, ...]
) -> list[str]:
    lines = []
    for mistake in error.errors(include_url=False):
        place = _place(section, mistake["loc"], is_missing=mistake["type"] == "missing")
        where = ".".join(str(part) for part in (*key, *place))
        message = mistake["msg"].removeprefix("Value error, ")
        value = mistake["input"]
        shown = f" (found {value!r})" if isinstance(value, str | int | float | None) else ""
        lines.append(f"{path}: {where}: {message}{shown}")
    return lines


def _place(section: Any, location: tuple[int | str, ...], *, is_missing: bool) -> list[int | str]:
    """The keys on the way to a mistake, without pydantic's names for the members of a union."""
    if is_missing:
        return [*_place(section, location[:-1], is_missing=False), location[-1]]
    place: list[int | str] = []
    for part in location:
        is_key = isinstance(section, dict) and part in section
        is_index = isinstance(section, list) and isinstance(part, int)
        if is_key or is_index:
            section = section[part]
            place.append(part)
        elif part == "[key]":  # the mistake is in the key itself
            place.append(part)
    return place


class _StrictLoader(yaml.SafeLoader):
    """SafeLoader takes the last of two equal keys in silence; a reproduction must not."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        merge = "tag:yaml.org,2002:merge"  # <<, whose keys may be set again
        keys = [self.construct_object(key) for key, _ in node.value if key.tag != merge]
        for index, key in enumerate(keys):
            if key in keys[:index]:
                raise yaml.constructor.ConstructorError(
                    None, None, f"key {key!r} is given twice", node.start_mark
                )
        return super().construct_mapping(node, deep)
