"""The report's folder: pictures, tables, the Markdown file and the page."""

from collections.abc import Sequence
from pathlib import Path

from pipeline import files
from pipeline.paper import Paper
from pipeline.report import boundaries, figures, markdown, page, panels, sections, table
from pipeline.report.config import Report
from pipeline.report.results import Result, read_confusion
from pipeline.report.sections import Evidence
from pipeline.splits import Split


def write(
    folder: Path,
    report: Report,
    results: Sequence[Result],
    paper: Paper,
    evidence: Evidence,
    *,
    data_folder: Path,
    counts: Path,
    predictions: Path,
) -> None:
    """Writes all files of the report.

    Args:
        folder: where they go.
        report: the section of params.yaml.
        results: a row each.
        paper: what was published.
        evidence: what stands behind the results.
        data_folder: the folder `data`; rows name their split from where it stands.
        counts: folder of the rows' confusion matrices.
        predictions: folder of the rows' folders of label maps.
    """
    for result in results:
        split = Split(data_folder.parent / result.data)
        worst = [image.image_id for image in evidence.worst[result.key]]
        _draw_panels(folder, report, result.key, split, predictions / result.key, worst)
        figures.confusion_matrix(
            read_confusion(counts / f"{result.key}.confusion.csv"),
            list(result.scores.iou_per_class),
            folder / sections.confusion_picture(result.key),
        )
    figures.trimap_curves(results, folder / boundaries.TRIMAP_PICTURE)
    figures.iou_per_class(results, folder / sections.IOU_PICTURE)
    table.write(table.frame(results, paper), folder)
    contents = sections.build(results, paper, report.panels, evidence)
    files.write_text(folder / "report.md", markdown.render(report.title, report.note, contents))
    html = page.render(report.title, report.note, contents, folder)
    files.write_text(folder / "index.html", html)


def _draw_panels(
    folder: Path, report: Report, key: str, split: Split, predictions: Path, worst: Sequence[str]
) -> None:
    chosen = panels.read(split, predictions, report.panels)
    panels.draw(chosen, split.classes, folder / sections.panel_picture(key))
    chosen = panels.read_images(split, predictions, worst[: report.panels])
    panels.draw(chosen, split.classes, folder / sections.worst_picture(key))
