"""Small splits, networks and recipes, for the tests of what computes with them."""

import io

import numpy as np
import torch
from PIL import Image
from torch import nn

from pipeline import label_map, splits
from pipeline.classes import Classes
from pipeline.inference.config import Inference
from pipeline.model.config import Network
from pipeline.training.config import Training, Validation

VOID = 255
CLASSES = Classes(("background", "cat", "dog"), ((0, 0, 0), (64, 0, 0), (64, 0, 128)), VOID)

NETWORK = {
    "backbone": "test_resnet",  # timm's own for tests: 0.4 million parameters
    "output_stride": 16,
    "multi_grid": None,
    "mean": [123.675, 116.28, 103.53],
    "std": [58.395, 57.12, 57.375],
    "separable": False,
    "aspp": {"atrous_rates": [1, 2, 3], "channels": 16, "image_pooling": True, "dropout": 0.1},
    "decoder": {
        "low_level_strides": [4],
        "low_level_channels": 48,
        "kernel_size": 3,
        "channels": 16,
        "convolutions": 2,
    },
    "backbone_batch_norm": {"eps": 0.001, "momentum": 0.05},
    "head_batch_norm": {"eps": 0.00001, "momentum": 0.1},
}
TRAINING = {
    "seed": 0,
    "max_iterations": 4,
    "batch_size": 2,
    "accumulation_steps": 1,
    "batch_norm": "trained",
    "crop_size": 33,
    "scales": [0.75, 1.0, 1.25],
    "flip_probability": 0.5,
    "base_learning_rate": 0.05,
    "backbone_learning_rate_multiplier": 1.0,
    "bias_learning_rate_multiplier": 2.0,
    "power": 0.9,
    "momentum": 0.9,
    "weight_decay": 0.0001,
    "class_weights": "none",
    "precision": "float32",
}
VALIDATION = {
    "data": "data/two.arrow",
    "every_iterations": 0,
    "height": 65,
    "width": 65,
    "panels": 1,
}
INFERENCE = {
    "output_stride": 16,
    "height": 65,
    "width": 65,
    "scales": [1.0],
    "flip": False,
    "batch_size": 2,
    "precision": "float32",
}


def network(**changes):
    return Network.model_validate(NETWORK | changes)


def training(**changes):
    return Training.model_validate(TRAINING | changes)


def validation(**changes):
    return Validation.model_validate(VALIDATION | changes)


def inference(**changes):
    return Inference.model_validate(INFERENCE | changes)


def png(pixels):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def jpeg(pixels, **options):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", **options)
    return buffer.getvalue()


def scene(random, height, width):
    """A noisy image whose brighter part is a cat and whose bluer part is a dog, edged by void."""
    label = np.zeros((height, width), np.uint8)
    middle_row, middle_column = (
        random.integers(1, [height, width]) if height > 1 < width else (0, 0)
    )
    label[:middle_row, :middle_column] = 1
    label[middle_row:, middle_column:] = 2
    colours = np.array([[40, 40, 40], [220, 200, 180], [30, 60, 230]])
    noise = random.integers(-25, 26, (height, width, 3))
    image = (colours[label] + noise).clip(0, 255).astype(np.uint8)
    label[middle_row, :] = VOID
    return image, label


def write_split(path, sizes, *, seed=0, classes=CLASSES):
    """Writes images of these (height, width) as `image_0`, `image_1` and so on."""
    random = np.random.default_rng(seed)
    samples = []
    for number, (height, width) in enumerate(sizes):
        image, label = scene(random, height, width)
        encoded = label_map.encode(label, classes)
        samples.append(
            splits.checked_sample(f"image_{number}", png(image), encoded, classes, "synthetic")
        )
    splits.write(path, samples, classes)
    return path


def scramble_batch_norm(module):
    """Gives each batch normalisation other numbers, as training would.

    timm starts the last one of each residual branch at zero, which hides the whole branch.
    """
    generator = torch.Generator().manual_seed(0)
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            for tensor in (layer.weight, layer.running_var):
                nn.init.uniform_(tensor, 0.5, 1.5, generator=generator)
            for tensor in (layer.bias, layer.running_mean):
                nn.init.normal_(tensor, 0.0, 0.2, generator=generator)
    return module
