"""A row's network as one ONNX graph: 8-bit pictures in, label maps of the same size out.

The network itself is traced with free sizes; what `predict` does around it is written out as a few
nodes, in ONNX's own text form: normalisation, padding with the mean pixel, resizing, the likeliest
class. A deployer then has nothing to do to a picture, and nothing to get wrong.
"""

import logging
import warnings
from collections.abc import Iterable, Mapping
from fractions import Fraction

import onnx
import torch
from onnx import compose, helper, parser
from torch import nn
from torch.export import Dim

from pipeline.classes import Classes
from pipeline.inference.config import Inference, exact
from pipeline.model.config import Network
from pipeline.model.deeplab import DeepLab
from pipeline.pictures import labelling

OPSET = 18
_IR_VERSION = 10  # of ONNX 1.16; runtimes refuse files that are newer than they are
_PREFIX = "network/"
_MAX_UNITS = 4096  # of a side, in units of the output stride


class _CoarseLogits(nn.Module):
    """The part of the network that is traced."""

    def __init__(self, model: DeepLab) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.model.coarse_logits(images)


def check(row: str, inference: Inference) -> None:
    """Raises a ValueError if the strategy is no single pass through the network."""
    if len(inference.scales) > 1 or inference.flip:
        raise ValueError(
            f"rows.{row}.inference: {len(inference.scales)} scales, flip {inference.flip}: a graph "
            "is exported of one scale without flip; add such a row of the same model to export"
        )


def build(
    model: DeepLab,
    network: Network,
    inference: Inference,
    classes: Classes,
    facts: Mapping[str, str],
) -> onnx.ModelProto:
    """Builds the graph: "image" (N, H, W, 3) uint8 RGB -> "label" (N, H, W) uint8 classes.

    N, H and W are free in every call. A picture is padded to the nominal size, or where it is
    larger to the next size that the network takes, and its label map cut out.

    Args:
        model: from `predict.folded`.
        network: its description.
        inference: a strategy that `check` lets pass.
        classes: go into the metadata.
        facts: more metadata.
    """
    scale = exact(inference.scales[0])
    traced = _traced(model, inference.output_stride)
    before = parser.parse_model(_before(network, inference, scale))
    after = parser.parse_model(_after(model.logits_stride, classes.num_classes, scale))
    named = compose.add_prefix(traced, _PREFIX)  # the exporter has names like ours
    joined = compose.merge_models(before, named, [("network_input", f"{_PREFIX}images")])
    ends = [(f"{_PREFIX}logits", "logits"), ("size", "size"), ("padded_size", "padded_size")]
    joined = compose.merge_models(joined, after, ends)
    _strip(joined)
    joined.ir_version = _IR_VERSION
    joined.producer_name = "deeplab-v3plus-reproduction"
    helper.set_model_props(joined, {"classes": classes.to_json(), **facts})
    onnx.checker.check_model(joined, full_check=True)
    return joined


def _traced(model: DeepLab, output_stride: int) -> onnx.ModelProto:
    """Images (N, 3, H, W) -> logits, for any N and any sides of k * output_stride + 1."""
    example = torch.zeros(2, 3, 3 * output_stride + 1, 4 * output_stride + 1)
    rows, columns = (Dim(name, min=1, max=_MAX_UNITS) for name in ("rows", "columns"))
    sides = {2: output_stride * rows + 1, 3: output_stride * columns + 1}
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the exporter's own calls
            program = torch.onnx.export(
                _CoarseLogits(model).eval(),
                (example,),
                dynamo=True,
                opset_version=OPSET,
                input_names=["images"],
                output_names=["logits"],
                dynamic_shapes={"images": {0: Dim("batch", min=1), **sides}},
                verbose=False,
            )
    finally:
        logger.setLevel(level)
    if program is None:
        raise RuntimeError("torch.onnx.export gave no program")
    return program.model_proto


def _strip(model: onnx.ModelProto) -> None:
    """Takes out what the exporter notes for debugging, this machine's folders among it."""
    del model.opset_import[1:]  # merging has repeated it
    parts = [model.graph, *model.graph.node, *model.graph.value_info]
    for part in (*parts, *model.graph.initializer, *model.graph.input, *model.graph.output):
        del part.metadata_props[:]
        part.doc_string = ""


def _before(network: Network, inference: Inference, scale: Fraction) -> str:
    """From pictures to what the network takes; padding is 0, the mean pixel after normalisation."""
    unit = labelling.step(inference)
    return f"""
        <ir_version: {_IR_VERSION}, opset_import: ["": {OPSET}]>
        before (uint8[batch, height, width, 3] image)
            => (float[batch, 3, rows, columns] network_input, int64[2] size, int64[2] padded_size)
        {{
            size = Shape <start = 1, end = 3> (image)
            nominal = Constant <value_ints = [{inference.height}, {inference.width}]> ()
            unit = Constant <value_ints = [{unit}]> ()
            up = Constant <value_ints = [{unit - 2}]> ()
            one = Constant <value_ints = [1]> ()
            raised = Add (size, up)
            units = Div (raised, unit)
            multiple = Mul (units, unit)
            fitting = Add (multiple, one)
            padded_size = Max (fitting, nominal)
            added = Sub (padded_size, size)
            nothing = Constant <value_ints = [0, 0, 0, 0, 0, 0]> ()
            pads = Concat <axis = 0> (nothing, added)
            planes = Transpose <perm = [0, 3, 1, 2]> (image)
            pixels = Cast <to = {onnx.TensorProto.FLOAT}> (planes)
            mean = Constant <value = float[1, 3, 1, 1] {{{_numbers(network.mean)}}}> ()
            std = Constant <value = float[1, 3, 1, 1] {{{_numbers(network.std)}}}> ()
            centred = Sub (pixels, mean)
            normalised = Div (centred, std)
            zero = Constant <value = float {{0.0}}> ()
            padded = Pad (normalised, pads, zero)
            {_resized("padded", "network_input", "padded_size", scale)}
        }}
    """


def _after(logits_stride: int, num_classes: int, scale: Fraction) -> str:
    """From logits to label maps, by way of the size that logits of scale 1 have, as `predict`."""
    reduced = _resized("logits", "even", "padded_size", Fraction(1, logits_stride), 1)
    even = reduced if scale < 1 else "even = Identity (logits)"
    return f"""
        <ir_version: {_IR_VERSION}, opset_import: ["": {OPSET}]>
        after (float[batch, {num_classes}, h, w] logits, int64[2] size, int64[2] padded_size)
            => (uint8[batch, height, width] label)
        {{
            {even}
            {_resized("even", "whole", "padded_size", Fraction(1), 2)}
            start = Constant <value_ints = [0, 0]> ()
            axes = Constant <value_ints = [2, 3]> ()
            cut = Slice (whole, start, size, axes)
            likeliest = ArgMax <axis = 1, keepdims = 0> (cut)
            label = Cast <to = {onnx.TensorProto.UINT8}> (likeliest)
        }}
    """


def _resized(source: str, target: str, size: str, factor: Fraction, number: int = 0) -> str:
    """Nodes that resize `source` with aligned corners to (size - 1) * factor + 1."""
    if not number and factor == 1:
        return f"{target} = Identity ({source})"
    return f"""
            one_{number} = Constant <value_ints = [1]> ()
            numerator_{number} = Constant <value_ints = [{factor.numerator}]> ()
            denominator_{number} = Constant <value_ints = [{factor.denominator}]> ()
            steps_{number} = Sub ({size}, one_{number})
            times_{number} = Mul (steps_{number}, numerator_{number})
            scaled_{number} = Div (times_{number}, denominator_{number})
            side_{number} = Add (scaled_{number}, one_{number})
            outer_{number} = Shape <start = 0, end = 2> ({source})
            sizes_{number} = Concat <axis = 0> (outer_{number}, side_{number})
            {target} = Resize <mode = "linear", coordinate_transformation_mode = "align_corners">
                ({source}, , , sizes_{number})
    """


def _numbers(values: Iterable[float]) -> str:
    return ", ".join(repr(float(value)) for value in values)
