"""What the report says, as sections that the page and the Markdown file both render."""

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.report import claims, table
from pipeline.report.claims import Claim
from pipeline.report.figures import class_names
from pipeline.report.paper import Counterpart, Paper
from pipeline.report.results import Result

TRIMAP_PICTURE = "trimap.png"
IOU_PICTURE = "iou_per_class.png"

_TRIMAP_DEFINITION = (
    "A trimap of width w holds the pixels at a chessboard distance of at most w from a void pixel "
    "of the label, void itself left out; every curve point is one mIoU over all images within that "
    "band. This is the definition in the authors' evaluation scripts, which sweep w = 1 to 40. "
    "Fig. 5 of the paper plots the same for output_stride 16 in training and evaluation, with the "
    "decoder and with bilinear upsampling in its place."
)


@dataclass(frozen=True)
class Grid:
    """A table; a cell's second line, after a newline, is smaller.

    Attributes:
        header: of each column.
        lines: as many cells each; the first names the line.
        num_text_columns: at the end of each line, not numbers.
    """

    header: list[str]
    lines: list[list[str]]
    num_text_columns: int = 0


@dataclass(frozen=True)
class Picture:
    """A picture of the report.

    Attributes:
        file: path relative to the report's folder.
        alt: what it shows, for who cannot see it.
        caption: below it.
        title: above it, if it has one; a titled picture can be folded away.
    """

    file: str
    alt: str
    caption: str
    title: str | None = None


@dataclass(frozen=True)
class Section:
    """A heading and what follows it, in this order; a warning stands out."""

    title: str
    paragraphs: list[str]
    grids: list[Grid]
    pictures: list[Picture]
    is_warning: bool = False


def panel_picture(key: str) -> str:
    """Relative path of a row's panels."""
    return f"panels/{key}.png"


def build(results: Sequence[Result], paper: Paper, num_panels: int) -> list[Section]:
    """All sections of the report."""
    if not results:
        return [Section("Results", [table.EMPTY], [], [])]
    built = [_results(results, paper), _boundaries(results, paper), _classes(results)]
    built += [_panels(results, num_panels)] if num_panels else []
    return [*_warnings(results), *built]


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


def _boundaries(results: Sequence[Result], paper: Paper) -> Section:
    title = "At object boundaries (Sec. 4.4, Fig. 5)"
    if not any(result.trimap for result in results):
        nothing = "No label of these sets has void pixels, so there is no trimap to score within."
        return Section(title, [nothing], [], [])
    found = claims.find(results, paper)
    paragraphs = [_verdict(claim) for claim in found]
    without = [result.key for result in results if not result.trimap]
    if without:
        paragraphs.append(f"No void pixels, hence no curve: {', '.join(without)}.")
    if not found:
        paragraphs.append(
            "No two of these rows are a pair of the paper's Fig. 5 (same set, with the decoder and "
            "with bilinear upsampling), so its claim is not tested here."
        )
    picture = Picture(
        TRIMAP_PICTURE, "mIoU over trimap width, one curve per row", _TRIMAP_DEFINITION
    )
    return Section(title, paragraphs, [_claim_grid(claim) for claim in found], [picture])


def _verdict(claim: Claim) -> str:
    near, whole = claim.gain(claim.trimap_width), claim.gain_whole()
    agrees = near > whole and near > 0
    return (
        f"The paper: with {claim.backbone} the decoder gains {claim.paper_gain:.1f} points of mIoU "
        f"over bilinear upsampling within the narrowest trimap, and "
        f"{claim.paper_gain_whole:.2f} over whole images. Here, {claim.decoder.key} against "
        f"{claim.bilinear.key}: {near:+.2f} and {whole:+.2f}. "
        + (
            "The direction is the paper's: the gain is larger at boundaries."
            if agrees
            else "The direction is not the paper's: there is no larger gain at boundaries."
        )
    )


def _claim_grid(claim: Claim) -> Grid:
    widths = sorted({claim.trimap_width, claim.max_trimap_width})
    header = ["mIoU, %", *(f"within {width} px of void" for width in widths), "whole images"]
    rows = [
        [
            f"{name}\n{result.key}",
            *(table.percent(result.trimap_miou(width)) for width in widths),
            table.percent(result.scores.miou),
        ]
        for name, result in (("decoder", claim.decoder), ("bilinear", claim.bilinear))
    ]
    gains = [f"{claim.gain(width):+.2f}" for width in widths]
    paper = [f"{claim.paper_gain:+.1f}", *(["not printed"] * (len(widths) - 1))]
    return Grid(
        header,
        [
            *rows,
            ["gain, points", *gains, f"{claim.gain_whole():+.2f}"],
            [f"paper's gain\n{claim.backbone}", *paper, f"{claim.paper_gain_whole:+.2f}"],
        ],
    )


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
    picture = Picture(IOU_PICTURE, f"bars of IoU for {num_classes} classes, one per row", "")
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


def _listed(keys: Sequence[str], num_rows: int) -> str:
    return "any row" if 1 < len(keys) == num_rows else ", ".join(keys)


def _images(result: Result) -> str:
    num_images = result.scores.num_images
    return f"{num_images:,} image was" if num_images == 1 else f"{num_images:,} images were"
