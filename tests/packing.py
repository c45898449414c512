"""Packs small archives in the originals' layouts, for the tests of what reads them."""

import gzip
import io
import tarfile
import zipfile

import numpy as np
import scipy.io
from PIL import Image

from pipeline import label_map
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


def sbd_files(train, val, root=SBD):
    """Everything of an SBD archive; the lists come last, all labels are 15."""
    every = [*train, *val]
    return {
        **{f"{root}/img/{i}.jpg": jpeg(grey=10 * k) for k, i in enumerate(every)},
        **{f"{root}/cls/{i}.mat": mat(np.full((2, 3), 15, np.uint8)) for i in every},
        f"{root}/train.txt": listed(train),
        f"{root}/val.txt": listed(val),
    }
