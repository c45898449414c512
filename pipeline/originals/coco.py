"""Reads COCO's instances as label maps in VOC's classes, for pre-training (DeepLab v3 Sec. 4.3).

The 20 categories that are VOC classes keep their class and everything else is background. Crowds
of these categories are void: nobody outlined whom they hold. Where instances overlap, the smaller
one is seen, so they are painted from the largest to the smallest; crowds come before all of them.

Which images: the paper takes COCO trainval without minival (in COCO's names of 2017 that is
train2017 alone, minival is val2017) and keeps those with "annotation regions larger than 1000
pixels" that contain VOC classes, about 60,000. That sentence can be read in more than one way (of
an instance or of an image, before or after overlaps), and a third party's reading kept over 90,000.
Here an image is kept if more than `min_annotated_pixels` pixels of its finished label map belong
to the 20 classes, crowds left out.

The annotations are a JSON file of 450 MB. It is read as a stream, once for each of its lists, and
only the outlines of the 20 categories are kept, as packed numbers: some 300 MB for train2017.

Source: annotations/instances_train2017.json of annotations_trainval2017.zip; cocoapi,
PythonAPI/pycocotools/mask.py.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal, TypeVar

import ijson
import numpy as np
import pycocotools.mask
import pydantic
from pydantic import Discriminator, Field, Tag

from pipeline import label_map, pixels
from pipeline.coco import CATEGORIES
from pipeline.label_map import LabelMap
from pipeline.originals import mistakes, zip_archive
from pipeline.originals.config import Storage
from pipeline.originals.zip_archive import Member
from pipeline.parallel import map_ahead
from pipeline.splits import Sample, checked_sample, raw
from pipeline.voc import CLASSES

_IMAGES_AHEAD = 32
# Three points; a part with fewer encloses nothing.
_MIN_NUMBERS = 6


@dataclass(frozen=True, slots=True)
class Outline:
    """What one annotation covers, in one of the 20 classes.

    Attributes:
        annotation_id: COCO's.
        label: value it is painted with: a class, or void for a crowd.
        polygons: (x, y, x, y, ...) of each part as bytes of float64; empty if `counts` is not.
        counts: run lengths of uncovered and covered pixels by columns, as bytes of uint32.
    """

    annotation_id: int
    label: int
    polygons: tuple[bytes, ...]
    counts: bytes


@dataclass(frozen=True, slots=True)
class Photograph:
    """An annotated image.

    Attributes:
        name: its member in the archive of images.
        image_id: that name without folder and suffix, "000000000009".
        height: pixels.
        width: pixels.
        outlines: of the 20 classes, in the file's order.
    """

    name: str
    image_id: str
    height: int
    width: int
    outlines: list[Outline]


class _Record(pydantic.BaseModel):
    """What is read of an entry; COCO's have more fields."""

    model_config = pydantic.ConfigDict(strict=True, frozen=True, allow_inf_nan=False)


class _Image(_Record):
    id: int
    file_name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_-]*\.jpg$")]
    height: Annotated[int, Field(ge=1, le=65535)]
    width: Annotated[int, Field(ge=1, le=65535)]


class _Category(_Record):
    id: int
    name: str


class _Runs(_Record):
    counts: list[Annotated[int, Field(ge=0)]]
    size: Annotated[list[int], Field(min_length=2, max_length=2)]


class _Annotation(_Record):
    id: int
    image_id: int
    category_id: int
    iscrowd: Literal[0, 1]
    segmentation: Annotated[
        Annotated[list[list[float]], Tag("polygons")] | Annotated[_Runs, Tag("runs")],
        Discriminator(lambda value: "runs" if isinstance(value, dict) else "polygons"),
    ]


_R = TypeVar("_R", bound=_Record)


def find_folder(path: Path, members: Mapping[str, Member]) -> str:
    """The one folder that the images are in, "train2017"; it names their annotations too.

    Raises:
        ValueError: no images, or in several folders.
    """
    folders = {str(PurePosixPath(name).parent) for name in members if name.endswith(".jpg")}
    if len(folders) != 1:
        raise ValueError(
            f"{path}: not COCO's images: expected one folder of .jpg files, train2017 or "
            f"val2017, found {', '.join(sorted(folders)[:5]) or 'none'}"
        )
    return folders.pop()


def read_photographs(
    path: Path, folder: str, images: Path, image_members: Mapping[str, Member]
) -> list[Photograph]:
    """Reads which images there are and what is outlined in them, in the order of the images' bytes.

    Args:
        path: the archive of annotations.
        folder: of the images, see `find_folder`.
        images: the archive of images.
        image_members: its index.

    Raises:
        ValueError: the annotations are not COCO's, or contradict themselves or the images.
    """
    name = f"annotations/instances_{PurePosixPath(folder).name}.json"
    members = zip_archive.index(path)
    if name not in members:
        raise ValueError(f"{path}: there is no {name}")
    file = _Instances(path, name, members[name])
    known = _read_categories(file)
    photographs = _read_images(file, folder, images, image_members)
    _read_annotations(file, known, photographs)
    return sorted(photographs.values(), key=lambda p: image_members[p.name].offset)


def samples(
    path: Path,
    members: Mapping[str, Member],
    photographs: list[Photograph],
    *,
    min_annotated_pixels: int,
    expected_images: int | None,
    storage: Storage,
    source: str,
    advance: Callable[[], object],
) -> Iterator[Sample]:
    """Yields the images that are kept, in the given order, with their label maps.

    Args:
        path: the archive of images.
        members: its index.
        photographs: as `read_photographs` gives them.
        min_annotated_pixels: an image with no more pixels of the 20 classes is left out.
        expected_images: how many are kept, if that is known.
        storage: how images and label maps are held.
        source: what the samples say they are from.
        advance: is called for each image, kept or not.

    Raises:
        ValueError: images are not what they should be; or another number of them was kept.
    """

    def pack(photograph: Photograph) -> Sample | str | None:
        if not any(map(_is_class, photograph.outlines)):
            return None  # not worth painting
        label = paint(photograph)
        annotated = (label > 0) & (label < CLASSES.num_classes)
        if np.count_nonzero(annotated) <= min_annotated_pixels:
            return None
        encoded = label_map.encode(label, CLASSES)
        try:
            image = zip_archive.read(path, photograph.name, members[photograph.name])
            sample = checked_sample(photograph.image_id, image, encoded, CLASSES, source)
            return raw(sample) if storage == "raw" else sample
        except ValueError as error:
            return str(error)

    num_kept = 0
    for sample in mistakes.collected(map_ahead(pack, photographs, _IMAGES_AHEAD), advance):
        if sample is not None:
            num_kept += 1
            yield sample
    if expected_images not in (None, num_kept):
        raise ValueError(
            f"{source}: expected_images is {expected_images}, but {num_kept} of "
            f"{len(photographs)} images have more than {min_annotated_pixels} annotated pixels"
        )


def paint(photograph: Photograph) -> LabelMap:
    """Paints the outlines of one image: (H, W) VOC label values, void where a crowd is."""
    height, width = photograph.height, photograph.width
    label = np.zeros((height, width), np.uint8, order="F")  # by columns, as the masks are
    runs = [(_runs(outline, height, width), outline) for outline in photograph.outlines]

    def turn(pair: tuple[Any, Outline]) -> tuple[bool, int, int]:
        mask, outline = pair
        return _is_class(outline), -int(pycocotools.mask.area(mask)), outline.annotation_id

    for mask, outline in sorted(runs, key=turn):
        np.copyto(label, outline.label, where=pycocotools.mask.decode(mask).view(np.bool_))
    return np.ascontiguousarray(label)


def _is_class(outline: Outline) -> bool:
    return outline.label != CLASSES.ignore_index


def _runs(outline: Outline, height: int, width: int) -> dict[str, Any]:
    """What an outline covers, as COCO's own code rasterises it, in that code's run lengths."""
    if outline.counts:
        counts = np.frombuffer(outline.counts, np.uint32).tolist()
        uncompressed = {"counts": counts, "size": [height, width]}
        return dict(pycocotools.mask.frPyObjects(uncompressed, height, width))
    polygons = [np.frombuffer(polygon) for polygon in outline.polygons]
    return dict(pycocotools.mask.merge(pycocotools.mask.frPyObjects(polygons, height, width)))


@dataclass(frozen=True)
class _Instances:
    """The JSON file within its archive."""

    path: Path
    name: str
    member: Member

    @property
    def place(self) -> str:
        return f"{self.path}: {self.name}"

    def entries(self, key: str, type_: type[_R], bad: list[str]) -> Iterator[_R]:
        """Yields the entries of one of its lists; what is none is added to the mistakes."""
        with zip_archive.opened(self.path, self.name, self.member) as stream:
            try:
                for number, entry in enumerate(ijson.items(stream, f"{key}.item", use_float=True)):
                    try:
                        yield type_.model_validate(entry)
                    except pydantic.ValidationError as error:
                        bad.append(f"{self.place}: {key}[{number}]{_describe(entry, error)}")
            except ijson.JSONError as error:
                raise ValueError(
                    f"{self.place}: not readable as JSON: {' '.join(str(error).split())}"
                ) from error


def _describe(entry: Any, error: pydantic.ValidationError) -> str:
    first = error.errors(include_url=False, include_context=False)[0]
    id_ = f" (id {entry['id']})" if isinstance(entry, dict) and "id" in entry else ""
    return f"{id_}: {'.'.join(str(part) for part in first['loc'])}: {first['msg']}"


def _read_categories(file: _Instances) -> set[int]:
    """The ids of all categories."""
    bad: list[str] = []
    names = {entry.id: entry.name for entry in file.entries("categories", _Category, bad)}
    bad += [
        f"{file.place}: category {id_} is {names.get(id_, 'missing')!r}, expected "
        f"{category.name!r}, which is VOC's {category.voc_class}"
        for id_, category in CATEGORIES.items()
        if names.get(id_) != category.name
    ]
    mistakes.check(bad)
    return set(names)


def _read_images(
    file: _Instances, folder: str, archive: Path, members: Mapping[str, Member]
) -> dict[int, Photograph]:
    """The images by COCO's image id, without outlines."""
    bad: list[str] = []
    photographs: dict[int, Photograph] = {}
    names: set[str] = set()
    for entry in file.entries("images", _Image, bad):
        name = f"{folder}/{entry.file_name}"
        if entry.id in photographs or name in names:
            bad.append(f"{file.place}: image {entry.id}, {entry.file_name}, is listed twice")
        elif entry.height * entry.width > pixels.MAX_PIXELS:
            bad.append(
                f"{file.place}: image {entry.id} has {entry.height}x{entry.width} pixels, more "
                f"than the limit of {pixels.MAX_PIXELS}"
            )
        elif name not in members:
            bad.append(f"{archive}: image {entry.id} is listed, but there is no {name}")
        names.add(name)
        image_id = entry.file_name.removesuffix(".jpg")
        photographs[entry.id] = Photograph(name, image_id, entry.height, entry.width, [])
    mistakes.check(bad)
    if not photographs:
        raise ValueError(f"{file.place}: lists no image")
    return photographs


def _read_annotations(
    file: _Instances, known: set[int], photographs: Mapping[int, Photograph]
) -> None:
    """Adds the outlines of the 20 classes to their images."""
    bad: list[str] = []
    for entry in file.entries("annotations", _Annotation, bad):
        place = f"{file.place}: annotation {entry.id}"
        if entry.image_id not in photographs:
            bad.append(f"{place} is of image {entry.image_id}, which is not listed")
        elif entry.category_id not in known:
            bad.append(f"{place} is of category {entry.category_id}, which is not listed")
        elif entry.category_id in CATEGORIES:
            photograph = photographs[entry.image_id]
            try:
                photograph.outlines.append(_outline(entry, photograph))
            except ValueError as error:
                bad.append(f"{place}: {error}")
    mistakes.check(bad)


def _outline(entry: _Annotation, photograph: Photograph) -> Outline:
    name = CATEGORIES[entry.category_id].voc_class
    label = CLASSES.ignore_index if entry.iscrowd else CLASSES.names.index(name)
    if isinstance(entry.segmentation, _Runs):
        return Outline(entry.id, label, (), _counts(entry.segmentation, photograph))
    return Outline(entry.id, label, _polygons(entry.segmentation, photograph), b"")


def _counts(runs: _Runs, photograph: Photograph) -> bytes:
    height, width = photograph.height, photograph.width
    if runs.size != [height, width]:
        raise ValueError(f"its size is {runs.size}, that of its image {[height, width]}")
    if sum(runs.counts) != height * width:
        raise ValueError(
            f"its runs are of {sum(runs.counts)} pixels, its image has {height * width}"
        )
    return np.array(runs.counts, np.uint32).tobytes()


def _polygons(parts: list[list[float]], photograph: Photograph) -> tuple[bytes, ...]:
    """Packs the parts that enclose something; COCO's code would take one of two points for a box.

    What lies outside of the image is not painted. Yet a point further away than the image is large
    is no slip of a hand, and would cost time and memory that nothing limits.
    """
    polygons = []
    reach = max(photograph.height, photograph.width)
    for part in parts:
        if len(part) % 2:
            raise ValueError(f"a polygon has {len(part)} numbers, which are not (x, y) pairs")
        if part and (min(part) < -reach or max(part) > 2 * reach):
            raise ValueError(
                f"a polygon reaches from {min(part):g} to {max(part):g}, far outside of its image "
                f"of {photograph.height}x{photograph.width} pixels"
            )
        if len(part) >= _MIN_NUMBERS:
            polygons.append(np.array(part, np.float64).tobytes())
    if not polygons:
        raise ValueError("its polygons are empty")
    return tuple(polygons)
