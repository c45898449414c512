"""What the report says, as sections that the page and the Markdown file both render."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipeline.paper import Counterpart, Paper
from pipeline.report import boundaries, comparisons, origins, published_tables, table, verdicts
from pipeline.report.comparisons import Comparison
from pipeline.report.figures import class_names
from pipeline.report.origins import Origin
from pipeline.report.parts import Grid, Picture, Section
from pipeline.report.results import Result, Submitted, TrainingCost, WorstImage
from pipeline.report.verdicts import Verdict
from pipeline.revision import Revision

IOU_PICTURE = "iou_per_class.png"

_MAX_PAIRS = 200


@dataclass(frozen=True)
class Evidence:
    """What stands behind the results.

    Attributes:
        comparisons: of rows, two by two.
        submitted: rows that a test server scores.
        worst: images of each row, the worst first.
        origins: of each row.
        revision: that the report was made at, None outside git.
    """

    comparisons: Sequence[Comparison]
    submitted: Sequence[Submitted]
    worst: Mapping[str, Sequence[WorstImage]]
    origins: Sequence[Origin]
    revision: Revision | None


def panel_picture(key: str) -> str:
    """Relative path of a row's panels."""
    return f"panels/{key}.png"


def worst_picture(key: str) -> str:
    """Relative path of the panels of a row's worst images."""
    return f"worst/{key}.png"


def confusion_picture(key: str) -> str:
    """Relative path of a row's confusion matrix."""
    return f"confusion/{key}.png"


def build(
    results: Sequence[Result], paper: Paper, num_panels: int, evidence: Evidence
) -> list[Section]:
    """All sections of the report."""
    if not results:
        return [Section("Results", [table.EMPTY], [], [])]
    found = verdicts.find(results, evidence.comparisons, paper)
    return [
        *_warnings(results),
        _results(results, paper),
        _claims(found, results, paper),
        boundaries.section(results, paper, evidence.comparisons),
        *published_tables.build(results, evidence.submitted, paper),
        *_submissions(evidence.submitted),
        *_pairs(evidence.comparisons),
        *(
            [_worst(results, evidence.worst, num_panels), _panels(results, num_panels)]
            * (num_panels > 0)
        ),
        _classes(results),
        _confusions(results),
        _origins(results, evidence),
    ]


def _warnings(results: Sequence[Result]) -> list[Section]:
    """One section that names the rows, if any is warned of."""
    sentences = [f"{r.key}: {warning}" for r in results for warning in r.scores.warnings]
    return [Section("Warnings", sentences, [], [], is_warning=True)] if sentences else []


def _results(results: Sequence[Result], paper: Paper) -> Section:
    header, lines = table.cells(table.frame(results, paper))
    described = [
        [f"{line[0]}\n{result.desc}", *line[1:]]
        for line, result in zip(lines, results, strict=True)
    ]
    measured = (
        "In percent, from one confusion matrix over all scored pixels of a set; mIoU is the mean "
        "over the classes that occur. Trimap columns: mIoU within that many pixels of void."
    )
    return Section(
        "Results",
        [measured, *_comparability(results, paper)],
        [Grid(header, described, num_text_columns=header.count(table.PAPERS_ROW))],
        [],
    )


def _comparability(results: Sequence[Result], paper: Paper) -> list[str]:
    sentences: dict[str, None] = {}
    for result in results:
        if result.published is None:
            continue
        dataset = result.published.dataset
        if table.is_comparable(result, paper):
            sentence = (
                f"Differences, in points, are from {_whose(result.published)} mIoU over the "
                f"{paper.datasets[dataset]:,} images of {dataset}, as many as were scored here."
            )
        else:
            sentence = (
                f"{_whose(result.published).capitalize()} mIoU is over the "
                f"{paper.datasets[dataset]:,} images of {dataset}; "
                f"here {_images(result)} scored, so no difference from it is given."
            )
        sentences[sentence] = None
    return list(sentences)


def _whose(published: Counterpart) -> str:
    return "the model zoo's" if published.source == "model zoo" else "the paper's"


def _claims(found: Sequence[Verdict], results: Sequence[Result], paper: Paper) -> Section:
    """Folded where none is tested, as on data of one's own."""
    run = [verdict for verdict in found if verdict.gain]
    told = f"{len(found)} claims of the paper that are differences of two of its rows: "
    told += _tested(run, results, paper) if run else "no two of these rows test any of them."
    lines = [
        [
            f"{verdict.claim.text}\n{verdict.claim.section}",
            f"{verdict.paper_gain:+.2f}",
            str(verdict.gain) if verdict.gain else table.NOTHING,
            verdict.words,
        ]
        for verdict in found
    ]
    muted = frozenset(i for i, verdict in enumerate(found) if verdict.gain is None)
    header = ["claim", "paper", "ours", "verdict"]
    grid = Grid(header, lines, num_text_columns=1, muted=muted)
    title = "What the paper claims, and what holds here"
    return Section(title, [told], [grid], [], is_folded=not run)


def _tested(run: Sequence[Verdict], results: Sequence[Result], paper: Paper) -> str:
    holding = sum(verdict.holds for verdict in run)
    told = (
        f"put to the test here: {len(run)}, and of these hold: {holding}. Ours is the difference "
        "in mIoU points and, in brackets, between which bounds 95 % of the draws of images lie, "
        "both rows on the same draws. What another training would change is not in it. A claim of "
        "no gain is at most not contradicted: data that cannot tell two rows apart shows nothing."
    )
    if not all(table.is_comparable(result, paper) for result in results if result.published):
        told += (
            " Rows that were not scored on the images of the paper stand in for its rows: what "
            "holds of them holds of these networks and images."
        )
    return told


def _pairs(found: Sequence[Comparison]) -> list[Section]:
    """All pairs of rows, the largest differences first; no section where there is none."""
    if not found:
        return []
    ordered = sorted(found, key=lambda comparison: -abs(comparison.miou))
    lines = []
    for comparison in ordered[:_MAX_PAIRS]:
        gain = comparisons.whole(comparison)
        verdict = "significant" if gain.is_significant else "not told apart by this data"
        lines.append([f"{comparison.row}\nover {comparison.over}", str(gain), verdict])
    told = (
        "mIoU points of one row over another on the same draws of images, with the 95 % interval "
        f"of a paired bootstrap; {min(len(found), _MAX_PAIRS)} of {len(found)} pairs, the largest "
        "differences first. Each interval is of its pair alone: of 20 pairs without a difference, "
        "one is expected to seem significant. All are in metrics/comparisons.json."
    )
    grid = Grid(["rows", "difference", "verdict"], lines, num_text_columns=1)
    return [Section("Rows compared in pairs", [told], [grid], [], is_folded=True)]


def _submissions(submitted: Sequence[Submitted]) -> list[Section]:
    """What a test server scores; no section where there is nothing."""
    if not submitted:
        return []
    told = (
        "The labels of these images are known to a test server alone. Each archive is packed as "
        "its server takes it and was checked; upload it with your account, and write the mIoU that "
        "comes back to submissions.<key>.server_miou in params.yaml."
    )
    lines = [
        [
            f"{one.key}\n{one.desc}",
            f"submissions/{one.key}/",
            table.NOTHING if one.server_miou is None else f"{one.server_miou:.2f}",
            f"{one.published.miou:.2f}" if one.published else table.NOTHING,
        ]
        for one in submitted
    ]
    header = ["submission", "archive", "server's mIoU", "paper"]
    return [Section("For the test servers", [told], [Grid(header, lines, num_text_columns=2)], [])]


def _classes(results: Sequence[Result]) -> Section:
    keys_by_absent: dict[tuple[str, ...], list[str]] = {}
    for result in results:
        keys_by_absent.setdefault(tuple(result.scores.absent_classes), []).append(result.key)
    sentences = [
        f"In neither label nor prediction of {_listed(keys, len(results))}, hence without IoU and "
        f"not in the mean: {', '.join(names)}."
        for names, keys in keys_by_absent.items()
        if names
    ]
    num_classes = len(class_names(results))
    picture = Picture(IOU_PICTURE, f"IoU of {num_classes} classes in each row", "")
    return Section("IoU per class", sentences, [], [picture])


def _panels(results: Sequence[Result], num_panels: int) -> Section:
    choice = (
        f"Up to {num_panels} images per row, evenly spaced in the order of the split and chosen "
        f"without regard to the scores."
    )
    pictures = [
        Picture(
            panel_picture(result.key),
            f"images, labels and predictions of {result.key}",
            "",
            title=f"{result.key}\n{result.desc}",
        )
        for result in results
    ]
    return Section("Predictions", [choice], [], pictures)


def _worst(
    results: Sequence[Result], worst: Mapping[str, Sequence[WorstImage]], num_panels: int
) -> Section:
    told = (
        f"Up to {num_panels} images per row of the lowest mIoU, the worst first: where to look for "
        "what goes wrong. An image's mIoU is over the classes that its label or prediction has."
    )
    pictures = [
        Picture(
            worst_picture(result.key),
            f"worst images of {result.key}, with labels and predictions",
            ", ".join(f"{w.image_id} {100 * w.miou:.1f}" for w in worst[result.key][:num_panels]),
            title=f"{result.key}\nmIoU of its worst image {100 * worst[result.key][0].miou:.1f}",
        )
        for result in results
        if worst.get(result.key)
    ]
    return Section("The worst images", [told], [], pictures)


def _confusions(results: Sequence[Result]) -> Section:
    told = (
        "Where the pixels of each class went, in percent of the class's pixels in the label: a row "
        "sums to 100, its diagonal is the class's accuracy. Counts: counts/<row>.confusion.csv."
    )
    pictures = [
        Picture(
            confusion_picture(result.key),
            f"confusion matrix of {result.key}, a row per true class",
            "",
            title=f"{result.key}\n{result.desc}",
        )
        for result in results
    ]
    return Section("Confusion", [told], [], pictures)


def _origins(results: Sequence[Result], evidence: Evidence) -> Section:
    trainings = {result.key: result.training for result in results}
    trainings |= {origins.of_submission(one.key): one.training for one in evidence.submitted}
    revision = evidence.revision
    made = "outside git, so no commit is known"
    if revision:
        state = "" if revision.is_clean else ", with uncommitted changes of sources or params"
        made = f"at git commit {revision.commit}{state}"
    told = [
        f"This page was made {made}. The MD5s are those of dvc.lock: the commit that holds a state "
        "for good is found by  git log -1 -S MD5 -- dvc.lock  and brought back by  git checkout "
        "COMMIT  and  dvc checkout.",
    ]
    lines = [
        [
            origin.key,
            f"{origin.checkpoint}\nMD5 {origin.checkpoint_md5}",
            f"{origin.data}\nMD5 {origin.data_md5}",
            f"row and model\nSHA-256 {origin.params_sha256[:32]}",
            _training(trainings.get(origin.key)),
        ]
        for origin in evidence.origins
    ]
    grid = Grid(["row", "checkpoint", "data", "params", "training"], lines, num_text_columns=4)
    return Section("Where each number comes from", told, [grid], [], is_folded=True)


def _training(cost: TrainingCost | None) -> str:
    if cost is None:
        return "not here"
    last = cost.last
    devices = f"{last.num_devices} x {last.device}, torch {last.torch}"
    return f"{cost.hours:.2f} h, {last.images_per_second:.1f} images/s\n{devices}"


def _listed(keys: Sequence[str], num_rows: int) -> str:
    return "any row" if 1 < len(keys) == num_rows else ", ".join(keys)


def _images(result: Result) -> str:
    num_images = result.scores.num_images
    return f"{num_images:,} image was" if num_images == 1 else f"{num_images:,} images were"
