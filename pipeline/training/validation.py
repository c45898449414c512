"""mIoU on a split while a network is trained: to see whether it learns, not a result.

Images are run whole, at one scale, at the output_stride of the training. The results that are
reported come from `predict` and `evaluate`.
"""

from pathlib import Path

import torch

from pipeline import label_map, splits
from pipeline.data import batches
from pipeline.data.images import decode_label, normalise
from pipeline.model.config import Network
from pipeline.model.deeplab import DeepLab
from pipeline.splits import Split
from pipeline.training.config import Training, Validation
from pipeline.training.team import Team


@torch.inference_mode()
def miou(
    model: DeepLab,
    network: Network,
    training: Training,
    split: Split,
    validation: Validation,
    *,
    team: Team,
    panels: Path | None,
) -> float:
    """Mean IoU of the classes that occur in the labels or the predictions, in [0, 1].

    Args:
        model: is left in evaluation mode.
        network: its description.
        training: gives precision and number of images at a time.
        split: what is predicted.
        validation: the nominal size, and how many images are shown.
        team: each process takes every so many-th image; the result is that of all.
        panels: folder for the label maps that are to be looked at; the leader alone has one.

    Raises:
        ValueError: an image is larger than the nominal size, or damaged.
    """
    model.eval()
    num_classes = split.classes.num_classes
    counts = torch.zeros(num_classes**2, dtype=torch.int64, device=team.device)
    indices = range(team.rank, len(split), team.size)
    # Moved to indices that the leader predicts: it alone writes.
    chosen = splits.spread(len(split), validation.panels)
    shown = {split.image_ids[index - index % team.size] for index in chosen}
    stream = batches.inference_batches(
        split,
        indices=indices,
        height=validation.height,
        width=validation.width,
        batch_size=max(1, training.batch_size // team.size // training.accumulation_steps),
    )
    position = iter(indices)
    for batch in stream:
        boxes = batch.boxes.to(team.device)
        images = normalise(batch.images.to(team.device), boxes, network.mean, network.std)
        with torch.autocast(team.device.type, torch.bfloat16, training.precision == "bfloat16"):
            predictions = model(images).argmax(dim=1)
        for image_id, prediction, (_, _, bottom, right) in zip(
            batch.image_ids, predictions, batch.boxes.tolist(), strict=True
        ):
            predicted = prediction[:bottom, :right]
            label = torch.from_numpy(decode_label(split[next(position)])).to(team.device).long()
            scored = label != split.classes.ignore_index
            pairs = label[scored] * num_classes + predicted[scored]
            counts += torch.bincount(pairs, minlength=num_classes**2)
            if panels is not None and image_id in shown:
                label_map_png = label_map.encode(
                    predicted.to(torch.uint8).cpu().numpy(), split.classes
                )
                (panels / f"{image_id}.png").write_bytes(label_map_png)
    return _mean_iou(team.sum(counts).view(num_classes, num_classes))


def _mean_iou(counts: torch.Tensor) -> float:
    """From (K, K) pixel counts; row is the true class, column the predicted one."""
    intersection = counts.diagonal().double()
    union = (counts.sum(0) + counts.sum(1)).double() - intersection
    return float((intersection[union > 0] / union[union > 0]).mean()) if union.any() else 0.0
