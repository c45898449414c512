import json
import re
from collections import Counter
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
import pytest
import yaml
from matplotlib.axes import Axes
from PIL import Image

from pipeline import label_map, splits
from pipeline import paper as paper_yaml
from pipeline.classes import Classes
from pipeline.paper import Claim, Paper, Published, TrimapGain, counterpart
from pipeline.report import (
    boundaries,
    comparisons,
    figures,
    markdown,
    page,
    panels,
    sections,
    table,
    verdicts,
)
from pipeline.report.comparisons import Comparison
from pipeline.report.origins import Origin
from pipeline.report.results import (
    Pace,
    Result,
    Scores,
    Submitted,
    TrainingCost,
    TrimapPoint,
    read,
    read_confusion,
    read_training_cost,
)
from pipeline.report.sections import Evidence
from pipeline.revision import Revision

ROOT = Path(__file__).parents[1]
CLASSES = Classes(("background", "cat & <dog>"), ((0, 0, 0), (255, 0, 0)), 255)

PAPER = Paper(
    datasets={"VOC 2012 val": 1449},
    figure5={"ResNet-101": TrimapGain(decoder="dec", bilinear="bil", gain=4.8)},
    claims={
        "decoder": Claim(
            section="Sec. 4.2", text="The decoder gains.", row="dec", over="bil", expected="gain"
        ),
        "zoo": Claim(
            section="Sec. 4.3",
            text="Cost gains nothing.",
            row="cost",
            over="bil",
            expected="no gain",
        ),
    },
    tables={2: "Decoders", 3: "Strategies", 5: "Costs"},
    rows={
        "dec": Published(table=3, backbone="ResNet-101", dataset="VOC 2012 val", miou=78.85),
        "bil": Published(table=3, backbone="ResNet-101", dataset="VOC 2012 val", miou=77.21),
        "dec2": Published(table=2, backbone="ResNet-101", dataset="VOC 2012 val", miou=78.85),
        "zoo": Published(table="zoo", backbone="ResNet-101", dataset="VOC 2012 val", miou=78.85),
        "cost": Published(
            table=5,
            backbone="ResNet-101",
            dataset="VOC 2012 val",
            miou=78.85,
            multiply_adds=101.28,
            multiply_adds_corrected=102.78,
            note="of a replica",
        ),
        "other cost": Published(
            table=5, backbone="ResNet-101", dataset="VOC 2012 val", miou=78.85, multiply_adds=102.78
        ),
    },
)


TRAINING = TrainingCost(
    1.5,
    Pace(
        seconds=5400.0,
        iterations=3,
        images_per_second=8.0,
        device="NVIDIA H100",
        num_devices=2,
        torch="2.11.0",
    ),
)


def scores(miou=0.5, num_images=2, iou_per_class=None, absent_classes=(), warnings=()):
    return Scores(
        miou=miou,
        miou_low=0.0,
        miou_high=1.0,
        pixel_accuracy=0.9,
        mean_class_accuracy=0.6,
        num_images=num_images,
        iou_per_class={"background": miou} if iou_per_class is None else iou_per_class,
        absent_classes=list(absent_classes),
        warnings=list(warnings),
    )


def curve(*mious):
    return [
        TrimapPoint(trimap_width=width, miou=miou, miou_low=0.0, miou_high=1.0, pixel_accuracy=0.5)
        for width, miou in enumerate(mious, start=1)
    ]


def result(
    key="ours", *, paper_keys=(), trimap=(), data="val.arrow", trimap_band="square", **kwargs
):
    return Result(
        key=key,
        desc=f"about {key}",
        data=data,
        trimap_band=trimap_band,
        published=counterpart(PAPER, key, paper_keys),
        scores=scores(**kwargs),
        trimap=list(trimap),
        multiply_adds=12.3,
        training=TRAINING,
    )


def pair(near_decoder=0.5, near_bilinear=0.4):
    return [
        result("v3plus", paper_keys=["dec"], miou=0.62, trimap=curve(near_decoder, 0.6)),
        result("v3", paper_keys=["bil"], miou=0.6, trimap=curve(near_bilinear, 0.55)),
    ]


def evidence(compared=(), submitted=()):
    origin = Origin("v3", "checkpoints/v3.safetensors", "ab" * 16, "data/val.arrow", "cd" * 16, "")
    return Evidence(
        list(compared), list(submitted), {}, [origin], Revision("f" * 40, is_clean=False)
    )


def compared(row, over, miou, low, high):
    return Comparison(
        row=row,
        over=over,
        miou=miou,
        low=low,
        high=high,
        trimap_miou=miou,
        trimap_low=low,
        trimap_high=high,
    )


def small_split(folder, num_images=2, classes=CLASSES):
    """Images of 4 x 6 pixels whose label is class 1 on the left; predictions are all class 0."""
    label = np.zeros((4, 6), np.uint8)
    label[:, :2], label[:, 2] = 1, classes.ignore_index
    pixels = label_map.encode(label, classes)
    ids = [f"image_{index}" for index in range(num_images)]
    samples = [splits.checked_sample(i, pixels, pixels, classes, "made") for i in ids]
    splits.write(folder / "val.arrow", samples, classes)
    (folder / "predictions").mkdir(parents=True)
    for image_id in ids:
        encoded = label_map.encode(label * 0, classes)
        (folder / "predictions" / f"{image_id}.png").write_bytes(encoded)
    return splits.Split(folder / "val.arrow"), folder / "predictions"


# paper.yaml


@pytest.fixture(scope="module")
def published():
    return paper_yaml.load(ROOT / "paper.yaml")


def test_paper_yaml_has_every_row_of_tables_1_2_3_5_6_and_7_and_of_the_model_zoo(published):
    counts = Counter(row.table for row in published.rows.values())
    assert counts == {1: 5, 2: 6, 3: 14, 5: 24, 6: 4, 7: 6, "zoo": 10}


def test_a_key_of_paper_yaml_says_its_table_and_backbone(published):
    for key, row in published.rows.items():
        source, backbone = re.match(r"(table\d|zoo)_([a-z]+\d+)_", key).groups()
        assert source == ("zoo" if row.table == "zoo" else f"table{row.table}")
        assert row.backbone.lower().replace("-", "") == backbone


def test_flipping_doubles_the_published_multiply_adds(published):
    flipped = [key for key in published.rows if "-ms-flip" in key]  # some without their pair
    pairs = [(key, key.replace("-flip", "")) for key in flipped]
    doubled = [
        published.rows[flip].multiply_adds / published.rows[once].multiply_adds
        for flip, once in pairs
        if once in published.rows
    ]
    assert len(doubled) == 7
    assert doubled == pytest.approx([2] * 7, rel=0.001)


def test_a_misprint_is_corrected_by_what_the_decoder_adds_elsewhere(published):
    costs = {
        key: row.multiply_adds_corrected or row.multiply_adds for key, row in published.rows.items()
    }
    strategies = ("resnet101_os16-eval16", "resnet101_os16-eval8", "resnet101_os32-eval32")
    pairs = [f"table3_{strategy}" for strategy in strategies]
    pairs += ["table5_xception65_os16-eval16", "table5_xception65_os16-eval8"]
    added = [costs[f"{key}-decoder"] - costs[key] for key in pairs]
    assert added == pytest.approx([21.76, 21.74, 21.77, 21.76, 21.74])
    assert [key for key, row in published.rows.items() if row.multiply_adds_corrected] == [
        "table3_resnet101_os16-eval16-decoder",
        "table3_resnet101_os32-eval16-decoder",
    ]


def test_the_zoo_published_the_same_as_the_rows_of_the_tables_that_it_repeats(published):
    repeated = {
        "zoo_xception65_voc-trainaug-eval16-decoder-separable-coco": (
            "table5_xception65_os16-eval16-decoder-separable-coco"
        ),
        "zoo_xception65_voc-trainaug-eval8-decoder-separable-ms-flip-coco": (
            "table5_xception65_os16-eval8-decoder-separable-ms-flip-coco"
        ),
        "zoo_xception65_cityscapes-trainfine-eval16-decoder-separable-pooling": (
            "table7_xception65_os16-eval16-decoder-separable-pooling"
        ),
    }
    for zoo, in_table in repeated.items():
        counterpart(published, "rows.x", [in_table, zoo])


def test_the_decoder_gains_over_whole_images_what_the_tables_say(published):
    pair = published.figure5["ResNet-101"]
    assert pair.gain == 4.8
    assert published.rows[pair.decoder].miou - published.rows[pair.bilinear].miou == (
        pytest.approx(1.64)
    )


def test_an_unknown_published_row_is_refused_and_the_nearest_named(published):
    with pytest.raises(ValueError, match=r"rows\.x\.paper: .* 69 rows .*: table3_resnet101_os16-"):
        paper_yaml.find(published, "rows.x", "table3_resnet101_os16-eval16-deocder")


def test_all_rows_that_name_a_wrong_published_row_are_told_at_once():
    named = {"a": ["nothing"], "b": ["dec"], "c": ["dec", "bil"], "d": []}
    keys = {f"rows.{key}": paper_keys for key, paper_keys in named.items()}
    with pytest.raises(ValueError, match="is not one of") as error:
        paper_yaml.check(PAPER, keys)
    assert [line.split(":")[0] for line in str(error.value).splitlines()] == [
        "rows.a.paper",
        "rows.c.paper",
    ]


@pytest.mark.parametrize(
    ("keys", "source"),
    [
        (["dec"], "Table 3"),
        (["dec", "dec2"], "Tables 2 and 3"),
        (["dec", "zoo"], "Table 3 and model zoo"),
        (["zoo", "dec", "cost", "dec2"], "Tables 2, 3 and 5 and model zoo"),
        (["zoo"], "model zoo"),
    ],
)
def test_a_row_answers_one_result_under_all_its_keys(keys, source):
    found = counterpart(PAPER, "rows.x", keys)
    assert (found.keys, found.source, found.miou) == (tuple(keys), source, 78.85)


def test_a_row_without_published_counterpart_answers_none():
    assert counterpart(PAPER, "rows.x", []) is None


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (["dec", "bil"], r"'dec' published 78\.85 % of .*'bil' 77\.21 % of .*cannot answer both"),
        (["dec", "dec2", "dec"], r"rows\.x\.paper: 'dec' is named twice"),
        (["cost", "dec", "other cost"], r"cost 101\.28 and 102\.78 billion multiply-adds: one row"),
    ],
)
def test_published_rows_of_two_results_are_refused(keys, message):
    with pytest.raises(ValueError, match=message):
        counterpart(PAPER, "rows.x", keys)


def test_multiply_adds_come_from_whichever_published_row_has_them():
    assert counterpart(PAPER, "rows.x", ["dec", "cost"]).multiply_adds == 101.28


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (("rows", "a", "miou"), "78", r"rows\.a\.miou: .*number"),
        (("rows", "a", "mIoU"), 1.0, r"rows\.a\.mIoU: Extra inputs"),
        (("rows", "a", "dataset"), "ADE20K", r"rows\.a\.dataset: 'ADE20K' is not one of datasets"),
        (("rows", "a", "table"), "zoological", r"rows\.a\.table: Input should be 'zoo'"),
        (("rows", "a", "multiply_adds_corrected"), 1.0, r"rows\.a: .* no multiply_adds to correct"),
        (("claims", "c", "over"), "b", r"claims\.c: 'b' is not one of rows"),
        (("rows", "a", "table"), 4, r"rows\.a\.table: 4 is not one of tables"),
        (("figure5", "X", "bilinear"), "b", r"figure5\.X: 'b' is not one of rows"),
    ],
)
def test_a_mistake_in_paper_yaml_is_named(tmp_path, place, value, message):
    row = {"table": 3, "backbone": "X", "dataset": "V", "miou": 78.0}
    figure5 = {"X": {"decoder": "a", "bilinear": "a", "gain": 1.0}}
    claim = {"section": "4", "text": "A.", "row": "a", "over": "a", "expected": "gain"}
    document = {"datasets": {"V": 2}, "figure5": figure5, "rows": {"a": row}}
    document |= {"claims": {"c": claim}, "tables": {3: "Strategies"}}
    document[place[0]][place[1]][place[2]] = value
    (tmp_path / "paper.yaml").write_text(yaml.safe_dump(document))
    with pytest.raises(ValueError, match=message):
        paper_yaml.load(tmp_path / "paper.yaml")


# results


def test_metrics_files_are_read_back_as_written(tmp_path):
    (tmp_path / "scores.json").write_text(scores(absent_classes=["cat"]).model_dump_json())
    (tmp_path / "trimap.json").write_text(json.dumps([p.model_dump() for p in curve(0.25)]))
    found = read(
        "ours",
        "about ours",
        "val.arrow",
        counterpart(PAPER, "rows.ours", ["dec"]),
        tmp_path,
        trimap_band="square",
        multiply_adds=12.3,
        training=TRAINING,
    )
    assert found == result(paper_keys=["dec"], trimap=curve(0.25), absent_classes=["cat"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", r"scores\.json: not readable as JSON"),
        ("[]", r"scores\.json: "),
        ('{"miou": 78.85}', r"scores\.json: miou: .*less than or equal to 1"),
    ],
)
def test_a_metrics_file_that_is_none_is_refused(tmp_path, text, message):
    (tmp_path / "scores.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        read(
            "ours",
            "",
            "val.arrow",
            None,
            tmp_path,
            trimap_band="square",
            multiply_adds=None,
            training=None,
        )


# table


def test_the_table_is_in_percent():
    line = table.frame([result(miou=0.5, trimap=curve(0.25))], PAPER).iloc[0]
    assert (line["miou"], line["pixel_accuracy"], line["miou_trimap_1"]) == (50, 90, 25)


def test_no_difference_is_given_from_a_mean_over_other_images():
    frame = table.frame([result(paper_keys=["dec"], num_images=1448)], PAPER)
    assert frame["difference"].isna().all()
    assert frame["paper_miou"].tolist() == [78.85]
    assert "difference" not in table.cells(frame)[0]


def test_a_difference_is_given_from_a_mean_over_as_many_images():
    rows = [result(paper_keys=["dec"], num_images=1449, miou=0.7785), result("other", miou=0.1)]
    header, lines = table.cells(table.frame(rows, PAPER))
    differences = [line[header.index("difference")] for line in lines]
    assert differences == ["-1.00", "-"]


def test_a_trimap_that_no_row_has_is_no_column():
    header, _ = table.cells(table.frame([result(trimap=curve(0.1, 0.2, 0.3))], PAPER))
    assert [title for title in header if title.startswith("trimap")] == [
        "trimap 1 px",
        "trimap 3 px",
    ]


def test_the_text_table_is_aligned():
    text = table.as_text(table.frame([result("a", paper_keys=["dec"]), result("bcd")], PAPER))
    assert text.splitlines() == [
        "row   mIoU  95 % interval  pixel acc.  paper mIoU  paper's row",
        "---  -----  -------------  ----------  ----------  ---------------------------------",
        "a    50.00   0.0 to 100.0       90.00       78.85  ResNet-101, VOC 2012 val, Table 3",
        "bcd  50.00   0.0 to 100.0       90.00           -  -",
    ]


def test_all_published_rows_that_a_row_answers_are_named():
    frame = table.frame([result(paper_keys=["dec2", "dec"]), result("other")], PAPER)
    header, lines = table.cells(frame)
    assert [line[header.index("paper's row")] for line in lines] == [
        "ResNet-101, VOC 2012 val, Tables 2 and 3",
        "-",
    ]
    assert frame["paper_row"].fillna("").tolist() == ["dec2 dec", ""]


def test_the_paper_has_no_column_where_no_row_has_a_counterpart(tmp_path):
    text = table.as_text(table.frame([result("a")], PAPER))
    assert text.splitlines() == [
        "row   mIoU  95 % interval  pixel acc.",
        "---  -----  -------------  ----------",
        "a    50.00   0.0 to 100.0       90.00",
    ]
    for document in rendered([result("a")], tmp_path):
        assert "paper mIoU" not in document


def test_the_csv_reads_back(tmp_path):
    table.write(table.frame(pair(), PAPER), tmp_path)
    back = pd.read_csv(tmp_path / "table.csv")
    assert back["row"].tolist() == ["v3plus", "v3"]
    assert back["miou"].tolist() == [62, 60]


def test_a_table_without_rows_says_so():
    assert table.as_text(table.frame([], PAPER)) == "No rows were run.\n"


# boundaries


def test_the_gain_at_boundaries_is_of_the_two_rows_of_figure_5():
    [gain] = boundaries.find(pair(), PAPER)
    assert (gain.decoder.key, gain.bilinear.key) == ("v3plus", "v3")
    assert (gain.trimap_width, gain.max_trimap_width) == (1, 2)
    assert gain.within(1) == pytest.approx(10)
    assert gain.within(2) == pytest.approx(5)
    assert gain.whole() == pytest.approx(2)
    assert (gain.paper_gain, gain.paper_gain_whole) == (4.8, pytest.approx(1.64))


def test_rows_on_two_sets_are_no_pair():
    decoder, _ = pair()
    other = result("v3", paper_keys=["bil"], trimap=curve(0.4, 0.5), data="other.arrow")
    assert boundaries.find([decoder, other], PAPER) == []


def test_rows_of_two_kinds_of_trimap_are_no_pair_and_each_is_told():
    decoder, _ = pair()
    other = result("v3", paper_keys=["bil"], trimap=curve(0.4, 0.5), trimap_band="euclidean")
    assert boundaries.find([decoder, other], PAPER) == []
    [picture] = sections.build([decoder, other], PAPER, 0, evidence())[2].pictures
    assert "chessboard distance, as in the authors' evaluation scripts, which" in picture.caption
    assert "1 to 40 (v3plus); Euclidean distance, which is not the authors' def" in picture.caption
    [picture] = sections.build([other], PAPER, 0, evidence())[2].pictures
    assert "Distance here: Euclidean distance, which is not the authors' defin" in picture.caption
    assert "chessboard" not in picture.caption


def test_a_row_that_answers_several_published_rows_is_of_their_pair():
    _, bilinear = pair()
    several = result("v3plus", paper_keys=["dec2", "dec"], miou=0.62, trimap=curve(0.5, 0.6))
    [gain] = boundaries.find([several, bilinear], PAPER)
    assert gain.within(1) == pytest.approx(10)


def test_a_row_without_curve_is_no_pair():
    decoder, _ = pair()
    assert boundaries.find([decoder, result("v3", paper_keys=["bil"])], PAPER) == []


def test_a_width_that_a_curve_lacks_has_no_gain():
    [gain] = boundaries.find(pair(), PAPER)
    with pytest.raises(ValueError, match="no trimap of width 3 in v3plus"):
        gain.within(3)


@pytest.mark.parametrize(
    ("near_decoder", "verdict"),
    [(0.5, "The direction is the paper's"), (0.41, "not the paper's"), (0.3, "not the paper's")],
)
def test_the_verdict_follows_the_numbers(near_decoder, verdict):
    at_boundaries = sections.build(pair(near_decoder), PAPER, 0, evidence())[2]
    assert verdict in at_boundaries.paragraphs[0]


# what the paper claims


@pytest.mark.parametrize(
    ("bounds", "words"),
    [
        ((0.01, 0.03), "holds"),
        ((-0.01, 0.05), "direction only: not significant on this data"),
        ((-0.05, 0.01), "not seen: no gain on this data"),
        ((-0.03, -0.01), "does not hold: loses"),
    ],
)
def test_a_claimed_gain_holds_where_the_interval_is_above_zero(bounds, words):
    found = [compared("v3plus", "v3", sum(bounds) / 2, *bounds)]
    verdict, other = verdicts.find(pair(), found, PAPER)
    assert verdict.words == words
    assert verdict.paper_gain == pytest.approx(78.85 - 77.21)
    assert (other.words, other.gain) == ("not run", None)


@pytest.mark.parametrize(
    ("bounds", "words", "holds"),
    [
        ((0.01, 0.03), "does not hold: gains", False),
        ((-0.01, 0.05), "not contradicted: no significant gain, at most +5.00", False),
        ((-0.03, -0.01), "holds: loses", True),
    ],
)
def test_a_claim_of_no_gain_is_not_held_by_data_that_cannot_tell(bounds, words, holds):
    rows = [result("dear", paper_keys=["cost"]), result("v3", paper_keys=["bil"])]
    found = [compared("v3", "dear", -sum(bounds) / 2, -bounds[1], -bounds[0])]  # the other way
    verdict = verdicts.find(rows, found, PAPER)[1]
    assert (verdict.words, verdict.holds) == (words, holds)


def test_claims_are_folded_away_where_none_is_tested():
    untested = sections.build([result("mine")], PAPER, 0, evidence())[1]
    assert untested.is_folded
    assert untested.paragraphs[0].endswith("rows: no two of these rows test any of them.")
    tested = sections.build(pair(), PAPER, 0, evidence([compared("v3plus", "v3", 0.1, 0, 0.2)]))[1]
    assert not tested.is_folded
    assert "rows: put to the test here: 1, and" in tested.paragraphs[0]


def test_rows_that_were_not_scored_alike_have_no_gain():
    assert comparisons.gain([], "v3plus", "v3") is None
    assert not [v for v in verdicts.find(pair(), [], PAPER) if v.gain]


# figures


def test_charts_of_the_same_numbers_have_the_same_bytes(tmp_path):
    for name in ("a.png", "b.png"):
        figures.trimap_curves(pair(), tmp_path / f"trimap_{name}")
        figures.iou_per_class(pair(), tmp_path / f"iou_{name}")
        matplotlib.rcParams["lines.linewidth"] = 9.0  # a user's own style must not matter
    matplotlib.rcdefaults()
    for kind in ("trimap", "iou"):
        first, second = ((tmp_path / f"{kind}_{name}.png").read_bytes() for name in "ab")
        assert first == second


def test_a_chart_names_no_date_and_no_software(tmp_path):
    figures.trimap_curves(pair(), tmp_path / "trimap.png")
    with Image.open(tmp_path / "trimap.png") as image:
        assert set(image.info) <= {"dpi"}


def test_the_curves_of_a_whole_preset_are_told_apart(tmp_path, monkeypatch):
    looks = []
    plot = Axes.plot

    def watched(axes, *args, **look):
        looks.append((look["color"], look["linestyle"], look["linewidth"]))
        return plot(axes, *args, **look)

    monkeypatch.setattr(Axes, "plot", watched)
    figures.trimap_curves(
        [result(f"row{i}", trimap=curve(0.1, 0.2)) for i in range(56)], tmp_path / "trimap.png"
    )
    assert len(looks) == len(set(looks)) == 56


def test_iou_of_many_rows_is_a_map_with_a_number_for_each_row(tmp_path, monkeypatch):
    shown = []
    monkeypatch.setattr(Axes, "imshow", lambda axes, values, **look: shown.append(values))
    rows = [result(f"row{i}", iou_per_class={"cat": i / 100, "dog": 0.5}) for i in range(8)]
    figures.iou_per_class(rows, tmp_path / "bars.png")
    assert not shown
    rows.append(result("row8", iou_per_class={"cat": 0.08}, absent_classes=["dog"]))
    figures.iou_per_class(rows, tmp_path / "map.png")
    (values,) = shown
    assert values[0].tolist() == pytest.approx(range(9))
    assert values[1][:8].tolist() == [50.0] * 8
    assert np.isnan(values[1][8])


def test_without_curves_there_is_no_chart(tmp_path):
    figures.trimap_curves([result()], tmp_path / "trimap.png")
    figures.iou_per_class([], tmp_path / "iou.png")
    assert not list(tmp_path.iterdir())


def test_charts_take_odd_names_and_absent_classes(tmp_path):
    rows = [
        result("_first", iou_per_class={"$x": 0.5, "_y" * 30: 0.0}, trimap=curve(0.1)),
        result("long" * 40, iou_per_class={"z": 1.0}, absent_classes=["$x"], trimap=curve(0.2)),
    ]
    figures.trimap_curves(rows, tmp_path / "trimap.png")
    figures.iou_per_class(rows, tmp_path / "iou.png")
    assert figures.class_names(rows) == ["$x", "_y" * 30, "z"]


def test_misprints_and_notes_of_what_was_published_are_told(tmp_path):
    html, text = rendered(pair(), tmp_path)
    for told in ("a misprint of 102.78", "VOC 2012 val; of a replica"):
        assert told in html
        assert told in text


def test_stand_ins_are_told_from_the_papers_rows(tmp_path):
    compared_pair = [compared("v3plus", "v3", 0.1, 0, 0.2)]
    assert "stand in for its rows" in rendered(pair(), tmp_path, compared=compared_pair)[1]


# panels


@pytest.mark.parametrize(
    ("num_images", "num_panels", "chosen"),
    [(12, 3, [2, 6, 10]), (9, 1, [4]), (2, 6, [0, 1]), (5, 5, [0, 1, 2, 3, 4]), (5, 0, [])],
)
def test_panels_are_evenly_spaced(num_images, num_panels, chosen):
    assert splits.spread(num_images, num_panels) == chosen


def test_panels_show_all_images_of_a_split_with_fewer(tmp_path):
    split, predictions = small_split(tmp_path)
    found = panels.read(split, predictions, num_panels=6)
    assert [panel.image_id for panel in found] == ["image_0", "image_1"]
    assert found[0].image.shape == (4, 6, 3)


def test_panels_are_drawn_in_the_colours_of_the_classes(tmp_path):
    split, predictions = small_split(tmp_path)
    panels.draw(panels.read(split, predictions, 1), split.classes, tmp_path / "panels" / "a.png")
    with Image.open(tmp_path / "panels" / "a.png") as image:
        colours = {colour[:3] for _, colour in image.getcolors(maxcolors=1 << 16)}
    assert {(0, 0, 0), (255, 0, 0), (224, 224, 192)} <= colours


def test_no_panels_make_no_file(tmp_path):
    panels.draw([], CLASSES, tmp_path / "a.png")
    assert not list(tmp_path.iterdir())


def test_a_prediction_that_is_no_label_map_is_named(tmp_path):
    split, predictions = small_split(tmp_path)
    (predictions / "image_0.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"image_0\.png: label map is not an image"):
        panels.read(split, predictions, 2)


def test_a_prediction_of_another_size_is_named(tmp_path):
    split, predictions = small_split(tmp_path)
    Image.new("L", (5, 4)).save(predictions / "image_0.png")
    with pytest.raises(ValueError, match=r"image_0\.png: prediction has shape \(4, 5\)"):
        panels.read(split, predictions, 2)


def test_a_confusion_matrix_keeps_classes_whose_names_look_like_something_else(tmp_path):
    names = ["0", "None", "1.50"]
    square = pd.DataFrame({"label": names, "prediction": names, "pixels": [1, 2, 3]})
    square.to_csv(tmp_path / "confusion.csv", index=False)
    found = read_confusion(tmp_path / "confusion.csv")
    assert found.to_dict("list") == {"label": names, "prediction": names, "pixels": [1, 2, 3]}


# the page and its Markdown


def rendered(rows, tmp_path, num_panels=0, title="Title", note="Note.", compared=(), submitted=()):
    for row in rows:
        table_of = pd.DataFrame({"label": ["a"], "prediction": ["a"], "pixels": [1]})
        picture = tmp_path / sections.confusion_picture(row.key)
        figures.confusion_matrix(table_of, ["a"], picture)
    figures.trimap_curves(rows, tmp_path / boundaries.TRIMAP_PICTURE)
    figures.iou_per_class(rows, tmp_path / sections.IOU_PICTURE)
    contents = sections.build(rows, PAPER, num_panels, evidence(compared, submitted))
    return page.render(title, note, contents, tmp_path), markdown.render(title, note, contents)


def test_the_page_needs_no_other_file(tmp_path):
    html, _ = rendered(pair(), tmp_path)
    assert (
        re.findall(r"""(?:src|srcset|url|@import)\s*[=(]\s*["']?(.{15})""", html)
        == [
            "data:image/png;",
        ]
        * 4
    )  # curves, bars, two confusion matrices
    assert "<link" not in html
    assert "<script" not in html


def test_published_rows_that_were_not_run_stand_back(tmp_path):
    html, text = rendered(pair(), tmp_path)
    section = html[html.index("<h2>Table 3: Strategies") :]
    assert section.index("v3plus") < section.index("</section>")
    assert "<h2>Tables not run here</h2>" in html
    assert '<tr class="muted"><th scope="row">other cost' in html
    assert "| *other cost<br>VOC 2012 val* |" in text


def test_a_table_has_ours_beside_the_papers_and_what_it_costs(tmp_path):
    rows = [result("ours", paper_keys=["cost"], miou=0.7785, num_images=1449)]
    _, text = rendered(rows, tmp_path)
    line = next(line for line in text.splitlines() if line.startswith("| cost<br>"))
    costs = ["101.28<br>a misprint of 102.78", "12.30", "1.50"]
    assert line.split(" | ")[1:-1] == ["78.85", "77.85", "0.0 to 100.0", "-1.00", *costs]


def test_a_submission_awaits_its_server_or_has_what_it_said(tmp_path):
    dec = counterpart(PAPER, "submissions.sent", ["dec"])
    asked = Submitted("sent", "about it", dec, None, TRAINING)
    answered = Submitted("scored", "about it", dec, 79.35, None)
    _, text = rendered([result()], tmp_path, submitted=[asked, answered])
    first, second = (line for line in text.splitlines() if line.startswith("| dec<br>"))
    shown = ["78.85", "-", "-", "-", "1.50", "sent<br>awaits the server |"]
    assert first.split(" | ")[1:] == shown
    assert second.split(" | ")[1:] == ["78.85", "79.35", "-", "+0.50", "-", "scored |"]
    assert "| sent<br>about it | submissions/sent/ | - | 78.85 |" in text
    assert "| scored<br>about it | submissions/scored/ | 79.35 | 78.85 |" in text


def test_without_submissions_the_servers_are_not_spoken_of(tmp_path):
    for document in rendered(pair(), tmp_path):
        assert "For the test servers" not in document


def test_hours_are_those_of_all_trainings_that_a_network_comes_from(tmp_path):
    models = {
        "first": {"start": "archives/weights"},
        "second": {"start": "checkpoints/first.safetensors"},
    }
    for key, seconds in (("first", 1800.0), ("second", 5400.0)):
        pace = TRAINING.last.model_dump() | {"seconds": seconds}
        (tmp_path / f"{key}.pace.json").write_text(json.dumps(pace))
    assert read_training_cost("first", models, tmp_path).hours == 0.5
    cost = read_training_cost("second", models, tmp_path)
    assert (cost.hours, cost.last.seconds) == (2.0, 5400.0)
    assert read_training_cost("imported", models, tmp_path) is None


def test_a_pace_that_is_none_is_refused(tmp_path):
    (tmp_path / "a.pace.json").write_text('{"seconds": 0}')
    with pytest.raises(ValueError, match=r"a\.pace\.json: seconds: .*greater than 0"):
        read_training_cost("a", {"a": {"start": "archives/weights"}}, tmp_path)


def test_the_page_says_where_its_numbers_come_from(tmp_path):
    for document in rendered(pair(), tmp_path):
        assert f"git commit {'f' * 40}, with uncommitted changes" in document
        assert "ab" * 16 in document
        assert "1.50 h, 8.0 images/s" in document
        assert "2 x NVIDIA H100, torch 2.11.0" in document


def test_pairs_are_told_apart_or_not(tmp_path):
    pairs = [compared("v3plus", "v3", 0.02, 0.01, 0.03), compared("v3", "other", 0.01, -0.01, 0.03)]
    for document in rendered(pair(), tmp_path, compared=pairs):
        told = document[document.index("Rows compared in pairs") :]
        assert told.index("+2.00 (+1.00 to +3.00)") < told.index("+1.00 (-1.00 to +3.00)")
        assert "not told apart by this data" in told


def test_names_are_escaped(tmp_path):
    absent = ["<img src=x onerror=alert(1)>"]
    html, text = rendered([result(absent_classes=absent)], tmp_path, title="A & <b>", note='"<i>"')
    assert "<img src=x" not in html + text
    assert "<h1>A &amp; &lt;b&gt;</h1>" in html
    assert "<i>" not in html + text


def test_the_note_stands_above_the_numbers(tmp_path):
    for document in rendered(pair(), tmp_path, note="Not the paper's."):
        text = document.replace("&#x27;", "'")
        assert text.index("Not the paper's.") < text.index("78.85")


def test_the_page_says_why_there_is_no_difference(tmp_path):
    for document in rendered(pair(), tmp_path):
        assert "is over the 1,449 images of VOC 2012 val" in document
        assert "2 images were scored, so no difference from it is given" in document


def test_the_page_says_when_the_published_number_is_the_model_zoos(tmp_path):
    for document in rendered([result(paper_keys=["zoo"])], tmp_path):
        assert "The model zoo's mIoU is over" in document.replace("&#x27;", "'")


def test_the_page_says_what_a_difference_is_from(tmp_path):
    for document in rendered([result(paper_keys=["dec"], num_images=1449)], tmp_path):
        assert "over the 1,449 images of VOC 2012 val, as many as were scored here" in document
        assert "-28.85" in document


def test_the_page_says_that_nothing_was_run(tmp_path):
    for document in rendered([], tmp_path):
        assert "No rows were run" in document
        assert ".png" not in document


def test_the_page_says_that_there_is_no_void(tmp_path):
    for document in rendered([result()], tmp_path):
        assert "No label of these sets has void pixels" in document


def test_absent_classes_are_named(tmp_path):
    for document in rendered([result(absent_classes=["cow", "sofa"])], tmp_path):
        assert "prediction of ours, hence without IoU and not in the mean: cow, sofa." in document


def test_warnings_stand_above_all_numbers(tmp_path):
    rows = [result("a", warnings=["Never predicted: <cat>."]), result("b")]
    html, text = rendered(rows, tmp_path)
    assert (
        '<section class="warning" id="part-1">\n<h2>Warnings</h2>\n<p>a: Never predicted: &lt;cat'
        in html
    )
    for document in (html, text):
        assert document.index("Warnings") < document.index("Results")
        assert "b: Never" not in document


def test_without_warnings_there_is_no_such_section(tmp_path):
    for document in rendered(pair(), tmp_path):
        assert "Warnings" not in document


def test_markdown_links_only_to_pictures_that_exist(tmp_path):
    rows = [result("no_void")]
    (tmp_path / "panels").mkdir()
    (tmp_path / "panels" / "no_void.png").write_bytes(b"")
    _, text = rendered(rows, tmp_path, num_panels=1)
    links = re.findall(r"!\[[^]]*\]\(([^)]*)\)", text)
    assert links == ["panels/no_void.png", "iou_per_class.png", "confusion/no_void.png"]
    assert all((tmp_path / link).exists() for link in links)


def test_a_table_cell_cannot_end_its_markdown_line(tmp_path):
    _, text = rendered([result("a|b")], tmp_path)
    assert "| a\\|b<br>about a\\|b | 50.00 |" in text
