"""Our scores beside those of other people's code, on the same PNGs."""

import argparse
import contextlib
import io

import numpy as np
import pytest
from cityscapesscripts.evaluation import evalPixelLevelSemanticLabeling
from PIL import Image
from sklearn import metrics

from pipeline import cityscapes, label_map
from pipeline.evaluation import confusion

NUM_CLASSES, VOID = cityscapes.CLASSES.num_classes, cityscapes.CLASSES.ignore_index
IDS = np.array([*cityscapes.IDS, *[0] * (255 - NUM_CLASSES), 0], np.uint8)  # 0 is unlabeled
SIZE = (24, 40)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """PNG pairs in the ids of Cityscapes: blocks of classes, some void, predictions half wrong."""
    folder, random = tmp_path_factory.mktemp("pairs"), np.random.default_rng(0)
    pairs = []
    for number in range(3):
        # Two classes occur nowhere, one is never labelled, one is never predicted.
        label = random.choice([*range(NUM_CLASSES - 3), VOID], (3, 5))
        prediction = np.where(random.random((3, 5)) < 0.5, label, random.integers(1, 17, (3, 5)))
        prediction = np.where(prediction == VOID, 3, prediction)
        label, prediction = (np.kron(p, np.ones((8, 8))) for p in (label, prediction))
        names = [folder / f"{kind}{number}.png" for kind in ("label", "prediction")]
        for plane, name in zip((label, prediction), names, strict=True):
            Image.fromarray(IDS[plane.astype(np.uint8)]).save(name)
        pairs.append(names)
    return pairs


@pytest.fixture(scope="module")
def planes(files):
    return [
        tuple(cityscapes.classes_of_ids(label_map.decode(name.read_bytes())) for name in pair)
        for pair in files
    ]


@pytest.fixture(scope="module")
def ours(planes):
    return sum(
        confusion.confusion_matrix(*pair, num_classes=NUM_CLASSES, ignore_index=VOID)
        for pair in planes
    )


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # its own NaN, of classes that are absent
def test_iou_is_that_of_cityscapes_own_evaluator(files, ours):
    args = argparse.Namespace(**vars(evalPixelLevelSemanticLabeling.args))
    args.evalInstLevelScore = args.JSONOutput = False
    args.quiet = True
    with contextlib.redirect_stdout(io.StringIO()):
        theirs = evalPixelLevelSemanticLabeling.evaluateImgLists(
            [str(prediction) for _, prediction in files], [str(label) for label, _ in files], args
        )
    scores = [theirs["classScores"][name] for name in cityscapes.CLASSES.names]
    assert 0 < np.isnan(scores).sum() < NUM_CLASSES - 5
    np.testing.assert_allclose(confusion.iou_per_class(ours), scores, rtol=1e-12)
    assert confusion.miou(ours) == pytest.approx(theirs["averageScoreClasses"], rel=1e-12)


def test_counts_and_scores_are_those_of_scikit_learn(planes, ours):
    label, prediction = (
        np.concatenate([pair[index].ravel() for pair in planes]) for index in (0, 1)
    )
    label, prediction = label[label != VOID], prediction[label != VOID]
    matrix = metrics.confusion_matrix(label, prediction, labels=range(NUM_CLASSES))
    assert np.array_equal(ours, matrix)
    present = np.flatnonzero(matrix.sum(0) + matrix.sum(1))
    iou = metrics.jaccard_score(label, prediction, labels=present, average=None)
    np.testing.assert_allclose(confusion.iou_per_class(ours)[present], iou, rtol=1e-12)
    assert confusion.pixel_accuracy(ours) == metrics.accuracy_score(label, prediction)
    recall = metrics.recall_score(label, prediction, labels=np.unique(label), average="macro")
    assert confusion.mean_class_accuracy(ours) == pytest.approx(recall, rel=1e-12)
