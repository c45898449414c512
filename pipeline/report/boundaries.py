"""The claim of Sec. 4.4: the decoder's gain over bilinear upsampling is largest at boundaries."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

from pipeline.evaluation.config import Band
from pipeline.paper import Paper
from pipeline.report import comparisons, table
from pipeline.report.comparisons import Comparison
from pipeline.report.parts import Grid, Picture, Section
from pipeline.report.results import Result

TRIMAP_PICTURE = "trimap.png"

_DISTANCES: dict[Band, str] = {
    "square": "chessboard distance, as in the authors' evaluation scripts, which sweep w = 1 to 40",
    "euclidean": "Euclidean distance, which is not the authors' definition",
}


@dataclass(frozen=True)
class BoundaryGain:
    """Two rows that differ as two curves of Fig. 5 do, beside what the paper says of those.

    Attributes:
        backbone: of the paper's two.
        decoder: our row with the decoder.
        bilinear: our row with bilinear upsampling in its place, scored alike.
        trimap_width: the smallest; both curves have it.
        max_trimap_width: the largest; both curves have it.
        paper_gain: the paper's, mIoU points within its smallest trimap.
        paper_gain_whole: the paper's, mIoU points over the whole images.
    """

    backbone: str
    decoder: Result
    bilinear: Result
    trimap_width: int
    max_trimap_width: int
    paper_gain: float
    paper_gain_whole: float

    def within(self, width: int) -> float:
        """Ours within the trimap of a width that both curves have, mIoU points."""
        ours, theirs = self.decoder.trimap_miou(width), self.bilinear.trimap_miou(width)
        if ours is None or theirs is None:
            raise ValueError(f"no trimap of width {width} in {self.decoder.key} or its counterpart")
        return 100 * (ours - theirs)

    def whole(self) -> float:
        """Ours over the whole images, mIoU points."""
        return 100 * (self.decoder.scores.miou - self.bilinear.scores.miou)


def find(results: Sequence[Result], paper: Paper) -> list[BoundaryGain]:
    """All pairs of rows whose published counterparts are a pair of Fig. 5."""
    return [
        _gain(backbone, decoder, bilinear, paper)
        for backbone, pair in paper.figure5.items()
        for decoder, bilinear in product(results, results)
        if decoder.answers(pair.decoder)
        and bilinear.answers(pair.bilinear)
        and (decoder.data, decoder.trimap_band) == (bilinear.data, bilinear.trimap_band)
        and decoder.trimap
        and bilinear.trimap
    ]


def _gain(backbone: str, decoder: Result, bilinear: Result, paper: Paper) -> BoundaryGain:
    common = {p.trimap_width for p in decoder.trimap} & {p.trimap_width for p in bilinear.trimap}
    pair = paper.figure5[backbone]
    return BoundaryGain(
        backbone=backbone,
        decoder=decoder,
        bilinear=bilinear,
        trimap_width=min(common),
        max_trimap_width=max(common),
        paper_gain=pair.gain,
        paper_gain_whole=paper.rows[pair.decoder].miou - paper.rows[pair.bilinear].miou,
    )


def section(results: Sequence[Result], paper: Paper, compared: Sequence[Comparison]) -> Section:
    """What the report says of it: sentences and numbers of each pair, and the curves."""
    title = "At object boundaries (Sec. 4.4, Fig. 5)"
    if not any(result.trimap for result in results):
        nothing = "No label of these sets has void pixels, so there is no trimap to score within."
        return Section(title, [nothing], [], [])
    found = find(results, paper)
    paragraphs = [_sentence(gain, compared) for gain in found]
    without = [result.key for result in results if not result.trimap]
    if without:
        paragraphs.append(f"No void pixels, hence no curve: {', '.join(without)}.")
    if not found:
        paragraphs.append(
            "No two of these rows are a pair of the paper's Fig. 5 (same set and trimaps, with the "
            "decoder and with bilinear upsampling), so its claim is not tested here."
        )
    picture = Picture(
        TRIMAP_PICTURE, "mIoU over trimap width, one curve per row", _trimap_definition(results)
    )
    return Section(title, paragraphs, [_grid(gain) for gain in found], [picture])


def _trimap_definition(results: Sequence[Result]) -> str:
    keys_by_band: dict[Band, list[str]] = {}
    for result in results:
        if result.trimap:
            keys_by_band.setdefault(result.trimap_band, []).append(result.key)
    distances = [
        _DISTANCES[band] + (f" ({', '.join(keys)})" if len(keys_by_band) > 1 else "")
        for band, keys in keys_by_band.items()
    ]
    return (
        "A trimap of width w holds the pixels at a distance of at most w from a void pixel of the "
        "label, void itself left out; every curve point is one mIoU over all images within that "
        f"band. Distance here: {'; '.join(distances)}. Fig. 5 of the paper plots such curves for "
        "output_stride 16 in training and evaluation, with the decoder and with bilinear "
        "upsampling in its place."
    )


def _sentence(gain: BoundaryGain, compared: Sequence[Comparison]) -> str:
    within = comparisons.trimap_gain(compared, gain.decoder.key, gain.bilinear.key)
    interval = (
        f" The gain within 1 px has a 95 % interval of {within.low:+.2f} to {within.high:+.2f}."
        if within
        else ""
    )
    near, whole = gain.within(gain.trimap_width), gain.whole()
    agrees = near > whole and near > 0
    return (
        f"The paper: with {gain.backbone} the decoder gains {gain.paper_gain:.1f} points of mIoU "
        f"over bilinear upsampling within the narrowest trimap of its figure, whose width it does "
        f"not print, and {gain.paper_gain_whole:.2f} over whole images. Here, {gain.decoder.key} "
        f"against {gain.bilinear.key}: {near:+.2f} and {whole:+.2f}. "
        + (
            "The direction is the paper's: the gain is larger at boundaries."
            if agrees
            else "The direction is not the paper's: there is no larger gain at boundaries."
        )
        + interval
    )


def _grid(gain: BoundaryGain) -> Grid:
    widths = sorted({gain.trimap_width, gain.max_trimap_width})
    header = ["mIoU, %", *(f"within {width} px of void" for width in widths), "whole images"]
    rows = [
        [
            f"{name}\n{result.key}",
            *(table.percent(result.trimap_miou(width)) for width in widths),
            table.percent(result.scores.miou),
        ]
        for name, result in (("decoder", gain.decoder), ("bilinear", gain.bilinear))
    ]
    gains = [f"{gain.within(width):+.2f}" for width in widths]
    paper = [f"{gain.paper_gain:+.1f}", *(["not printed"] * (len(widths) - 1))]
    return Grid(
        header,
        [
            *rows,
            ["gain, points", *gains, f"{gain.whole():+.2f}"],
            [f"paper's gain\n{gain.backbone}", *paper, f"{gain.paper_gain_whole:+.2f}"],
        ],
    )
