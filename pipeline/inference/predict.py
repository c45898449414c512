"""From a trained network to label maps, under any of the paper's inference strategies.

Source: tensorflow/models research/deeplab, model.py `predict_labels` and
`predict_labels_multi_scale`; DeepLab v3 Sec. 4.2 for averaging probabilities.
"""

from collections.abc import Iterator

import torch

from pipeline.data import batches
from pipeline.data.images import normalise
from pipeline.inference.config import Inference
from pipeline.label_map import LabelMap
from pipeline.model.config import Network
from pipeline.model.deeplab import DeepLab
from pipeline.model.layers import resize
from pipeline.splits import Split


def label_maps(
    model: DeepLab, network: Network, split: Split, inference: Inference, *, device: torch.device
) -> Iterator[tuple[str, LabelMap]]:
    """Yields (image_id, label map of the image's own size) for every image, in the split's order.

    Args:
        model: in evaluation mode, built at inference.output_stride.
        network: its description; gives mean and std of the images.
        split: the images; their labels are not looked at.
        inference: the strategy.
        device: where to compute.

    Raises:
        ValueError: an image is larger than the nominal size, or damaged.
    """
    model.to(device)
    stream = batches.inference_batches(
        split,
        indices=range(len(split)),
        height=inference.height,
        width=inference.width,
        batch_size=inference.batch_size,
    )
    for batch in stream:
        boxes = batch.boxes.to(device)
        images = normalise(batch.images.to(device), boxes, network.mean, network.std)
        labels = predict(model, images, inference).to(torch.uint8).cpu().numpy()
        for image_id, label, (_, _, bottom, right) in zip(
            batch.image_ids, labels, batch.boxes.tolist(), strict=True
        ):
            yield image_id, label[:bottom, :right].copy()


@torch.inference_mode()
def predict(model: DeepLab, images: torch.Tensor, inference: Inference) -> torch.Tensor:
    """Predicts classes of normalised, padded images.

    Args:
        model: in evaluation mode.
        images: (N, 3, H, W) float32, normalised, padding 0.
        inference: gives scales, flip and precision.

    Returns:
        (N, H, W) int64 classes.
    """
    height, width = images.shape[2:]
    reduced_precision = inference.precision == "bfloat16"
    with torch.autocast(images.device.type, torch.bfloat16, reduced_precision):
        if inference.scales == [1.0] and not inference.flip:
            # Probabilities have the order of their logits: no softmax is needed.
            return resize(model.coarse_logits(images).float(), height, width).argmax(dim=1)
        total = torch.zeros(())
        for scale in inference.scales:
            scaled = resize(images, *(_scaled(side, scale) for side in (height, width)))
            total = _probabilities(model, scaled, height, width, scale) + total
            if inference.flip:
                mirrored = _probabilities(model, scaled.flip(3), height, width, scale)
                total = total + mirrored.flip(3)
        return total.argmax(dim=1)


def _probabilities(
    model: DeepLab, images: torch.Tensor, height: int, width: int, scale: float
) -> torch.Tensor:
    """(N, K, height, width) class probabilities of images at one scale.

    Logits of a scale below 1 first go to the size that the nominal image's logits have, and only
    then to the nominal size, as the authors do: at scale 0.75 going at once changes 1 % of labels.
    """
    logits = model.coarse_logits(images).float()
    step = max(1.0, scale) / model.logits_stride
    logits = resize(logits, *(_scaled(side, step) for side in (height, width)))
    return resize(logits, height, width).softmax(dim=1)


def _scaled(side: int, scale: float) -> int:
    """Size of a side after scaling, corners aligned."""
    return int((side - 1) * scale + 1)
