"""TensorFlow checkpoints as files: archives that are hostile or damaged, and real ones.

What needs TensorFlow is skipped where it is not installed; `make setup-tensorflow` installs it.
"""

import importlib.util
import io
import json
import os
import re
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
import yaml
import zoo
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from pipeline.importing import __main__ as importing
from pipeline.importing import convert, networks, tensorflow_file
from pipeline.model import checkpoints
from stages import import_checkpoint

ROOT = Path(__file__).parent.parent
INDEX, DATA = ".index", ".data-00000-of-00001"

needs_tensorflow = pytest.mark.skipif(
    importlib.util.find_spec("tensorflow") is None,
    reason="TensorFlow is not installed: make setup-tensorflow",
)


def member(name, content=b"", **attributes):
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for attribute, value in attributes.items():
        setattr(info, attribute, value)
    return info, io.BytesIO(content)


def pack(path, *members, mode="w:gz"):
    with tarfile.open(path, mode) as tar:
        for info, content in members:
            tar.addfile(info, content)
    return path


def zoo_members(folder="deeplabv3_pascal_train_aug", name="model.ckpt", index=b"i", data=b"d"):
    return [
        member(folder, type=tarfile.DIRTYPE),
        member(f"{folder}/frozen_inference_graph.pb", b"graph"),
        member(f"{folder}/{name}{DATA}", data),
        member(f"{folder}/{name}{INDEX}", index),
    ]


@pytest.fixture
def folder(tmp_path):
    """To extract to, in a folder of its own so that what leads out of it would be seen."""
    (tmp_path / "outside" / "inside").mkdir(parents=True)
    return tmp_path / "outside" / "inside"


def content_of(prefix):
    return [prefix.with_name(prefix.name + kind).read_bytes() for kind in (INDEX, DATA)]


# Archives


@pytest.mark.parametrize("mode", ["w", "w:gz"])
@pytest.mark.parametrize("name", ["model.ckpt", "model.ckpt-30000"])
def test_a_checkpoint_is_taken_out_of_an_archive_and_nothing_else(tmp_path, folder, mode, name):
    archive = pack(tmp_path / "a.tar", *zoo_members(name=name), mode=mode)
    prefix = tensorflow_file.extract(archive, folder)
    assert content_of(prefix) == [b"i", b"d"]
    assert len(list(folder.iterdir())) == 2


@pytest.mark.parametrize("name", ["../../evil", "/tmp/evil", "a/../../../evil"])
def test_names_that_lead_out_of_the_folder_are_refused(tmp_path, folder, name):
    members = [member(f"{name}{INDEX}", b"i"), member(f"{name}{DATA}", b"d")]
    with pytest.raises(ValueError, match="leads out of the archive"):
        tensorflow_file.extract(pack(tmp_path / "a.tar.gz", *members), folder)
    assert list(folder.iterdir()) == []
    assert not list(tmp_path.rglob("*evil*"))
    assert not list(Path("/tmp").glob("evil*"))


def test_links_are_no_checkpoint(tmp_path, folder):
    secret = tmp_path / "secret"
    secret.write_bytes(b"secret")
    kinds = [tarfile.SYMTYPE, tarfile.LNKTYPE]
    members = [
        member(f"m/model.ckpt{end}", type=kind, linkname=str(secret))
        for end, kind in zip((INDEX, DATA), kinds, strict=True)
    ]
    with pytest.raises(ValueError, match=r"a\.tar\.gz: holds no TensorFlow checkpoint"):
        tensorflow_file.extract(pack(tmp_path / "a.tar.gz", *members), folder)
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    "members",
    [
        [],
        zoo_members()[:2],
        zoo_members()[:3],
        [member(f"a/model.ckpt{INDEX}"), member(f"b/model.ckpt{DATA}")],
        [member(f"a/model.ckpt{INDEX}"), member("a/model.ckpt.data-00000-of-00002")],
    ],
)
def test_an_archive_without_a_whole_checkpoint_is_refused(tmp_path, folder, members):
    message = (
        r"a\.tar\.gz: holds no TensorFlow checkpoint, which would be NAME\.index and "
        r"NAME\.data-00000-of-00001$"
    )
    with pytest.raises(ValueError, match=message):
        tensorflow_file.extract(pack(tmp_path / "a.tar.gz", *members), folder)


def test_an_archive_of_two_checkpoints_is_refused(tmp_path, folder):
    members = zoo_members(name="model.ckpt-1")[2:] + zoo_members(name="model.ckpt-2")[2:]
    archive = pack(tmp_path / "a.tar.gz", *members)
    message = r"holds 2 checkpoints \(.*/model\.ckpt-1, .*/model\.ckpt-2\); unpack it and name one$"
    with pytest.raises(ValueError, match=message):
        tensorflow_file.extract(archive, folder)


@pytest.mark.parametrize(
    "content", [b"", b"x", b"PK\x03\x04...", b"<html>not found</html>", b"\x1f\x8b", b"\xff" * 9000]
)
def test_a_file_that_is_no_archive_is_named(tmp_path, folder, content):
    (tmp_path / "a.tar.gz").write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.tar\.gz: ") as raised:
        tensorflow_file.extract(tmp_path / "a.tar.gz", folder)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
def test_an_archive_that_was_cut_short_is_named(tmp_path, folder, share):
    noise = np.random.default_rng(0).bytes(100_000)
    archive = pack(tmp_path / "a.tar.gz", *zoo_members(data=noise))
    whole = archive.read_bytes()
    archive.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(ValueError, match=r"a\.tar\.gz: not a tar archive, or a damaged one: "):
        tensorflow_file.extract(archive, folder)


def test_a_missing_archive_is_named(tmp_path, folder):
    with pytest.raises(FileNotFoundError, match=r"none\.tar\.gz"):
        tensorflow_file.extract(tmp_path / "none.tar.gz", folder)


# Without TensorFlow


def test_without_tensorflow_one_line_says_how_to_install_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow", None)  # Python's own way to forbid an import
    message = r"cannot be imported \(.*tensorflow.*\): `make setup-tensorflow` installs it$"
    with pytest.raises(ValueError, match=message):
        tensorflow_file.read(pack(tmp_path / "a.tar.gz", *zoo_members()))


def test_tensorflow_is_imported_only_when_a_checkpoint_is_read():
    for path in (*ROOT.glob("pipeline/**/*.py"), *ROOT.glob("stages/*.py")):
        imported = re.findall(r"^\s*(?:import|from) (?:tensorflow|keras)\b", path.read_text(), re.M)
        assert not imported, path
    source = Path(tensorflow_file.__file__).read_text()
    assert source.count('import_module("tensorflow")') == 1


# With TensorFlow


def write_checkpoint(prefix, variables):
    """As TensorFlow 1's Saver writes it."""
    import tensorflow

    prefix.parent.mkdir(parents=True, exist_ok=True)
    tensorflow.raw_ops.SaveV2(
        prefix=str(prefix),
        tensor_names=list(variables),
        shape_and_slices=[""] * len(variables),
        tensors=[tensorflow.constant(array) for array in variables.values()],
    )


@pytest.fixture(scope="module")
def model():
    """A training checkpoint of the smallest network of the zoo."""
    head = {"branches": 0, "low_level": ()}
    return zoo.with_slots(zoo.with_head(zoo.mobilenet(), 320, **head))


@pytest.fixture(scope="module")
def written(model, tmp_path_factory):
    """The prefix of that checkpoint, as TensorFlow wrote it."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    prefix = tmp_path_factory.mktemp("written") / "train" / "model.ckpt-30000"
    write_checkpoint(prefix, model)
    return prefix


@pytest.fixture(scope="module")
def packed(written, tmp_path_factory):
    """The same as an archive of the zoo."""
    path = tmp_path_factory.mktemp("packed") / "deeplabv3_mnv2_pascal_train_aug.tar.gz"
    index, data = content_of(written)
    return pack(path, *zoo_members(index=index, data=data))


def write_params(folder, archive, **changes):
    variables = tensorflow_file.read(archive)
    network = networks.infer(archive, convert.shapes_of(variables)).network
    entry = {"desc": "", "network": network.model_dump(), "classes": "voc"} | changes
    path = folder / "params.yaml"
    path.write_text(yaml.safe_dump({"imports": {"zoo": entry}}))
    return path


@needs_tensorflow
def test_tensorflow_gives_back_what_it_wrote(model, written, packed):
    index = written.with_name(written.name + INDEX)
    for path in (written, index, packed):
        variables = tensorflow_file.read(path)
        assert variables.keys() == model.keys()
        for name, array in variables.items():
            assert array.dtype == model[name].dtype
            assert np.array_equal(array, model[name]), name


@needs_tensorflow
def test_the_stage_turns_an_archive_into_a_checkpoint(model, packed, tmp_path):
    params = write_params(tmp_path, packed)
    out = tmp_path / "checkpoints" / "zoo.safetensors"
    history = tmp_path / "history" / "zoo.jsonl"
    import_checkpoint.main("zoo", params, packed, out, history)
    assert json.loads(history.read_text()) == {"iteration": 30_000, "variables": len(model)}
    loaded, network, table = checkpoints.load(out, output_stride=8)
    assert network.backbone == "mobilenetv2_100"
    assert table.names[15] == "person"
    assert np.array_equal(loaded.state_dict()["classifier.bias"], model["logits/semantic/biases"])


@needs_tensorflow
def test_the_stage_takes_the_backbone_alone(packed, tmp_path):
    params = write_params(tmp_path, packed, network=None, classes=None)
    out, history = tmp_path / "zoo.safetensors", tmp_path / "zoo.jsonl"
    import_checkpoint.main("zoo", params, packed, out, history)
    assert "conv_stem.weight" in load_file(out)


@needs_tensorflow
def test_the_command_says_what_it_read(packed, tmp_path):
    out = tmp_path / "a.safetensors"
    arguments = [sys.executable, "-m", "pipeline.importing", packed, out, "keep"]
    result = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True)
    assert (result.returncode, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    # (51 + 3) * 5 + 2 of the network, (51 + 3) * 3 + 2 slots, the step
    assert lines[0] == f"{packed}: {272 + 164 + 1} variables"
    assert lines[1] == "backbone: mobilenetv2_100"
    assert "  atrous_rates: []" in lines
    assert any(line.startswith("classes: background, aeroplane, ") for line in lines)
    assert lines[-2:] == [
        "ignored: 164 of optimiser slots, 1 of global step",
        f"written: {out}",
    ]
    assert checkpoints.load(out, output_stride=16)[1].backbone == "mobilenetv2_100"


@needs_tensorflow
def test_the_command_drops_logits(packed, tmp_path, capsys):
    importing.main(packed, tmp_path / "a.safetensors", importing.Logits.DROP)
    printed = capsys.readouterr().out
    assert "classes: none, without logits" in printed
    assert "2 of logits layer" in printed
    assert "classifier.bias" not in load_file(tmp_path / "a.safetensors")


@needs_tensorflow
def test_the_command_takes_backbone_weights(tmp_path, capsys):
    write_checkpoint(tmp_path / "imagenet" / "model.ckpt", zoo.mobilenet())
    prefix, out = tmp_path / "imagenet" / "model.ckpt", tmp_path / "a.safetensors"
    importing.main(prefix, out, importing.Logits.KEEP)
    assert capsys.readouterr().out.splitlines() == [
        f"{prefix}: 255 variables",
        "weights of mobilenetv2_100 alone, for the start of a training",
        "ignored: nothing",
        f"written: {out}",
    ]


def test_the_command_writes_over_nothing(tmp_path):
    out = tmp_path / "a.safetensors"
    out.write_bytes(b"precious")
    with pytest.raises(ValueError, match=r"a\.safetensors: exists already; remove it or name anot"):
        importing.main(tmp_path / "none", out, importing.Logits.KEEP)
    assert out.read_bytes() == b"precious"


@needs_tensorflow
@pytest.mark.parametrize(
    ("which", "damage"),
    [
        (INDEX, lambda content: b""),
        (INDEX, lambda content: b"\0" * 5000),
        (INDEX, lambda content: content[:-7]),
        (INDEX, lambda content: content[: len(content) // 2]),
        (DATA, lambda content: b""),
        (DATA, lambda content: content[:-7]),
        (DATA, lambda content: bytes([content[0] ^ 1]) + content[1:]),
    ],
)
def test_a_damaged_checkpoint_is_named_in_one_line(written, tmp_path, which, damage):
    contents = dict(zip((INDEX, DATA), content_of(written), strict=True))
    contents[which] = damage(contents[which])
    members = zoo_members(index=contents[INDEX], data=contents[DATA])
    archive = pack(tmp_path / "a.tar.gz", *members)
    with pytest.raises(ValueError, match=r"a\.tar\.gz: not a readable TensorFlow ch") as raised:
        tensorflow_file.read(archive)
    assert "\n" not in str(raised.value)
    assert "/tmp" not in str(raised.value).replace(str(archive), "")


@needs_tensorflow
@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(st.integers(0, 10**6), st.integers(1, 255)), min_size=1, max_size=4))
def test_a_checkpoint_with_flipped_bits_is_never_taken_for_another(model, written, flips):
    """Its checksums find it, or the bits were of none of its content."""
    index, data = content_of(written)
    damaged = bytearray(index)
    for place, bits in flips:
        damaged[place % len(damaged)] ^= bits
    prefix = written.with_name("damaged")
    prefix.with_name(f"damaged{INDEX}").write_bytes(damaged)
    prefix.with_name(f"damaged{DATA}").write_bytes(data)
    try:
        variables, message = tensorflow_file.read(prefix), ""
    except ValueError as error:
        variables, message = model, str(error)
    assert "\n" not in message
    assert variables.keys() == model.keys()
    assert all(np.array_equal(variables[name], model[name]) for name in model)


@needs_tensorflow
def test_a_checkpoint_of_something_else_leaves_no_file(tmp_path):
    write_checkpoint(tmp_path / "other" / "model.ckpt", {"a": np.zeros(3, np.float32)})
    prefix, out = tmp_path / "other" / "model.ckpt", tmp_path / "a.safetensors"
    with pytest.raises(ValueError, match=r"model\.ckpt: expected variables of one of .*; found a$"):
        importing.main(prefix, out, importing.Logits.KEEP)
    assert not out.exists()
