"""Packing VOC: milliseconds per image beside the usual scripts, growth, and what DVC makes of it.

Three tables. The first packs an archive as stages/voc.py does and as the scripts around DeepLab do:
extract all, take the colours out of each label map, save it as a grey PNG, copy the photograph. The
second packs generated archives of growing length, each in a process of its own: time and memory
per image should not grow. The third times `dvc status` on a split of as many images and on a
folder of as many files.
"""

import argparse
import io
import multiprocessing
import os
import shutil
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from queue import Queue

import numpy as np
from PIL import Image

from bench import memory, photographs, timing
from bench.command import count, run
from bench.timing import Contender, Goal
from pipeline import label_map, splits
from pipeline.originals import archive, packed, voc
from pipeline.splits import checked_sample
from pipeline.voc import CLASSES

_OURS, _SCRIPTS = "ours, into one Arrow file", "scripts: extract, remove the colour map"
_ROOT = "VOCdevkit/VOC2012"
_TINY = 16  # side of a generated image, pixels
_TRAINAUG = 10_582  # images of the largest split of VOC
_STATUS_SECONDS = 5.0


def main() -> int:
    """Measures all three, prints the tables and whether the goals hold."""
    options = _options()
    print(timing.machine("pillow", "opencv-python-headless", "pyarrow", "dvc"))
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        path = photographs.voc_archive(options.images, folder)
        goals = [
            _beside_scripts(path, folder, options.repetitions),
            *_growth(folder, options.counts, options.repetitions),
            _status(folder, min(_TRAINAUG, options.counts[-1])),
        ]
    return timing.conclude(goals, judged=not options.quick)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--images", type=Path, help="VOC's archive; else $DEEPLAB_REALDATA's, or the miniature's"
    )
    parser.add_argument(
        "--counts",
        type=count,
        nargs="+",
        default=[1_000, 10_000],
        help="lengths of the generated archives, ascending",
    )
    parser.add_argument("--repetitions", type=count, default=7)
    parser.add_argument("--folder", type=Path, help="where to write; else the temporary folder")
    parser.add_argument("--quick", action="store_true", help="a few images, not judged")
    options = parser.parse_args()
    if options.counts != sorted(set(options.counts)) or not 10 <= options.counts[0] < max(
        options.counts
    ):
        parser.error(
            f"--counts: {options.counts}: expected two or more, ascending, 10 or more each"
        )
    if options.quick:
        options.counts, options.repetitions = [20, 40], 1
    return options


# ---- beside the usual scripts


def _beside_scripts(path: Path, folder: Path, repetitions: int) -> Goal:
    members = archive.index(path)
    number = len(voc.read_lists(path, members)["trainval"])
    photos = sum(name.endswith(".jpg") for name in members)
    contenders = [
        Contender(_OURS, partial(_timed, partial(_pack, path), folder, number)),
        Contender(_SCRIPTS, partial(_timed, partial(_run_scripts, path), folder, number)),
    ]
    times = timing.interleave(contenders, repetitions)
    print(f"{number} labelled images, {photos} photographs, {repetitions} repetitions\n")
    rows = [
        [name, timing.milliseconds(seconds), str(timing.ratio(times, _OURS, name))]
        for name, seconds in times.items()
    ]
    print(timing.table(["contender", "ms per labelled image", "times ours"], rows))
    print()
    return Goal("the usual scripts", timing.ratio(times, _OURS, _SCRIPTS).of_medians, 2.5)


def _timed(work: Callable[[Path], object], folder: Path, number: int) -> float:
    """Seconds per image of work on an empty folder; removing it again is not counted."""
    with tempfile.TemporaryDirectory(dir=folder) as name:
        begin = time.perf_counter()
        work(Path(name))
        return (time.perf_counter() - begin) / number


def _pack(path: Path, folder: Path) -> int:
    """Packs trainval, as stages/voc.py does."""
    members = archive.index(path)
    image_ids = voc.read_lists(path, members)["trainval"]
    samples = voc.samples(path, members, image_ids, "voc2012")
    return splits.write(folder / "trainval.arrow", samples, CLASSES)


def _run_scripts(path: Path, folder: Path) -> None:
    """What download_and_convert_voc2012.sh and remove_gt_colormap.py do.

    Source: tensorflow/models research/deeplab/datasets, in Pillow in place of TensorFlow's files.
    """
    with tarfile.open(path) as tar:
        tar.extractall(folder, filter="data")
    root = folder / _ROOT
    images, labels = folder / "images", folder / "labels"
    images.mkdir()
    labels.mkdir()
    for image_id in (root / "ImageSets/Segmentation/trainval.txt").read_text().split():
        label = np.array(Image.open(root / "SegmentationClass" / f"{image_id}.png"))
        Image.fromarray(label.astype(np.uint8)).save(labels / f"{image_id}.png", "PNG")
        name = f"{image_id}.jpg"
        shutil.copyfile(root / "JPEGImages" / name, images / name)


# ---- growth


def _growth(folder: Path, counts: list[int], repetitions: int) -> list[Goal]:
    archives = {count: _generate(folder / f"{count}.tar", count) for count in counts}
    peaks: dict[str, int] = {}

    def turn(count: int) -> float:
        seconds, peaks[str(count)] = _packed_apart(
            archives[count], count, archives[counts[0]], folder
        )
        return seconds

    contenders = [Contender(str(count), partial(turn, count)) for count in counts]
    times = timing.interleave(contenders, min(repetitions, 3))
    rows = [
        [name, timing.milliseconds(seconds), f"{peaks[name] / 1e6:.0f}"]
        for name, seconds in times.items()
    ]
    print(timing.table(["images", "ms per image", "peak MB"], rows))
    print()
    few, many = str(counts[0]), str(counts[-1])
    slower = timing.ratio(times, few, many).of_medians
    growth = (peaks[many] - peaks[few]) / (counts[-1] - counts[0])
    return [
        Goal(f"the time per image of {few} with {many}", slower, 1.25, at_most=True),
        Goal("1 kB of memory more per image", growth / 1e3, 1.0, at_most=True),
    ]


def _generate(path: Path, count: int) -> Path:
    """A VOC archive of so many tiny images, all for training but one in ten."""
    image = packed.jpeg(np.full((_TINY, _TINY, 3), 99, np.uint8))
    label = label_map.encode(np.full((_TINY, _TINY), 8, np.uint8), CLASSES)
    image_ids = [f"2012_{number:06d}" for number in range(count)]
    lists = {"train": image_ids[count // 10 :], "val": image_ids[: count // 10]}
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:

        def add(name: str, content: bytes) -> None:
            member = tarfile.TarInfo(f"{_ROOT}/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))

        for name, listed in {**lists, "trainval": image_ids}.items():
            add(f"ImageSets/Segmentation/{name}.txt", "\n".join([*listed, ""]).encode())
        for image_id in image_ids:
            add(f"JPEGImages/{image_id}.jpg", image)
            add(f"SegmentationClass/{image_id}.png", label)
    return path


def _packed_apart(path: Path, count: int, warm_up: Path, folder: Path) -> tuple[float, int]:
    """Seconds per image and peak memory of a process that packs an archive, after another one."""
    context = multiprocessing.get_context("spawn")
    answers = context.SimpleQueue()
    process = context.Process(target=_pack_and_tell, args=(path, count, warm_up, folder, answers))
    process.start()
    process.join()
    if process.exitcode:
        raise ValueError(f"{path}: the process that packs it has ended with {process.exitcode}")
    seconds, peak = answers.get()
    return seconds, peak


def _pack_and_tell(
    path: Path, count: int, warm_up: Path, folder: Path, answers: "Queue[tuple[float, int]]"
) -> None:
    _timed(partial(_pack, warm_up), folder, 1)
    seconds = _timed(partial(_pack, path), folder, count)
    answers.put((seconds, memory.peak_bytes("cpu")))


# ---- DVC


def _status(folder: Path, count: int) -> Goal:
    """Times a real `dvc status` on one split, and on a folder of files, of `count` images."""
    split, loose = _project(folder / "split"), _project(folder / "loose")
    image = packed.jpeg(np.full((_TINY, _TINY, 3), 99, np.uint8))
    label = label_map.encode(np.full((_TINY, _TINY), 8, np.uint8), CLASSES)
    image_ids = [f"2012_{number:06d}" for number in range(count)]
    samples = (checked_sample(i, image, label, CLASSES, "voc2012") for i in image_ids)
    splits.write(split / "data" / "split.arrow", samples, CLASSES)
    (loose / "data").mkdir()
    for image_id in image_ids:
        (loose / "data" / f"{image_id}.jpg").write_bytes(image)
        (loose / "data" / f"{image_id}.png").write_bytes(label)
    seconds = {}
    for name, project in {"one Arrow file": split, "two files per image": loose}.items():
        _dvc(project, "add", "--quiet", "data")
        seconds[name] = [_dvc(project, "status") for _ in range(3)]
    rows = [[name, timing.milliseconds(times)] for name, times in seconds.items()]
    print(timing.table([f"dvc status, {count} images as", "ms"], rows))
    print()
    return Goal(
        f"{_STATUS_SECONDS:g} s for `dvc status`",
        statistics.median(seconds["one Arrow file"]) / _STATUS_SECONDS,
        1.0,
        at_most=True,
    )


def _project(folder: Path) -> Path:
    folder.mkdir()
    _dvc(folder, "init", "--quiet", "--no-scm")
    return folder


def _dvc(folder: Path, *arguments: str) -> float:
    """Seconds of a command of DVC's, with this interpreter, in a project of its own."""
    variables = {k: v for k, v in os.environ.items() if not k.startswith("DVC_")}
    begin = time.perf_counter()
    finished = subprocess.run(
        [sys.executable, "-m", "dvc", *arguments],
        cwd=folder,
        env={**variables, "DVC_NO_ANALYTICS": "true"},
        capture_output=True,
        text=True,
        check=False,
    )
    if finished.returncode:
        raise ValueError(f"dvc {' '.join(arguments)}: {finished.stderr.strip()}")
    return time.perf_counter() - begin


if __name__ == "__main__":
    run(main)
