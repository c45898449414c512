"""Whether what the paper says of two of its rows holds for ours, told by a paired bootstrap."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

from pipeline.paper import Claim, Paper
from pipeline.report import comparisons
from pipeline.report.comparisons import Comparison, Gain
from pipeline.report.results import Result

HOLDS = "holds"
NOT_RUN = "not run"


@dataclass(frozen=True)
class Verdict:
    """A claim of the paper, and what became of it here.

    Attributes:
        claim: of paper.yaml.
        paper_gain: mIoU points, the paper's.
        gain: ours, None where no two of our rows answer the claim.
    """

    claim: Claim
    paper_gain: float
    gain: Gain | None

    @property
    def words(self) -> str:
        """The verdict; what this data cannot tell apart is not called a result."""
        if self.gain is None:
            return NOT_RUN
        if self.claim.expected == "no gain":
            if not self.gain.is_significant:
                return f"not contradicted: no significant gain, at most {self.gain.high:+.2f}"
            return "does not hold: gains" if self.gain.points > 0 else f"{HOLDS}: loses"
        if self.gain.is_significant:
            return HOLDS if self.gain.points > 0 else "does not hold: loses"
        if self.gain.points > 0:
            return "direction only: not significant on this data"
        return "not seen: no gain on this data"

    @property
    def holds(self) -> bool:
        """Whether it does, beyond what another draw of images could change."""
        return self.words.startswith(HOLDS)


def find(results: Sequence[Result], found: Sequence[Comparison], paper: Paper) -> list[Verdict]:
    """A verdict for each claim of paper.yaml, in its order."""
    return [_verdict(claim, results, found, paper) for claim in paper.claims.values()]


def _verdict(
    claim: Claim, results: Sequence[Result], found: Sequence[Comparison], paper: Paper
) -> Verdict:
    paper_gain = paper.rows[claim.row].miou - paper.rows[claim.over].miou
    for one, other in product(results, results):
        if one.answers(claim.row) and other.answers(claim.over):
            gain = comparisons.gain(found, one.key, other.key)
            if gain is not None:
                return Verdict(claim, paper_gain, gain)
    return Verdict(claim, paper_gain, None)
