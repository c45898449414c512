import hashlib
import http.server
import threading

import pytest
import safetensors.torch
import timm
import torch

from pipeline.originals import archive, fetch, random_weights
from pipeline.originals.config import Archive

CONTENT = b"archive" * 300_000  # two chunks
MD5 = "md5=" + hashlib.md5(CONTENT).hexdigest()
SHA256 = "sha256=" + hashlib.sha256(CONTENT).hexdigest()


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/moved":
            self.send_response(302)
            self.send_header("Location", "/file")
            self.end_headers()
            return
        if self.path not in ("/file", "/short", "/packed", "/empty"):
            self.send_error(404, "Not Found")
            return
        self.send_response(200)
        content = b"" if self.path == "/empty" else CONTENT
        self.send_header("Content-Length", str(len(content) + 5 * (self.path == "/short")))
        if self.path == "/packed":
            self.send_header("Content-Encoding", "gzip")
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def server():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")


@pytest.fixture
def out(tmp_path):
    return tmp_path / "archives" / "voc2012"


@pytest.fixture
def original(tmp_path):
    path = tmp_path / "original.tar"
    path.write_bytes(CONTENT)
    return path


def save(url, out, checksum=None):
    reported = []
    archive = Archive(url=f"{url}#{checksum}" if checksum else str(url))
    fetch.save("voc2012", archive, out, lambda done, size: reported.append((done, size)))
    return reported


def fails(url, out, message, checksum=None, error=ValueError):
    """The error has this message, in one line, and nothing is left behind."""
    with pytest.raises(error, match=message) as caught:
        save(url, out, checksum)
    assert "\n" not in str(caught.value)
    assert not out.parent.exists() or not any(out.parent.iterdir())


@pytest.mark.parametrize("checksum", [None, MD5, SHA256])
def test_a_file_is_downloaded_byte_for_byte(server, out, checksum):
    save(f"{server}/file", out, checksum)
    assert out.read_bytes() == CONTENT


def test_progress_is_told_in_bytes(server, out):
    size = len(CONTENT)
    assert save(f"{server}/file", out) == [(1 << 20, size), (2 << 20, size), (size, size)]


def test_redirections_are_followed(server, out):
    save(f"{server}/moved", out, MD5)
    assert out.read_bytes() == CONTENT


def test_a_tgz_that_is_served_as_gzip_stays_packed(server, out):
    save(f"{server}/packed", out, MD5)
    assert out.read_bytes() == CONTENT


def test_a_file_that_is_not_on_the_server_is_an_error_with_its_status(server, out):
    message = "voc2012: http://.*/missing: the server answered 404 Not Found; or fetch it in an"
    fails(f"{server}/missing", out, message)


def test_a_transfer_that_ends_early_is_an_error(server, out):
    message = r"voc2012: http://.*/short: the transfer broke off: .*2100000 bytes read, 5 more"
    fails(f"{server}/short", out, message, error=ConnectionError)


def test_an_empty_file_is_an_error(server, out):
    fails(f"{server}/empty", out, "/empty: 0 bytes came, expected some")


@pytest.mark.parametrize("checksum", ["md5=" + "0" * 32, "sha256=" + "0" * 64])
def test_a_wrong_checksum_is_an_error_that_tells_both(server, out, checksum):
    algorithm, expected = checksum.split("=")
    found = hashlib.new(algorithm, CONTENT).hexdigest()
    message = rf"/file: {algorithm} is {found}, expected {expected}"
    fails(f"{server}/file", out, message, checksum)


def test_a_server_out_of_reach_is_an_error_that_says_how_to_do_without(out):
    message = (
        r"archives\.voc2012: cannot reach http://127\.0\.0\.1:1/a\.tar: .*Connection refused; or "
        r"fetch it in another way and set archives\.voc2012\.url in params\.yaml to its path"
    )
    fails("http://127.0.0.1:1/a.tar", out, message, error=ConnectionError)


def test_an_address_without_a_host_is_an_error(out):
    fails("https://", out, "cannot reach https://: .*", error=ConnectionError)


def test_an_earlier_file_outlives_a_failed_fetch(server, out):
    out.parent.mkdir()
    out.write_bytes(b"earlier")
    with pytest.raises(ConnectionError):
        save(f"{server}/short", out)
    assert [path.read_bytes() for path in out.parent.iterdir()] == [b"earlier"]


@pytest.mark.parametrize("write", [str, "file://{}".format, "file://localhost{}".format])
def test_a_local_file_is_copied(original, out, write):
    assert save(write(original), out, MD5)[-1] == (len(CONTENT), len(CONTENT))
    assert out.read_bytes() == CONTENT
    assert original.exists()


def test_a_path_is_relative_to_the_working_directory(original, out, monkeypatch):
    monkeypatch.chdir(original.parent)
    save("original.tar", out)
    assert out.read_bytes() == CONTENT


def test_odd_characters_in_a_file_url_are_percent_encoded(tmp_path, out):
    (tmp_path / "my #1.tar").write_bytes(CONTENT)
    save(f"file://{tmp_path}/my%20%231.tar", out, MD5)
    assert out.read_bytes() == CONTENT


def test_a_local_files_checksum_is_compared(original, out):
    fails(original, out, r"original\.tar: md5 is .*, expected 0{32}", "md5=" + "0" * 32)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("nowhere.tar", r"archives\.voc2012\.url: nowhere\.tar: no such file"),
        ("~/voc.tar", r"~/voc\.tar: no such file; .*\(~ is not expanded\)"),
        (".", r"archives\.voc2012\.url: \.: a folder"),
        ("file:relative.tar", "file:relative.tar: expected file:///absolute/path"),
        ("file://elsewhere/voc.tar", "file://elsewhere/voc.tar: expected file:///absolute/path"),
        ("ftp://host/voc.tar", "ftp://host/voc.tar: unknown scheme 'ftp'; known are https"),
        ("miniature:voc2012", r"miniature:voc2012: expected miniature:NAME\?seed=N"),
        ("miniature:voc2012?sed=0", r"expected miniature:NAME\?seed=N"),
        ("miniature:voc2012?seed=-1", r"expected miniature:NAME\?seed=N"),
        ("miniature:voc2012?seed=x", r"expected miniature:NAME\?seed=N"),
        ("miniature:voc2012?seed=", r"expected miniature:NAME\?seed=N"),
        ("miniature:voc2012?seed=1&size=9", r"expected miniature:NAME\?seed=N"),
        ("miniature:voc2012?seed=" + "9" * 19, "at most 18 digits"),
        ("miniature:coco?seed=0", "no miniature of 'coco'; there are voc2012, sbd"),
        ("random:resnet18", r"expected random:NAME\?seed=N"),
        ("random:resnet19?seed=0", "has no model 'resnet19'; similar are .*resnet18"),
        ("random:resnet18.nobody_in1k?seed=0", "Invalid pretrained tag"),
    ],
)
def test_a_mistaken_address_is_an_error(out, url, message):
    fails(url, out, message)


def test_a_miniature_is_generated(out):
    save("miniature:sbd?seed=3", out)
    names = [name for name, _ in archive.stream(out, lambda name: name.endswith(".txt"))]
    assert names == ["benchmark_RELEASE/dataset/train.txt", "benchmark_RELEASE/dataset/val.txt"]


def test_random_weights_are_a_whole_timm_state_dict(out):
    save("random:resnet10t?seed=0", out)
    model = timm.create_model("resnet10t", pretrained=False)
    with safetensors.safe_open(out, "pt") as file:
        assert file.metadata() == {"format": "pt"}
    model.load_state_dict(safetensors.torch.load_file(out))


def test_random_weights_are_those_of_their_seed_and_leave_torchs_seed_alone():
    torch.manual_seed(7)
    before = torch.random.get_rng_state()
    first = random_weights.generate("resnet10t", 0)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert first == random_weights.generate("resnet10t", 0)
    assert first != random_weights.generate("resnet10t", 1)
