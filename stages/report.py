"""Writes the report: tables, trimap curves and panels on one page, ours beside the paper's."""

from pathlib import Path

from pipeline import command, files, params
from pipeline.experiment import Row
from pipeline.report import figures, markdown, page, panels, paper, results, sections, table
from pipeline.report.config import Report
from pipeline.splits import Split


def main(
    params_file: Path,
    paper_file: Path,
    data_folder: Path,
    metrics_folder: Path,
    predictions_folder: Path,
    out: Path,
) -> None:
    """Reads what became of the rows of params.yaml, writes a folder with the page index.html.

    A row names its split from where the data folder stands: data/voc/val.arrow.
    """
    report = params.load(params_file, "report", Report)
    rows = params.load(params_file, "rows", dict[str, Row])
    published = paper.load(paper_file)
    ours = [
        results.read(key, row.desc, row.data, row.paper, published, metrics_folder / key)
        for key, row in rows.items()
    ]
    contents = sections.build(ours, published, report.panels)
    with files.atomic_folder(out) as folder:
        for key, row in rows.items():
            split = Split(data_folder.parent / row.data)
            chosen = panels.read(split, predictions_folder / key, report.panels)
            panels.draw(chosen, split.classes, folder / sections.panel_picture(key))
        figures.trimap_curves(ours, folder / sections.TRIMAP_PICTURE)
        figures.iou_bars(ours, folder / sections.IOU_PICTURE)
        table.write(table.frame(ours, published), folder)
        files.write_text(folder / "report.md", markdown.render(report.title, report.note, contents))
        files.write_text(
            folder / "index.html", page.render(report.title, report.note, contents, folder)
        )


if __name__ == "__main__":
    command.run(main)
