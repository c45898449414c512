"""The claim of Sec. 4.4: the decoder's gain over bilinear upsampling is largest at boundaries."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

from pipeline.report.paper import Paper
from pipeline.report.results import Result


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
