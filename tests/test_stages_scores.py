import hashlib
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import stores
import yaml
from PIL import Image

from pipeline import label_map, splits, voc
from pipeline.evaluation import tally
from stages import compare, evaluate, report

ROOT = Path(__file__).parents[1]
VOID = voc.CLASSES.ignore_index
CAT, DOG = 8, 12

# Two labels: void column between background and class, and no void at all.
LABELS = {
    "one": [[0, 0, VOID, CAT, CAT], [0, 0, VOID, CAT, CAT]],
    "two": [[0, 0, 0, DOG, DOG]],
}
PREDICTIONS = {
    "one": [[0, CAT, 0, CAT, CAT], [0, 0, 0, CAT, 0]],
    "two": [[0, 0, 0, DOG, 0]],
}
EVALUATION = {
    "trimap_band": "square",
    "max_trimap_width": 3,
    "resamples": 100,
    "resampling_seed": 0,
    "worst_images": 5,
    "warn_predicted_share": 0.95,
    "warn_label_share": 0.8,
}


def encoded(values):
    return label_map.encode(np.array(values, np.uint8), voc.CLASSES)


def write_split(path, labels):
    samples = []
    for image_id, values in labels.items():
        image = label_map.encode(np.zeros_like(values, np.uint8), voc.CLASSES)
        samples.append(splits.checked_sample(image_id, image, encoded(values), voc.CLASSES, "made"))
    splits.write(path, samples, voc.CLASSES)


def write_predictions(folder, predictions):
    folder.mkdir(parents=True, exist_ok=True)
    for image_id, values in predictions.items():
        (folder / f"{image_id}.png").write_bytes(encoded(values))


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project folder whose row `a` has two labelled images and their predictions."""
    monkeypatch.chdir(tmp_path)
    document = yaml.safe_load((ROOT / "params.yaml").read_text())
    row = next(iter(document["rows"].values()))
    row["evaluation"] = EVALUATION
    row["data"] = "data/voc/val.arrow"
    row["paper"] = ["table3_resnet101_os16-eval16-decoder"]
    document["rows"] = {"a": row}
    Path("params.yaml").write_text(yaml.safe_dump(document))
    write_split(Path("data/voc/val.arrow"), LABELS)
    write_predictions(Path("predictions/a"), PREDICTIONS)
    Path("history").mkdir()
    for key in document["models"]:
        Path("history", f"{key}.pace.json").write_text(json.dumps(stores.pace()))
    return document


def set_rows(document, rows):
    document["rows"] = rows
    Path("params.yaml").write_text(yaml.safe_dump(document))


def run_evaluate(key="a"):
    evaluate.main(
        key,
        Path("params.yaml"),
        Path("data/voc/val.arrow"),
        Path("predictions", key),
        Path("metrics", key, "scores.json"),
        Path("metrics", key, "trimap.json"),
        Path("metrics", key, "worst_images.json"),
        Path("counts", f"{key}.arrow"),
        Path("counts", f"{key}.confusion.csv"),
    )


def run_report():
    params_file = Path("params.yaml")
    compare.main(params_file, Path("counts"), Path("metrics/comparisons.json"))
    rows = yaml.safe_load(params_file.read_text())["rows"]
    costs = {key: {"authors_multiply_adds": 1.5e9} for key in rows}
    Path("metrics/multiply_adds.json").write_text(json.dumps(costs))
    for row in rows.values():
        checkpoint = Path("checkpoints", f"{row['model']}.safetensors")
        checkpoint.parent.mkdir(exist_ok=True)
        checkpoint.write_text(row["model"])
    report_alone()


def report_alone():
    report.main(
        Path("params.yaml"),
        ROOT / "paper.yaml",
        Path("data"),
        Path("checkpoints"),
        Path("history"),
        Path("counts"),
        Path("metrics"),
        Path("predictions"),
        Path("report"),
    )


def read_json(path):
    return json.loads(Path(path).read_text())


# evaluate


def test_evaluate_writes_the_scores_that_were_counted_by_hand(project):
    run_evaluate()
    # Background: 6 of 7 hit, and 2 others taken for it; cat: 3 of 4, 1 other; dog: 1 of 2.
    iou = {"background": 6 / 9, "cat": 3 / 5, "dog": 1 / 2}
    scores = read_json("metrics/a/scores.json")
    assert scores["iou_per_class"] == iou
    assert scores["miou"] == pytest.approx(sum(iou.values()) / 3)
    assert scores["pixel_accuracy"] == 10 / 13
    assert scores["mean_class_accuracy"] == pytest.approx((6 / 7 + 3 / 4 + 1 / 2) / 3)
    assert scores["num_images"] == 2


def test_evaluate_lists_the_worst_image_first(project):
    run_evaluate()
    # Of "one": background 3 of 4 and 1 other, cat 3 of 4 and 1 other; of "two": 3 of 3 and 1 other,
    # dog 1 of 2.
    one = {"background": 3 / 5, "cat": 3 / 5}
    two = {"background": 3 / 4, "dog": 1 / 2}
    assert read_json("metrics/a/worst_images.json") == [
        {"image_id": "one", "miou": 3 / 5, "iou_per_class": one},
        {"image_id": "two", "miou": 5 / 8, "iou_per_class": two},
    ]
    set_rows(
        project, {"a": project["rows"]["a"] | {"evaluation": EVALUATION | {"worst_images": 1}}}
    )
    run_evaluate()
    assert [worst["image_id"] for worst in read_json("metrics/a/worst_images.json")] == ["one"]


def test_evaluate_bounds_miou_and_keeps_what_the_bounds_were_computed_from(project):
    run_evaluate()
    first = {path: path.read_bytes() for path in Path().glob("*/**/*.*")}
    scores, counts = read_json("metrics/a/scores.json"), tally.read(Path("counts/a.arrow"))
    # Two images can be drawn as twice the one, twice the other, or both.
    assert scores["miou_low"] == pytest.approx(min(3 / 5, 5 / 8, scores["miou"]))
    assert scores["miou_high"] == pytest.approx(max(3 / 5, 5 / 8, scores["miou"]))
    assert counts.image_ids == ["one", "two"]
    run_evaluate()
    assert {path: path.read_bytes() for path in Path().glob("*/**/*.*")} == first


def test_evaluate_names_the_classes_that_do_not_occur(project):
    run_evaluate()
    scores = read_json("metrics/a/scores.json")
    assert len(scores["absent_classes"]) == 18
    assert set(scores["absent_classes"]).isdisjoint(scores["iou_per_class"])


def test_evaluate_warns_of_nothing_where_all_classes_are_predicted(project, capsys):
    run_evaluate()
    assert read_json("metrics/a/scores.json")["warnings"] == []
    assert "warning" not in capsys.readouterr().err


def test_evaluate_warns_of_a_network_that_predicts_one_class(project, capsys):
    write_predictions(Path("predictions/a"), {"one": [[0] * 5] * 2, "two": [[0] * 5]})
    run_evaluate()
    # 13 pixels are scored: 7 of background, 4 of cat, 2 of dog.
    expected = [
        "background is predicted for 100 % of the pixels, but has 53.8 % of the label.",
        "Never predicted: cat (30.8 % of the label), dog (15.4 % of the label).",
    ]
    assert read_json("metrics/a/scores.json")["warnings"] == expected
    said = [line for line in capsys.readouterr().err.splitlines() if "warning" in line]
    assert said == [f"a: warning: {warning}" for warning in expected]
    run_report()
    assert expected[0] in Path("report/index.html").read_text()


@pytest.mark.parametrize(
    ("predicted", "labelled", "num_warnings"), [(1.0, 0.53, 0), (0.9, 0.54, 1)]
)
def test_limits_of_the_warning_are_params(project, predicted, labelled, num_warnings):
    limits = {"warn_predicted_share": predicted, "warn_label_share": labelled}
    row = project["rows"]["a"]
    set_rows(project, {"a": row | {"evaluation": EVALUATION | limits}})
    one_for_all = {"one": [[0] * 5] * 2, "two": [[0, 0, 0, 0, 0]]}
    write_predictions(Path("predictions/a"), one_for_all)
    run_evaluate()
    found = read_json("metrics/a/scores.json")["warnings"]
    assert len([warning for warning in found if "is predicted for" in warning]) == num_warnings


def test_evaluate_writes_the_trimap_curve_of_the_image_with_void(project):
    run_evaluate()
    # Width 1: background 1 of 2, taken for cat; cat 2 of 2.
    near = {"trimap_width": 1, "miou": (1 / 2 + 2 / 3) / 2, "pixel_accuracy": 3 / 4}
    # Width 2 on: all 8 pixels; background 3 of 4 and 1 other, cat 3 of 4 and 1 other.
    far = {"miou": 3 / 5, "pixel_accuracy": 6 / 8}
    curve = read_json("metrics/a/trimap.json")
    for point in curve:
        assert 0 <= point.pop("miou_low") <= point["miou"] <= point.pop("miou_high") <= 1
    assert curve == [near, {"trimap_width": 2, **far}, {"trimap_width": 3, **far}]


def test_evaluate_of_a_set_without_void_writes_an_empty_curve(project):
    write_split(Path("data/voc/val.arrow"), {"two": LABELS["two"]})
    Path("predictions/a/one.png").unlink()
    run_evaluate()
    assert read_json("metrics/a/trimap.json") == []
    assert read_json("metrics/a/scores.json")["num_images"] == 1


def test_evaluate_of_labels_that_are_all_void_is_an_error(project):
    write_split(Path("data/voc/val.arrow"), {"two": [[VOID] * 5]})
    Path("predictions/a/one.png").unlink()
    with pytest.raises(ValueError, match="no pixel to score"):
        run_evaluate()


def remove():
    Path("predictions/a/two.png").unlink()


def add():
    Path("predictions/a/three.png").write_bytes(encoded([[0]]))


def resize():
    Path("predictions/a/two.png").write_bytes(encoded([[0, 0, 0, 0]]))


def leave_the_classes():
    Path("predictions/a/two.png").write_bytes(encoded([[0, 0, 21, 0, 0]]))


def predict_void():
    Path("predictions/a/two.png").write_bytes(encoded([[0, 0, VOID, 0, 0]]))


def paint():
    Image.new("RGB", (5, 1)).save("predictions/a/two.png")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (remove, r"a/two\.png: no such prediction; 1 of the split's 2 images have none"),
        (add, r"a/three\.png: predicts no image of the split; 1 such files beside the 2 that do"),
        (resize, r"a/two\.png: prediction is 1x4 pixels \(height x width\), its label 1x5"),
        (leave_the_classes, r"a/two\.png: prediction has value 21, which is not a class \(0\.\.20"),
        (predict_void, r"a/two\.png: prediction has value 255, which is not a class \(0\.\.20\)"),
        (paint, r"a/two\.png: label map has mode RGB, not 8-bit palette or grey"),
    ],
)
def test_evaluate_names_a_bad_prediction_and_writes_nothing(project, spoil, message):
    spoil()
    with pytest.raises(ValueError, match=message) as caught:
        run_evaluate()
    assert "\n" not in str(caught.value)
    assert not Path("metrics").exists()


def test_evaluate_names_a_row_that_is_not_there(project):
    with pytest.raises(ValueError, match=r"params\.yaml: rows\.b\.evaluation is missing"):
        run_evaluate("b")


def test_the_confusion_matrix_is_there_for_pandas(project):
    run_evaluate()
    table = pd.read_csv("counts/a.confusion.csv").set_index(["label", "prediction"])["pixels"]
    # Void is not counted: 4 of 6 pixels are found and 2 are not, of the first; 3 + 1 and 1.
    assert table.to_dict() == {
        ("background", "background"): 6,
        ("background", "cat"): 1,
        ("cat", "background"): 1,
        ("cat", "cat"): 3,
        ("dog", "background"): 1,
        ("dog", "dog"): 1,
    }


# compare


def test_rows_of_one_set_are_compared_and_others_are_not(project):
    row = project["rows"]["a"]
    euclidean = row | {"evaluation": EVALUATION | {"trimap_band": "euclidean"}}
    # What has no part in mIoU and its draws may differ, and keys come in any order.
    alike = row | {"evaluation": dict(reversed(EVALUATION.items())) | {"worst_images": 1}}
    set_rows(project, {"a": row, "b": alike, "c": euclidean})
    for key in ("a", "b", "c"):
        predictions = PREDICTIONS if key == "a" else LABELS
        write_predictions(Path("predictions", key), without_void(predictions))
        run_evaluate(key)
    compare.main(Path("params.yaml"), Path("counts"), Path("comparisons.json"))
    (found,) = read_json("comparisons.json")
    assert (found["row"], found["over"]) == ("a", "b")
    # b is right everywhere; a has (6/9 + 3/5 + 1/2) / 3.
    assert found["miou"] == pytest.approx((6 / 9 + 3 / 5 + 1 / 2) / 3 - 1)
    assert found["low"] <= found["miou"] <= found["high"] < 0
    assert found["trimap_low"] <= found["trimap_miou"] <= found["trimap_high"]


def without_void(planes):
    return {
        image_id: [[0 if value == VOID else value for value in line] for line in lines]
        for image_id, lines in planes.items()
    }


def test_a_row_alone_has_nothing_to_be_compared_with(project):
    run_evaluate()
    compare.main(Path("params.yaml"), Path("counts"), Path("comparisons.json"))
    assert read_json("comparisons.json") == []


# report


def test_the_page_tells_what_a_submission_was_made_of(project):
    row = project["rows"]["a"]
    entry = {name: row[name] for name in ("desc", "model", "paper", "inference")}
    asked = entry | {"data": "data/voc/test.arrow", "server_miou": None}
    project["submissions"] = {"a": asked}
    set_rows(project, {"a": row})
    write_split(Path("data/voc/test.arrow"), {"other": LABELS["one"]})
    run_evaluate()
    run_report()
    md5 = hashlib.md5(Path("data/voc/test.arrow").read_bytes()).hexdigest()
    (line,) = [line for line in _page().splitlines() if line.startswith("| submission a | ")]
    assert md5 in line
    project["submissions"] = {"a": asked | {"server_miou": 80.0}}
    set_rows(project, {"a": row})
    run_report()
    assert line in _page()  # the server's answer is not of what it was made


def _page():
    return Path("report/report.md").read_text()


def test_report_writes_the_page_and_what_it_is_made_of(project):
    run_evaluate()
    run_report()
    written = {p.relative_to("report").as_posix() for p in Path("report").rglob("*.*")}
    pictures = {f"{name}/a.png" for name in ("panels", "worst", "confusion")}
    pictures |= {"trimap.png", "iou_per_class.png"}
    assert written == {"index.html", "report.md", "table.csv", "table.txt", *pictures}
    assert "58.89" in Path("report/table.txt").read_text()  # (6/9 + 3/5 + 1/2) / 3


def test_report_twice_is_the_same_to_the_byte(project):
    run_evaluate()
    run_report()
    first = {p: p.read_bytes() for p in Path("report").rglob("*.*")}
    run_report()
    assert {p: p.read_bytes() for p in Path("report").rglob("*.*")} == first


def test_report_reads_only_the_rows_of_params_yaml(project):
    run_evaluate()
    Path("metrics/removed").mkdir()
    Path("metrics/removed/scores.json").write_text("not JSON")
    run_report()
    assert "removed" not in Path("report/index.html").read_text()


def test_report_without_rows_says_that_nothing_was_run(project):
    set_rows(project, {})
    run_report()
    assert "No rows were run" in Path("report/index.html").read_text()


def test_report_without_void_has_no_curve(project):
    write_split(Path("data/voc/val.arrow"), {"two": LABELS["two"]})
    Path("predictions/a/one.png").unlink()
    run_evaluate()
    run_report()
    assert not Path("report/trimap.png").exists()


def test_report_of_an_unknown_published_row_leaves_the_old_report(project):
    run_evaluate()
    run_report()
    set_rows(project, {"a": project["rows"]["a"] | {"paper": ["table9"]}})
    with pytest.raises(ValueError, match=r"rows\.a\.paper: 'table9' is not one of the 69 rows"):
        run_report()
    assert Path("report/index.html").exists()


def test_report_of_a_row_that_was_not_scored_is_an_error(project):
    Path("metrics").mkdir()
    Path("metrics/multiply_adds.json").write_text("{}")
    with pytest.raises(FileNotFoundError, match=r"metrics/a/scores\.json"):
        report_alone()
    assert not Path("report").exists()
