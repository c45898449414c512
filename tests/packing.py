"""Packs small archives in the originals' layouts, for the tests of what reads them."""

import gzip
import io
import json
import tarfile
import zipfile

import numpy as np
import scipy.io
from PIL import Image

from pipeline import label_map
from pipeline.coco import CATEGORIES
from pipeline.voc import CLASSES

VOC = "VOCdevkit/VOC2012"
SBD = "benchmark_RELEASE/dataset"


def tar(files):
    """A plain tar of {name: content}, or of (name, content) pairs."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in files.items() if isinstance(files, dict) else files:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def tgz(files):
    return gzip.compress(tar(files), mtime=0)


def zipped(files, compression=zipfile.ZIP_DEFLATED):
    """A zip of {name: content}, or of (name, content) pairs."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, content in files.items() if isinstance(files, dict) else files:
            archive.writestr(zipfile.ZipInfo(name), content, compression)
    return buffer.getvalue()


def jpeg(height=2, width=3, grey=0):
    buffer = io.BytesIO()
    Image.fromarray(np.full((height, width, 3), grey, np.uint8)).save(buffer, "JPEG")
    return buffer.getvalue()


def png(value=8, height=2, width=3):
    return label_map.encode(np.full((height, width), value, np.uint8), CLASSES)


def mat(label):
    buffer = io.BytesIO()
    struct = {"Segmentation": np.asarray(label), "CategoriesPresent": np.uint8([[8]])}
    scipy.io.savemat(buffer, {"GTcls": struct}, do_compression=True)
    return buffer.getvalue()


def listed(image_ids):
    return "".join(f"{image_id}\n" for image_id in image_ids).encode()


def voc_files(train, val, trainval=None, root=VOC):
    """Everything of a VOC archive, as {name: content}; each image has a grey of its own."""
    every = [*train, *val]
    lists = {"train": train, "val": val, "trainval": every if trainval is None else trainval}
    return {
        **{f"{root}/ImageSets/Segmentation/{n}.txt": listed(ids) for n, ids in lists.items()},
        **{f"{root}/JPEGImages/{i}.jpg": jpeg(grey=10 * k) for k, i in enumerate(every)},
        **{f"{root}/SegmentationClass/{i}.png": png(k % 21) for k, i in enumerate(every)},
    }


def voc_test_files(test, root=VOC):
    """Everything of VOC's archive of test."""
    return {
        f"{root}/ImageSets/Segmentation/test.txt": listed(test),
        **{f"{root}/JPEGImages/{i}.jpg": jpeg(grey=10 * k) for k, i in enumerate(test)},
    }


def sbd_files(train, val, root=SBD):
    """Everything of an SBD archive; the lists come last, all labels are 15."""
    every = [*train, *val]
    return {
        **{f"{root}/img/{i}.jpg": jpeg(grey=10 * k) for k, i in enumerate(every)},
        **{f"{root}/cls/{i}.mat": mat(np.full((2, 3), 15, np.uint8)) for i in every},
        f"{root}/train.txt": listed(train),
        f"{root}/val.txt": listed(val),
    }


COCO_NAMES = {category: name for category, (name, _) in CATEGORIES.items()} | {47: "cup"}


def annotation(number, segmentation, category=17, image=1, crowd=0):
    """An annotation of COCO's: a cat, unless told otherwise."""
    return {
        "id": number,
        "image_id": image,
        "category_id": category,
        "iscrowd": crowd,
        "segmentation": segmentation,
    }


def rectangle(left, top, right, bottom):
    """The polygon of COCO's that covers rows top to bottom and columns left to right, ends out."""
    return [left, top, right, top, right, bottom, left, bottom]


def coco_files(annotations, sizes=((20, 30),), folder="train2017", names=COCO_NAMES):
    """The images and the annotations of COCO, as {name: content} each; ids count from 1."""
    images = [
        {"id": number, "file_name": f"{number:012d}.jpg", "height": height, "width": width}
        for number, (height, width) in enumerate(sizes, start=1)
    ]
    document = {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": id_, "name": name} for id_, name in names.items()],
    }
    return (
        {f"{folder}/{i['file_name']}": jpeg(i["height"], i["width"]) for i in images},
        {f"annotations/instances_{folder}.json": json.dumps(document).encode()},
    )


def grey_png(pixels):
    buffer = io.BytesIO()
    Image.fromarray(np.asarray(pixels)).save(buffer, "PNG")
    return buffer.getvalue()


def cityscapes_files(splits, kind="gtFine", ids=7):
    """Images and label maps of Cityscapes, {name: content} each, of {split: image ids}."""
    images, labels = {}, {}
    for split, image_ids in splits.items():
        for image_id in image_ids:
            base = f"{split}/{image_id.partition('_')[0]}/{image_id}"
            images[f"leftImg8bit/{base}_leftImg8bit.png"] = grey_png(np.zeros((2, 3, 3), np.uint8))
            label = np.full((2, 3), ids, np.uint8)
            labels[f"{kind}/{base}_{kind}_labelIds.png"] = grey_png(label)
            labels[f"{kind}/{base}_{kind}_instanceIds.png"] = b"not read"
    return images, labels
