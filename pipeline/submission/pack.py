"""Packs a row's label maps for the test server of their classes, and checks what was packed.

The check reads the archive back and knows nothing of how it was made: a file that someone else
packed is refused for what the server would refuse it for.
"""

from collections.abc import Iterator
from pathlib import Path

from pipeline import files, label_map
from pipeline.classes import Classes
from pipeline.splits import Split
from pipeline.submission import archives, servers
from pipeline.submission.servers import Server

_MAX_MISTAKES_SHOWN = 10


def pack(split: Split, predictions: Path, place: str, out: Path) -> None:
    """Writes the archive, whole and correct or not at all.

    Args:
        split: the images; says which predictions there must be.
        predictions: folder of `<image_id>.png`, label maps of the split's classes.
        place: name of the split, for messages.
        out: the archive.

    Raises:
        ValueError: no server takes these classes, `out` is not named as the server wants it, a
            prediction is missing or extra, or the server would refuse one.
    """
    server = servers.of_classes(split.classes, place)
    if out.suffix != server.suffix:
        raise ValueError(f"{out}: {server.name} takes a {server.suffix} archive")
    extra = {p.name for p in predictions.glob("*")} - {f"{i}.png" for i in split.image_ids}
    if extra:
        raise ValueError(f"{predictions / min(extra)}: predicts no image of {place}")
    with files.atomic_file(out) as partial:
        archives.write(partial, server.suffix, _members(server, split, predictions))
        require_accepted(server, split, partial, out)


def require_accepted(server: Server, split: Split, archive: Path, shown: Path) -> None:
    """Checks an archive as its server does.

    Args:
        server: that it is for.
        split: the images that must be in it, and no others.
        archive: the file.
        shown: what messages call it.

    Raises:
        ValueError: with a line per mistake, of the first few, if there is any.
    """
    mistakes = [f"{shown}: {mistake}" for mistake in _mistakes(server, split, archive)]
    more = len(mistakes) - _MAX_MISTAKES_SHOWN
    if mistakes:
        rest = [f"{shown}: and {more} mistakes more"] if more > 0 else []
        raise ValueError("\n".join([*mistakes[:_MAX_MISTAKES_SHOWN], *rest]))


def _mistakes(server: Server, split: Split, archive: Path) -> Iterator[str]:
    sizes = {server.member(sample.image_id): (sample.height, sample.width) for sample in split}
    for image_id in split.image_ids:
        if not server.image_id.fullmatch(image_id):
            yield f"{server.name} knows no image {image_id}"
    seen: set[str] = set()
    for name, content in archives.read(archive, server.suffix):
        if name in seen:
            yield f"{name} is in it twice"
        elif name not in sizes:
            yield f"{name} belongs to no image of the set"
        else:
            for mistake in servers.mistakes_in_file(server, content, *sizes[name]):
                yield f"{name} {mistake}"
        seen.add(name)
    if missing := sorted(sizes.keys() - seen):
        yield f"{missing[0]} is missing; {len(missing)} of {len(sizes)} images have no prediction"


def _members(server: Server, split: Split, predictions: Path) -> Iterator[tuple[str, bytes]]:
    for image_id in split.image_ids:
        file = predictions / f"{image_id}.png"
        try:
            label = label_map.decode(file.read_bytes())
        except ValueError as error:
            raise ValueError(f"{file}: {error}") from error
        _require_classes(label, split.classes, file)
        yield server.member(image_id), server.encode(label)


def _require_classes(label: label_map.LabelMap, classes: Classes, file: Path) -> None:
    if label.max() >= classes.num_classes:
        raise ValueError(
            f"{file}: prediction has value {label.max()}, which is not a class "
            f"(0..{classes.num_classes - 1})"
        )
