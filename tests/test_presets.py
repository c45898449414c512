"""The presets say what the paper says: every published row once, under the settings of its key."""

import re
from pathlib import Path

import pytest
import yaml

from pipeline import experiment
from pipeline import paper as paper_yaml
from stages import check

ROOT = Path(__file__).parents[1]
FILES = sorted((ROOT / "presets").glob("*.yaml"))
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
# The presets that answer published rows: which tables, on which set, with JFT-300M or without.
ANSWERED = {
    "voc": ((1, 2, 3, 5), "VOC 2012 val", False),
    "voc-jft": ((5,), "VOC 2012 val", True),
    "cityscapes": ((7,), "Cityscapes val", False),
    "zoo": (("zoo",), "VOC 2012 val", False),
    "zoo-cityscapes": (("zoo",), "Cityscapes val", False),
}
PRESETS = {name: experiment.load(ROOT / "presets" / f"{name}.yaml") for name in ANSWERED}
VOC = PRESETS["voc"]

ANSWERS = [
    pytest.param(preset, row, paper_key, id=f"{name}:{key}={paper_key}")
    for name, preset in PRESETS.items()
    for key, row in preset.rows.items()
    for paper_key in row.paper
]
MODELS = [
    pytest.param(key, model, id=f"{name}:{key}")
    for name, preset in PRESETS.items()
    for key, model in preset.models.items()
]
NETWORKS = [
    pytest.param(entry.network, id=f"{name}:{key}")
    for name, preset in PRESETS.items()
    for key, entry in {**preset.models, **preset.imports}.items()
    if entry.network
]


def rows_of(preset, model):
    return [row for row in preset.rows.values() if row.model == model]


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


@pytest.mark.parametrize("path", [ROOT / "params.yaml", *FILES], ids=lambda p: p.stem)
def test_a_params_file_is_whole_and_names_published_rows_that_exist(path):
    check.main(path, ROOT / "paper.yaml")


# Every published row is answered once


@pytest.mark.parametrize("name", ANSWERED)
def test_every_published_row_is_answered_by_exactly_one_row(name):
    tables, dataset, is_jft = ANSWERED[name]
    named = [key for row in PRESETS[name].rows.values() for key in row.paper]
    wanted = [
        key
        for key, row in PAPER.items()
        if row.table in tables and row.dataset == dataset and ("jft" in key.split("-")) == is_jft
    ]
    # The zoo's checkpoints answer rows of the tables too.
    assert sorted(key for key in named if PAPER[key].table in tables) == sorted(wanted)


def test_the_presets_leave_out_what_the_test_servers_alone_can_score():
    named = {
        key for preset in PRESETS.values() for row in preset.rows.values() for key in row.paper
    }
    assert {PAPER[key].dataset for key in PAPER.keys() - named} == {
        "VOC 2012 test",
        "Cityscapes test",
    }
    assert {PAPER[key].dataset for key in named} == {"VOC 2012 val", "Cityscapes val"}


@pytest.mark.parametrize("name", ANSWERED)
def test_every_row_answers_something(name):
    assert [key for key, row in PRESETS[name].rows.items() if not row.paper] == []


def test_both_curves_of_each_network_of_figure_5_are_rows():
    pairs = paper_yaml.load(ROOT / "paper.yaml").figure5.values()
    keys = {key for pair in pairs for key in (pair.decoder, pair.bilinear)}
    assert len([row for row in VOC.rows.values() if keys & set(row.paper)]) == 4


def test_every_trimap_curve_goes_to_40_pixels():
    rows = [row for preset in PRESETS.values() for row in preset.rows.values()]
    assert {row.evaluation.max_trimap_width for row in rows} == {40}


# ... under the settings that its key spells


@pytest.mark.parametrize(("preset", "row", "paper_key"), ANSWERS)
def test_a_row_evaluates_as_its_published_key_says(preset, row, paper_key):
    ticks = paper_key.split("-")
    dataset = PAPER[paper_key].dataset
    strides = [int(tick[4:]) for tick in ticks if re.fullmatch(r"eval\d+", tick)]
    assert [row.inference.output_stride] == strides
    assert row.inference.scales == (SCALES[dataset] if "ms" in ticks else [1.0])
    assert row.inference.flip == ("flip" in ticks)
    assert (row.inference.height, row.inference.width) == SIZES[dataset]
    assert row.data == f"data/{dataset.split()[0].lower()}/val.arrow"


@pytest.mark.parametrize(("preset", "row", "paper_key"), ANSWERS)
def test_a_rows_network_is_what_its_published_key_says(preset, row, paper_key):
    network = {**preset.models, **preset.imports}[row.model].network
    ticks = paper_key.split("-")
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


@pytest.mark.parametrize(("preset", "row", "paper_key"), ANSWERS)
def test_a_description_begins_with_where_the_row_is_published(preset, row, paper_key):
    source = paper_yaml.counterpart(paper_yaml.load(ROOT / "paper.yaml"), "", row.paper).source
    assert row.desc.split("  ")[0].casefold() == source.casefold()


def test_an_entrys_description_fits_a_table_of_contents():
    entries = [
        entry
        for preset in PRESETS.values()
        for section in (preset.models, preset.imports, preset.rows)
        for entry in section.values()
    ]
    assert [entry.desc for entry in entries if not 0 < len(entry.desc) <= 60] == []


# ... after one training each, by the paper's protocol


def test_no_network_is_trained_twice():
    for preset in PRESETS.values():
        trained = [model.model_dump_json(exclude={"desc"}) for model in preset.models.values()]
        assert len(set(trained)) == len(trained)


@pytest.mark.parametrize("name", ANSWERED)
def test_every_network_is_evaluated_or_trained_on_but_that_of_table_6(name):
    preset = PRESETS[name]
    heads = {key for key, imported in preset.imports.items() if imported.network}
    starts = {model.start for model in preset.models.values()}
    chained = {key for key in preset.models if f"checkpoints/{key}.safetensors" in starts}
    of_table_6 = {key for key, model in preset.models.items() if model.desc.startswith("Table 6")}
    evaluated = {row.model for row in preset.rows.values()}
    assert evaluated | chained | of_table_6 == set(preset.models) | heads
    assert not evaluated & of_table_6


@pytest.mark.parametrize("name", ANSWERED)
def test_a_models_description_names_the_tables_of_all_its_rows(name):
    for key, model in PRESETS[name].models.items():
        named = [paper_key for row in rows_of(PRESETS[name], key) for paper_key in row.paper]
        tables = sorted({str(PAPER[paper_key].table) for paper_key in named})
        tables = tables or ["6" if "trainval" in key else "5"]  # the ends of the chain with COCO
        assert model.desc.split("  ")[0] == f"Table{'s' * (len(tables) > 1)} {' and '.join(tables)}"


@pytest.mark.parametrize("name", ANSWERED)
def test_under_a_model_stands_what_was_published_of_its_rows(name):
    text = (ROOT / "presets" / f"{name}.yaml").read_text()
    for key in PRESETS[name].models:
        (comment,) = re.findall(
            rf"\n  {re.escape(key)}:\n    desc: .*\n    # published: (.+)", text
        )
        mious = [PAPER[row.paper[0]].miou for row in rows_of(PRESETS[name], key)]
        assert sorted(map(float, re.findall(r"\d\d\.\d\d", comment))) == sorted(mious)


IMAGENET = {
    "resnet101_beta": "checkpoints/resnet101_beta.safetensors",
    "xception65": "archives/xception65",
    "xception71": "archives/xception71",
}
# Data, start, iterations, batch, crop and base learning rate: what differs between trainings.
SEPARABLE = "checkpoints/xception65_os16-decoder-separable"
ON_COCO = ("data/coco/pretrain.arrow", "archives/xception65", 300000, 16, 513, 0.007)
ON_TRAINAUG = ("data/voc/trainaug.arrow", f"{SEPARABLE}_on-coco.safetensors", 30000, 16, 513, 1e-4)
ON_TRAINVAL = ("data/voc/trainval.arrow", f"{SEPARABLE}-coco.safetensors", 30000, 16, 513, 1e-4)
CHAIN = {"_on-coco": ON_COCO, "-coco": ON_TRAINAUG, "-coco-trainval": ON_TRAINVAL}


def protocol_of(key, model):
    """What the name of a model says of its training."""
    if model.data == "data/cityscapes/train.arrow":
        return (model.data, IMAGENET[model.network.backbone], 90000, 16, 769, 0.01)
    ending = re.search(r"((?:_on)?-coco(?:-jft)?(?:-trainval)?)$", key)
    if not ending:
        start = IMAGENET[model.network.backbone]
        return ("data/voc/trainaug.arrow", start, 30000, 16, 513, 0.007)
    data, start, *numbers = CHAIN[ending[1].replace("-jft", "")]
    if "-jft" in key:
        start = start.replace(".safetensors", "-jft.safetensors")
        start = start.replace("archives/xception65", "archives/xception65_jft")
    return (data, start, *numbers)


@pytest.mark.parametrize(("key", "model"), MODELS)
def test_a_network_is_trained_by_the_protocol(key, model):
    training = model.training
    assert protocol_of(key, model) == (
        model.data,
        model.start,
        training.max_iterations,
        training.batch_size,
        training.crop_size,
        training.base_learning_rate,
    )
    assert (training.power, training.momentum) == (0.9, 0.9)
    assert training.backbone_learning_rate_multiplier == 1.0
    assert training.bias_learning_rate_multiplier == 2.0
    assert training.weight_decay == (1e-4 if model.network.backbone == "resnet101_beta" else 4e-5)
    assert training.scales == [0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0]
    assert training.flip_probability == 0.5
    assert training.accumulation_steps == 1
    assert training.class_weights == "none"


@pytest.mark.parametrize(("key", "model"), MODELS)
def test_batch_normalisation_is_frozen_in_table_6_alone(key, model):
    """... which is trained at output_stride 8, on VOC's own train and val."""
    is_last = key.endswith("-trainval")
    assert model.desc.startswith("Table 6") == is_last
    assert model.training.batch_norm == ("frozen" if is_last else "synchronised")
    assert model.network.output_stride == (8 if is_last else 32 if "_os32" in key else 16)
    assert (model.validation.every_iterations == 0) == is_last  # val is in what it learns


@pytest.mark.parametrize("name", ["voc", "voc-jft"])
def test_a_chain_is_of_one_network(name):
    """All of a checkpoint's tensors must fit the network that starts from it."""
    models = PRESETS[name].models
    chained = [model for model in models.values() if "_os16-decoder-separable" in model.start]
    assert len(chained) == 2
    for model in chained:
        before = models[Path(model.start).stem].network
        assert before.model_copy(update={"output_stride": 8}) == model.network.model_copy(
            update={"output_stride": 8}
        )


@pytest.mark.parametrize("network", NETWORKS)
def test_batch_normalisation_is_the_authors(network):
    backbone, head = network.backbone_batch_norm, network.head_batch_norm
    is_resnet = network.backbone == "resnet101_beta"
    assert (backbone.eps, backbone.momentum) == ((1e-5, 0.05) if is_resnet else (1e-3, 3e-4))
    assert (head.eps, head.momentum) == (1e-5, 3e-4)


# ... on data that is the same for all of them


def test_the_preset_with_jft_fetches_and_packs_what_that_of_voc_does():
    """Else a change of preset would pack again what lies there."""
    jft = PRESETS["voc-jft"]
    assert (jft.voc, jft.trainaug, jft.coco) == (VOC.voc, VOC.trainaug, VOC.coco)
    shared = jft.archives.keys() & VOC.archives.keys()
    assert jft.archives.keys() - shared == {"xception65_jft"}
    assert all(jft.archives[key] == VOC.archives[key] for key in shared)


# ... in a file that `dvc exp run -S` can change


def mappings(value, place):
    """(mapping, its place) of all in a document."""
    if isinstance(value, dict):
        yield value, place
        for key, inner in value.items():
            yield from mappings(inner, f"{place}.{key}")


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_no_two_places_share_a_mapping(path):
    """DVC sets a number in the mapping that stands there: shared, it would move or lose others."""
    places = {}
    for mapping, place in mappings(yaml.safe_load(path.read_text()), ""):
        places.setdefault(id(mapping), []).append(place)
    assert [shared for shared in places.values() if len(shared) > 1] == []


def test_the_networks_of_voc_test_are_those_of_voc_so_that_they_are_trained_once():
    test = experiment.load(ROOT / "presets/voc-test.yaml")
    assert test.models.items() <= VOC.models.items()
    assert test.rows.items() <= VOC.rows.items()
    assert (test.trainaug, test.coco) == (VOC.trainaug, VOC.coco)
    assert {key: a for key, a in test.archives.items() if key != "voc2012test"}.items() <= (
        VOC.archives.items()
    )
