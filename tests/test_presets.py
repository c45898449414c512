"""The presets say what the paper says: every published row once, under the settings of its key."""

import re
from pathlib import Path

import pytest
import yaml

from pipeline import experiment
from pipeline.report import paper as paper_yaml

ROOT = Path(__file__).parents[1]
PAPER = paper_yaml.load(ROOT / "paper.yaml").rows
VOC_SCALES = [0.5, 0.75, 1.0, 1.25, 1.5, 1.75]
SCALES = {"VOC 2012 val": VOC_SCALES, "Cityscapes val": [0.75, 1.0, 1.25]}
SIZES = {"VOC 2012 val": (513, 513), "Cityscapes val": (1025, 2049)}
BACKBONES = {
    "resnet101": ("resnet101_beta", [1, 2, 4]),
    "xception65": ("xception65", None),
    "xception71": ("xception71", None),
    "mobilenetv2": ("mobilenetv2_100", None),
}
# What presets/voc.yaml does not answer; the keys with JFT-300M have it in them too.
NOT_IN_VOC = "-coco"
# What presets/zoo.yaml answers: tables and sets.
IN_ZOO = [("zoo", "VOC 2012 val")]


def preset(name):
    return experiment.load(ROOT / "presets" / f"{name}.yaml")


VOC, ZOO = preset("voc"), preset("zoo")


def answers(preset):
    """(key of a row, row, key of a published row) for each published row that a preset names."""
    return [
        pytest.param(preset, row, paper_key, id=f"{key}={paper_key}")
        for key, row in preset.rows.items()
        for paper_key in row.paper
    ]


def network_of(preset, row):
    return {**preset.models, **preset.imports}[row.model].network


def decoder_of(ticks):
    """The decoder that a published row's key spells, in the fields of `network.decoder`."""
    if "decoder" not in ticks:
        return None
    low = re.search(r"low(\d+)", " ".join(ticks))
    structure = re.search(r"(\d)x\1x(\d+)x(\d)", " ".join(ticks))
    kernel, channels, convolutions = map(int, structure.groups()) if structure else (3, 256, 2)
    return {
        "low_level_strides": [8, 4] if "conv3" in ticks else [4],
        "low_level_channels": int(low[1]) if low else 48,  # Table 2 fixes 48
        "kernel_size": kernel,
        "channels": channels,
        "convolutions": 1 if low else convolutions,  # Table 1 has [3x3, 256] x 1
    }


# Every published row is answered once


def test_the_voc_preset_answers_every_row_of_tables_1_2_3_and_5_exactly_once():
    named = [key for row in VOC.rows.values() for key in row.paper]
    wanted = [key for key, row in PAPER.items() if row.table in (1, 2, 3, 5)]
    assert sorted(named) == sorted(key for key in wanted if NOT_IN_VOC not in key)


def test_the_zoo_preset_answers_every_row_of_the_zoo_on_voc_val_exactly_once():
    named = [key for row in ZOO.rows.values() for key in row.paper if PAPER[key].table == "zoo"]
    wanted = [key for key, row in PAPER.items() if (row.table, row.dataset) in IN_ZOO]
    assert sorted(named) == sorted(wanted)


def test_every_row_answers_something():
    assert [key for p in (VOC, ZOO) for key, row in p.rows.items() if not row.paper] == []


def test_both_curves_of_each_network_of_figure_5_are_rows():
    pairs = paper_yaml.load(ROOT / "paper.yaml").figure5.values()
    keys = {key for pair in pairs for key in (pair.decoder, pair.bilinear)}
    assert len([row for row in VOC.rows.values() if keys & set(row.paper)]) == 4


def test_every_trimap_curve_goes_to_40_pixels():
    rows = [*VOC.rows.values(), *ZOO.rows.values()]
    assert {row.evaluation.max_trimap_width for row in rows} == {40}


# ... under the settings that its key spells


@pytest.mark.parametrize(("preset", "row", "paper_key"), answers(VOC) + answers(ZOO))
def test_a_row_evaluates_as_its_published_key_says(preset, row, paper_key):
    ticks = paper_key.split("-")
    dataset = PAPER[paper_key].dataset
    strides = [int(tick[4:]) for tick in ticks if re.fullmatch(r"eval\d+", tick)]
    assert [row.inference.output_stride] == strides
    assert row.inference.scales == (SCALES[dataset] if "ms" in ticks else [1.0])
    assert row.inference.flip == ("flip" in ticks)
    assert (row.inference.height, row.inference.width) == SIZES[dataset]
    assert row.data == f"data/{dataset.split()[0].lower()}/val.arrow"


@pytest.mark.parametrize(("preset", "row", "paper_key"), answers(VOC) + answers(ZOO))
def test_a_rows_network_is_what_its_published_key_says(preset, row, paper_key):
    network, ticks = network_of(preset, row), paper_key.split("-")
    backbone = paper_key.split("_")[1]
    is_mobile = backbone == "mobilenetv2"
    assert (network.backbone, network.multi_grid) == BACKBONES[backbone]
    assert network.separable == ("separable" in ticks)
    assert (network.decoder and network.decoder.model_dump()) == decoder_of(ticks)
    assert network.aspp.atrous_rates == ([] if is_mobile else [6, 12, 18])
    has_tick = PAPER[paper_key].dataset == "Cityscapes val"  # on VOC no table is without it
    assert network.aspp.image_pooling == (not has_tick or "pooling" in ticks)
    assert network.mean == network.std == [127.5] * 3
    stride = re.search(r"_os(\d+)-", paper_key)
    assert not stride or network.output_stride == int(stride[1])


@pytest.mark.parametrize(("preset", "row", "paper_key"), answers(VOC) + answers(ZOO))
def test_a_description_begins_with_where_the_row_is_published(preset, row, paper_key):
    source = paper_yaml.counterpart(paper_yaml.load(ROOT / "paper.yaml"), "", row.paper).source
    assert row.desc.split("  ")[0].casefold() == source.casefold()


def test_an_entrys_description_fits_a_table_of_contents():
    entries = [*VOC.models.values(), *VOC.rows.values(), *ZOO.imports.values(), *ZOO.rows.values()]
    assert [entry.desc for entry in entries if not 0 < len(entry.desc) <= 60] == []


# ... after one training each, by the paper's protocol


def test_no_network_is_trained_twice():
    trained = [model.model_dump_json(exclude={"desc"}) for model in VOC.models.values()]
    assert len(set(trained)) == len(trained)


def test_every_network_is_evaluated():
    for preset_ in (VOC, ZOO):
        heads = {key for key, imported in preset_.imports.items() if imported.network}
        starts = {model.start for model in preset_.models.values()}
        chained = {key for key in preset_.models if f"checkpoints/{key}.safetensors" in starts}
        evaluated = {row.model for row in preset_.rows.values()}
        assert evaluated | chained == set(preset_.models) | heads


def test_a_models_description_names_the_tables_of_all_its_rows():
    for key, model in VOC.models.items():
        named = [k for row in VOC.rows.values() if row.model == key for k in row.paper]
        tables = sorted({str(PAPER[paper_key].table) for paper_key in named}) or ["5"]  # on COCO
        assert model.desc.split("  ")[0] == f"Table{'s' * (len(tables) > 1)} {' and '.join(tables)}"


@pytest.mark.parametrize("key", [key for key in VOC.models if "coco" not in key])
def test_a_network_is_trained_by_the_protocol(key):
    model, training = VOC.models[key], VOC.models[key].training
    is_resnet = model.network.backbone == "resnet101_beta"
    assert model.data == "data/voc/trainaug.arrow"
    assert model.start == (
        "checkpoints/resnet101_beta.safetensors" if is_resnet else "archives/xception65"
    )
    assert (training.max_iterations, training.batch_size, training.crop_size) == (30000, 16, 513)
    assert (training.base_learning_rate, training.power, training.momentum) == (0.007, 0.9, 0.9)
    assert training.backbone_learning_rate_multiplier == 1.0
    assert training.bias_learning_rate_multiplier == 2.0
    assert training.weight_decay == (1e-4 if is_resnet else 4e-5)
    assert training.scales == [0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0]
    assert training.flip_probability == 0.5


@pytest.mark.parametrize(
    "network",
    [pytest.param(m.network, id=k) for p in (VOC, ZOO) for k, m in p.models.items()]
    + [
        pytest.param(i.network, id=k) for p in (VOC, ZOO) for k, i in p.imports.items() if i.network
    ],
)
def test_batch_normalisation_is_the_authors(network):
    backbone, head = network.backbone_batch_norm, network.head_batch_norm
    is_resnet = network.backbone == "resnet101_beta"
    assert (backbone.eps, backbone.momentum) == ((1e-5, 0.05) if is_resnet else (1e-3, 3e-4))
    assert (head.eps, head.momentum) == (1e-5, 3e-4)


# ... in a file that `dvc exp run -S` can change


def mappings(value, place):
    """(mapping, its place) of all in a document."""
    if isinstance(value, dict):
        yield value, place
        for key, inner in value.items():
            yield from mappings(inner, f"{place}.{key}")


@pytest.mark.parametrize("path", sorted((ROOT / "presets").glob("*.yaml")), ids=lambda p: p.stem)
def test_no_two_places_share_a_mapping(path):
    """DVC sets a number in the mapping that stands there: shared, it would move or lose others."""
    places = {}
    for mapping, place in mappings(yaml.safe_load(path.read_text()), ""):
        places.setdefault(id(mapping), []).append(place)
    assert [shared for shared in places.values() if len(shared) > 1] == []
