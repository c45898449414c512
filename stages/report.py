"""Writes the report: tables, trimap curves and panels on one page, ours beside the paper's."""

from pathlib import Path
from typing import Any

from pipeline import command, files, paper, params, revision
from pipeline.experiment import Row, Submission
from pipeline.paper import counterpart
from pipeline.report import comparisons, origins, results, sections, writing
from pipeline.report.config import Report
from pipeline.report.results import WorstImage


def main(
    params_file: Path,
    paper_file: Path,
    data_folder: Path,
    checkpoints: Path,
    history: Path,
    counts: Path,
    metrics_folder: Path,
    predictions_folder: Path,
    out: Path,
) -> None:
    """Reads what became of the rows of params.yaml, writes a folder with the page index.html.

    A row names its split from where the data folder stands: data/voc/val.arrow.
    """
    report = params.load(params_file, "report", Report)
    rows = params.load(params_file, "rows", dict[str, Row])
    submissions = params.load(params_file, "submissions", dict[str, Submission])
    imports = params.load(params_file, "imports", dict[str, dict[str, Any]])
    models = params.load(params_file, "models", dict[str, dict[str, Any]])
    published = paper.load(paper_file)
    costs = results.read_costs(metrics_folder / "multiply_adds.json")
    ours = [
        results.read(
            key,
            row.desc,
            row.data,
            counterpart(published, f"rows.{key}", row.paper),
            metrics_folder / key,
            trimap_band=row.evaluation.trimap_band,
            multiply_adds=costs.get(key),
            training=results.read_training_cost(row.model, models, history),
        )
        for key, row in rows.items()
    ]
    submitted = [
        results.Submitted(
            key,
            entry.desc,
            counterpart(published, f"submissions.{key}", entry.paper),
            entry.server_miou,
            results.read_training_cost(entry.model, models, history),
        )
        for key, entry in submissions.items()
    ]
    worst = {
        key: results.read_json(metrics_folder / key / "worst_images.json", list[WorstImage])
        for key in rows
    }
    entries = {key: row.model_dump(mode="json") for key, row in rows.items()}
    entries |= {
        origins.of_submission(key): entry.model_dump(mode="json", exclude={"server_miou"})
        for key, entry in submissions.items()
    }
    evidence = sections.Evidence(
        comparisons=comparisons.read(metrics_folder / "comparisons.json"),
        submitted=submitted,
        worst=worst,
        origins=origins.read(entries, imports | models, checkpoints, data_folder),
        revision=revision.head(data_folder.absolute().parent),
    )
    with files.atomic_folder(out) as folder:
        writing.write(
            folder,
            report,
            ours,
            published,
            evidence,
            data_folder=data_folder,
            counts=counts,
            predictions=predictions_folder,
        )


if __name__ == "__main__":
    command.run(main)
