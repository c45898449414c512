"""From a trained network to label maps, under any of the paper's inference strategies.

Memory is bounded by one batch: beside the network's own features, N * K * H * W scores in float32,
22 MB an image for VOC at 513x513, 160 MB for Cityscapes at 1025x2049: once at most for one scale,
three times where probabilities are summed, four times where mirrored ones are added. One whole
image of Cityscapes through ResNet-18 on a CPU: 0.44 GB beside what Python, torch and the weights
take, 1.04 GB at scales 0.5 and 1 with flips. Images wait two batches ahead, as bytes.

Source: tensorflow/models research/deeplab, model.py `predict_labels` and
`predict_labels_multi_scale`; DeepLab v3 Sec. 4.2 for averaging probabilities.
"""

import copy
from collections.abc import Iterator

import torch

from pipeline.data import batches
from pipeline.data.images import normalise
from pipeline.inference import folding, upsampling
from pipeline.inference.config import Inference, scaled_side
from pipeline.label_map import LabelMap
from pipeline.model import depthwise
from pipeline.model.config import Network
from pipeline.model.deeplab import DeepLab
from pipeline.model.layers import resize
from pipeline.splits import Split


def label_maps(
    model: DeepLab,
    network: Network,
    split: Split,
    inference: Inference,
    *,
    device: torch.device,
    first: int = 0,
) -> Iterator[tuple[str, LabelMap]]:
    """Yields (image_id, label map of the image's own size) of the images, in the split's order.

    Args:
        model: in evaluation mode, built at inference.output_stride.
        network: its description; gives mean and std of the images.
        split: the images; their labels are not looked at.
        inference: the strategy.
        device: where to compute.
        first: index of the first image.

    Raises:
        ValueError: an image is larger than the nominal size, or damaged.
    """
    ready = prepared(model, inference, device)
    stream = batches.inference_batches(
        split,
        indices=range(first, len(split)),
        height=inference.height,
        width=inference.width,
        batch_size=inference.batch_size,
    )
    for batch in stream:
        boxes = batch.boxes.to(device)
        images = normalise(batch.images.to(device), boxes, network.mean, network.std)
        labels = predict(ready, images, inference).cpu().numpy()
        for image_id, label, (_, _, bottom, right) in zip(
            batch.image_ids, labels, batch.boxes.tolist(), strict=True
        ):
            yield image_id, label[:bottom, :right].copy()


def prepared(model: DeepLab, inference: Inference, device: torch.device) -> DeepLab:
    """A network that computes the same, faster: for a CPU it has other layers.

    Batch normalisation is folded, which moves logits by some 3e-6 of the largest, of ResNet-101,
    and `depthwise` sums in another order: a label changes where two classes are as near as
    that. In bfloat16 the weights are rounded once, not in each pass.

    Args:
        model: in evaluation mode; left alone where it is changed.
        inference: gives the precision.
        device: where to compute.
    """
    if device.type != "cpu":
        return model.to(device)
    ready = folded(model)
    depthwise.replace(ready)
    return ready.to(torch.bfloat16) if inference.precision == "bfloat16" else ready


def folded(model: DeepLab) -> DeepLab:
    """A copy of a network whose batch normalisation is folded, all of it still convolutions.

    Args:
        model: in evaluation mode, float32, on the CPU.
    """
    copied = copy.deepcopy(model)
    folding.fold_batch_norm(copied)
    return copied


@torch.inference_mode()
def predict(model: DeepLab, images: torch.Tensor, inference: Inference) -> torch.Tensor:
    """Predicts classes of normalised, padded images.

    Args:
        model: in evaluation mode; one that is bfloat16 itself computes in it throughout.
        images: (N, 3, H, W) float32, normalised, padding 0.
        inference: gives scales, flip and precision.

    Returns:
        (N, H, W) uint8 classes.
    """
    height, width = images.shape[2:]
    reduced_precision = inference.precision == "bfloat16"
    with torch.autocast(images.device.type, torch.bfloat16, reduced_precision):
        if inference.scales == [1.0] and not inference.flip:
            # Probabilities have the order of their logits: no softmax is needed.
            return upsampling.labels(_coarse_logits(model, images), height, width)
        total = torch.zeros(())
        for scale in inference.scales:
            scaled = resize(images, *(scaled_side(side, scale) for side in (height, width)))
            total = _probabilities(model, scaled, height, width, scale) + total
            if inference.flip:
                mirrored = _probabilities(model, scaled.flip(3), height, width, scale)
                total = total + mirrored.flip(3)
        return upsampling.likeliest(total)


def _coarse_logits(model: DeepLab, images: torch.Tensor) -> torch.Tensor:
    """Logits in float32, with the classes of a pixel next to each other in memory."""
    logits = model.coarse_logits(images.to(model.classifier.weight.dtype))
    return logits.float().contiguous(memory_format=torch.channels_last)


def _probabilities(
    model: DeepLab, images: torch.Tensor, height: int, width: int, scale: float
) -> torch.Tensor:
    """(N, K, height, width) class probabilities of images at one scale.

    Logits of a scale below 1 first go to the size that the nominal image's logits have, and only
    then to the nominal size, as the authors do: at scale 0.75 going at once changes 1 % of labels.
    """
    logits = _coarse_logits(model, images)
    nominal = (scaled_side(side, max(1.0, scale)) for side in (height, width))
    logits = resize(logits, *((side - 1) // model.logits_stride + 1 for side in nominal))
    return resize(logits, height, width).softmax(dim=1)
