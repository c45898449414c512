"""A run's description in MLflow: its result beside the paper's, and how to come back to it."""

from collections.abc import Mapping

from pipeline.paper import Counterpart
from pipeline.report import table
from pipeline.report.results import Scores
from pipeline.tracking.runs import Run


def describe(run: Run, run_id: str, origin: Mapping[str, str], links: Mapping[str, str]) -> str:
    """Writes Markdown.

    Args:
        run: to describe.
        run_id: in MLflow.
        origin: tags that say where the run was made.
        links: addresses in MLflow by name of the runs before this one.
    """
    parts = [f"**{' '.join(run.desc.split())}**"]
    if run.scores is not None:
        parts.append(_table(run.scores, run.published, is_comparable=run.is_comparable))
    parts.append(_made(run, links))
    parts += [f"**Warning:** {warning}" for warning in run.warnings]
    parts.append(_way_back(run, run_id, origin))
    return "\n\n".join(parts)


def _table(scores: Scores, published: Counterpart | None, *, is_comparable: bool) -> str:
    """Ours and the paper's, in percent."""
    interval = f"{table.percent(scores.miou_low)} to {table.percent(scores.miou_high)}"
    lines = [
        "| mIoU, % | |",
        "|:--|:--|",
        f"| **here** | **{table.percent(scores.miou)}** (95 % interval {interval}) |",
    ]
    if published is not None:
        keys = ", ".join(f"`{key}`" for key in published.keys)
        source = f"{published.source}: {published.backbone} on {published.dataset}, {keys}"
        lines.append(f"| **the paper** | **{published.miou:.2f}** ({source}) |")
        difference = f"{100 * scores.miou - published.miou:+.2f}"
        if not is_comparable:
            difference = f"not comparable: {scores.num_images:,} images, not {published.dataset}"
        lines.append(f"| **difference**&ensp; | {difference} |")
    return "\n".join(lines)


def _made(run: Run, links: Mapping[str, str]) -> str:
    if run.kind == "import":
        return f"Imported from `{run.files['archive'].path}`."
    used = f"`{run.files['data'].path}`, {run.data_sets[0].num_images:,} images"
    if run.trained is None:
        return f"Trained on {used}, from `{run.files['start'].path}`."
    name = run.trained.name
    return f"[{name}]({links[name]}) evaluated on {used}."


def _way_back(run: Run, run_id: str, origin: Mapping[str, str]) -> str:
    """The commands that bring this state back, from DVC's cache or by computing it again."""
    repro = f"dvc repro {run.stage}"
    if "git.commit" not in origin:
        return f"Back to this state:\n\n```\n{repro}\n```"
    commit = f"git checkout {origin['git.commit']}"
    if "dvc.experiment" in origin:
        commands = [f"dvc exp apply {origin['dvc.experiment']}", repro]
    else:
        commands = [commit, repro]
    by_hand = "\n".join(commands)
    text = f"Back to this state:\n\n```\nmake checkout RUN={run_id}\n```\n\nor by hand\n\n"
    text += f"```\n{by_hand}\n```"
    if origin["git.state"] == "dirty" and "dvc.experiment" not in origin:
        text += (
            "\n\nThe sources differed from that commit when this was computed: by hand, set the "
            "params in `params.yaml` to those that this run shows."
        )
    return text
