"""Fetching from servers as they are: real HTTP on 127.0.0.1, real processes, real file systems."""

import contextlib
import dataclasses
import email.utils
import hashlib
import http.server
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import threading
import time
import urllib.parse
from pathlib import Path

import pytest
import requests
import safetensors.torch
import timm
import torch
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from pipeline import params
from pipeline.originals import archive, cityscapes_account, downloads, fetch, random_weights
from pipeline.originals.config import Archive, parse
from pipeline.originals.transfer import Limits, Progress

ROOT = Path(__file__).parent.parent
CONTENT = bytes(range(256)) * 8000  # two pieces
SIZE = len(CONTENT)
MD5 = "md5=" + hashlib.md5(CONTENT).hexdigest()
SHA256 = "sha256=" + hashlib.sha256(CONTENT).hexdigest()
PAGE = b"<!DOCTYPE html><title>Please log in</title>"
QUICK = Limits(
    attempts=3,
    first_pause=0.01,
    longest_pause=0.02,
    longest_retry_after=1.5,
    connect_timeout=2,
    read_timeout=2,
    min_speed=10_000,
    speed_window=0.2,
)
BY_HAND = r"bring it here in another way and set archives\.voc2012\.url in params\.yaml to its path"


class Site:
    """A server whose answers to a path are functions, one for each request; the last stays."""

    def __init__(self):
        self.answers = {}
        self.asked = []  # (path, Range) of each request
        self.served = 0  # bytes of bodies

    def serve(self, path, *answers):
        self.answers[path] = list(answers)
        return self.address + path

    def answer(self, handler):
        self.asked.append((handler.path, handler.headers.get("Range")))
        self.condition = handler.headers.get("If-Range")
        length = int(handler.headers.get("Content-Length") or 0)
        handler.form = urllib.parse.parse_qs(handler.rfile.read(length).decode())
        answers = self.answers.get(handler.path) or [status(404)]
        (answers.pop(0) if len(answers) > 1 else answers[0])(self, handler)

    @property
    def ranges(self):
        return [asked for _, asked in self.asked]


def file(
    content=CONTENT,
    *,
    etag='"1"',
    modified=None,
    ranges=True,
    stop=None,
    pause=0.0,
    length=True,
    announced=0,
    kind="application/octet-stream",
    headers=(),
):
    """Answers with a file, as a good server does, but for what is asked otherwise.

    stop: bytes after which the connection breaks; announced: bytes that never come;
    pause: seconds before each kilobyte.
    """

    def answer(site, handler):
        asked = re.fullmatch(r"bytes=(\d+)-", handler.headers.get("Range", ""))
        condition = handler.headers.get("If-Range")
        valid = condition is None or condition in (etag, modified)
        start = int(asked[1]) if asked and ranges and valid else 0
        if start and start >= len(content):
            handler.send_response(416)
            handler.send_header("Content-Range", f"bytes */{len(content)}")
            handler.send_header("Content-Length", "0")
            handler.end_headers()
            return
        handler.send_response(206 if start else 200)
        if start:
            end, size = len(content) - 1, len(content)
            handler.send_header("Content-Range", f"bytes {start}-{end}/{size}")
        if length:
            handler.send_header("Content-Length", str(len(content) - start + announced))
        given = {"Content-Type": kind, "ETag": etag, "Last-Modified": modified}
        for name, value in [*given.items(), *headers]:
            if value:
                handler.send_header(name, value)
        handler.end_headers()
        step = 1000 if pause else len(content)
        until = len(content) if stop is None else min(stop, len(content))
        for offset in range(start, until, step):
            time.sleep(pause)
            handler.wfile.write(content[offset : min(until, offset + step)])
            handler.wfile.flush()
            site.served += min(until, offset + step) - offset

    return answer


def status(code, **headers):
    def answer(site, handler):
        handler.send_response(code)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    return answer


@pytest.fixture(scope="module")
def server():
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):  # the name that http.server looks for
            with contextlib.suppress(OSError):  # the client left
                self.server.site.answer(self)

        def do_POST(self):
            self.do_GET()

        def log_message(self, *_):
            pass

    class Server(http.server.ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_):
            pass  # the client left before the last flush

    with Server(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture
def site(server):
    server.site = Site()
    server.site.address = f"http://127.0.0.1:{server.server_port}"
    return server.site


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    for name in (downloads.VARIABLE, "DVC_ROOT", "CITYSCAPES_USERNAME", "CITYSCAPES_PASSWORD"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def out(tmp_path):
    return tmp_path / "archives" / "voc2012"


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "downloads"


@pytest.fixture
def original(tmp_path):
    path = tmp_path / "original.tar"
    path.write_bytes(CONTENT)
    return path


class Told(list):
    """What was said, and (bytes here, size) at each beginning and piece."""

    def __init__(self):
        self.counts = []

    def progress(self):
        def begin(here, size):
            self.counts.append((here, size))

        def advance(num_bytes):
            here, size = self.counts[-1]
            self.counts.append((here + num_bytes, size))

        return Progress(begin, advance, self.append)


def save(url, out, cache=None, limits=QUICK, **options):
    told = Told()
    url = [str(u) for u in url] if isinstance(url, list) else str(url)
    cache = cache or out.parent.parent / "downloads"
    fetch.save("voc2012", Archive(url=url), out, cache, told.progress(), limits=limits, **options)
    return told


def fails(url, out, message, error=ValueError, **options):
    """The error has this message, a line for each address, and nothing is left at `out`."""
    with pytest.raises(error, match=message) as caught:
        save(url, out, **options)
    lines = 1 + len(url) if isinstance(url, list) and len(url) > 1 else 1
    assert len(str(caught.value).splitlines()) == lines
    assert not out.parent.exists() or not any(out.parent.iterdir())
    return str(caught.value)


# Addresses


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("ftp://host/voc.tar", "unknown scheme 'ftp'; known are https, .*or a path"),
        ("file:relative.tar", "expected file:///absolute/path"),
        ("file://elsewhere/voc.tar", "expected file:///absolute/path"),
        ("https://", "expected https://host/path"),
        ("http:/host/voc.tar", "expected http://host/path"),
        ("http://host:99999/voc.tar", "Port out of range"),
        ("https://[::1/voc.tar", "Invalid IPv6 URL"),
        ("cityscapes:", "expected cityscapes:FILE"),
        ("cityscapes:../gtFine.zip", "expected cityscapes:FILE"),
        ("miniature:voc2012", r"expected miniature:NAME\?seed=N"),
        ("miniature:voc2012?sed=0", r"expected miniature:NAME\?seed=N"),
        ("miniature:voc2012?seed=-1", r"expected miniature:NAME\?seed=N"),
        ("miniature:voc2012?seed=1&size=9", r"expected miniature:NAME\?seed=N"),
        ("miniature:voc2012?seed=" + "9" * 19, "at most 18 digits"),
        ("random:resnet18", r"expected random:NAME\?seed=N"),
        ("a.tar#md5=12", "the checksum must be #md5="),
        ("a.tar#md5=" + "A" * 32, "the checksum must be #md5="),
        ("a.tar#sha256=" + "0" * 32, "the checksum must be #md5="),
        ("a.tar#crc32=00000000", "the checksum must be #md5="),
        ("a\nb.tar", "one line of printable characters"),
        ("", "expected an address, or a list of addresses"),
        (7, "expected an address, or a list of addresses"),
        ([], "expected an address, or a list of addresses"),
        ([["a.tar"]], "expected an address, or a list of addresses"),
        (["a.tar", "ftp://host/a.tar"], "ftp://host/a.tar: unknown scheme"),
        (["a.tar", "a.tar"], "lists an address twice"),
    ],
)
def test_a_mistaken_address_is_told_at_the_door_in_one_line(tmp_path, url, message):
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump({"archives": {"voc2012": {"url": url}}}))
    with pytest.raises(ValueError, match=rf"^{path}: archives\.voc2012\.url: .*{message}") as error:
        params.load(path, "archives.voc2012", Archive)
    assert "\n" not in str(error.value)


@given(st.text(max_size=40) | st.from_regex(r"[a-z:/?#=.\[\]@0-9]{1,40}", fullmatch=True))
@example("//[")
def test_any_text_is_an_address_or_a_value_error(text):
    try:
        address = parse(text)
    except ValueError:
        return
    checksum = f"#{address.algorithm}={address.digest}" if address.algorithm else ""
    assert address.location + checksum == text
    assert address.scheme == "" or address.location[: len(address.scheme) + 1].endswith(":")
    entry = downloads.entry(Path("/cache"), address)
    assert entry.file.parent == Path("/cache")
    assert len(entry.lock.name) <= 130  # and a file system takes 255


def test_a_file_is_kept_under_the_last_part_of_its_address_and_a_digest_of_all_of_it():
    names = [
        downloads.entry(Path("/cache"), parse(address)).file.name.partition("-")[2]
        for address in ("cityscapes:left.zip", "https://host/a/b%20c.tar?d=e", "/data/b.tar")
    ]
    assert names == ["left.zip", "b_c.tar", "b.tar"]


@given(st.sampled_from(["md5", "sha256"]), st.integers(min_value=0, max_value=16**32 - 1))
def test_a_checksum_belongs_to_the_address_before_it(algorithm, number):
    digest = f"{number:0{32 if algorithm == 'md5' else 64}x}"
    url = ["a.tar", f"https://host/b#c.tar#{algorithm}={digest}"]
    first, second = Archive(url=url).addresses
    assert (first.location, first.digest) == ("a.tar", "")
    assert second == ("https://host/b#c.tar", "https", "//host/b#c.tar", algorithm, digest)


def test_mirrors_of_one_checksum_share_what_came_of_it():
    first, second = (
        downloads.entry(Path("/cache"), parse(f"http://{host}/{host}.tar#{MD5}")) for host in "ab"
    )
    assert first == second
    assert first != downloads.entry(Path("/cache"), parse("http://a/a.tar"))


# One good server


@pytest.mark.parametrize("checksum", ["", "#" + MD5, "#" + SHA256])
def test_a_file_is_downloaded_byte_for_byte(site, out, checksum):
    told = save(site.serve("/file", file()) + checksum, out)
    assert out.read_bytes() == CONTENT
    assert told.counts[0] == (0, SIZE)
    assert told.counts[-1] == (SIZE, SIZE)


def test_a_file_is_downloaded_once(site, out, cache):
    url = site.serve("/file", file())
    save(url, out)
    out.unlink()
    save(url, out)
    assert out.read_bytes() == CONTENT
    assert len(site.asked) == 1


def test_a_file_without_checksum_is_told_with_the_pin_to_set_and_found_under_it(site, out):
    url = site.serve("/file", file())
    assert save(url, out)[-1].endswith(f"pin it: {url}#{SHA256}")
    assert save(url, out)[-1].endswith(f"pin it: {url}#{SHA256}")
    assert not any("pin" in line for line in save(f"{url}#{SHA256}", out))
    assert len(site.asked) == 1


def test_a_finished_file_is_read_only_and_costs_no_second_disk_space(site, out, cache):
    save(site.serve("/file", file()), out)
    assert out.stat().st_mode & 0o777 == 0o444
    assert [path for path in cache.iterdir() if path.samefile(out)]


@pytest.mark.parametrize("checksum", ["", "#" + MD5])
def test_a_damaged_file_in_the_cache_is_fetched_again(site, out, cache, checksum):
    url = site.serve("/file", file()) + checksum
    save(url, out)
    finished = next(path for path in cache.iterdir() if path.samefile(out))
    finished.chmod(0o644)
    finished.write_bytes(CONTENT[:-1] + b"x")
    out.unlink()
    assert any("is passed over" in line for line in save(url, out))
    assert out.read_bytes() == CONTENT
    assert len(site.asked) == 2


def test_redirections_are_followed(site, out):
    site.serve("/file", file())
    save(site.serve("/moved", status(302, Location="/file")) + "#" + MD5, out)
    assert out.read_bytes() == CONTENT


def test_a_redirection_in_a_circle_is_an_error(site, out):
    url = site.serve("/round", status(302, Location="/round"))
    fails(url, out, "cannot reach it: Exceeded 30 redirects")


def test_a_tgz_that_is_served_as_gzip_stays_packed(site, out):
    content = b"\x1f\x8b" + CONTENT
    save(site.serve("/f.tgz", file(content, headers=[("Content-Encoding", "gzip")])), out)
    assert out.read_bytes() == content


def test_a_size_that_is_not_told_is_done_without(site, out):
    told = save(site.serve("/file", file(length=False)), out)
    assert out.read_bytes() == CONTENT
    assert told.counts[0] == (0, None)


def test_bytes_beyond_the_announced_length_are_not_the_files(site, out):
    url = site.serve("/file", file(CONTENT + b"more", announced=-4))
    save(f"{url}#{MD5}", out)
    assert out.read_bytes() == CONTENT


# Servers that break off


def test_a_transfer_that_breaks_off_goes_on_from_its_last_byte(site, out):
    url = site.serve("/file", file(stop=1_000_000), file(stop=1_500_000), file())
    told = save(url, out)
    assert out.read_bytes() == CONTENT
    assert site.ranges == [None, "bytes=1000000-", "bytes=1500000-"]
    assert site.served == SIZE
    assert site.condition == '"1"'
    assert (1_000_000, SIZE) in told.counts
    assert "IncompleteRead" in told[0]


def test_a_transfer_may_break_off_as_often_as_it_comes_further(site, out):
    stops = range(100_000, SIZE, 100_000)
    save(site.serve("/file", *(file(stop=stop) for stop in stops), file()), out)
    assert len(site.asked) == len(stops) + 1 > QUICK.attempts
    assert site.served == SIZE


def test_a_transfer_that_comes_no_further_is_given_up_and_kept(site, out, cache):
    url = site.serve("/file", file(stop=1_000_000))
    message = rf"^archives\.voc2012: {url}: the connection failed: .*\(3 attempts\); or {BY_HAND}$"
    fails(url, out, message)
    site.serve("/file", file())
    save(url, out)
    assert site.ranges[-1] == "bytes=1000000-"
    assert site.served == SIZE


def test_a_chunked_body_that_breaks_off_is_not_taken_for_the_whole(site, out):
    def chunked(until):
        def answer(site, handler):
            handler.protocol_version = "HTTP/1.1"
            handler.send_response(200)
            handler.send_header("Transfer-Encoding", "chunked")
            handler.send_header("ETag", '"1"')
            handler.end_headers()
            handler.wfile.write(b"%x\r\n%b\r\n" % (until, CONTENT[:until]))
            handler.wfile.write(b"0\r\n\r\n" if until == SIZE else b"")
            handler.close_connection = True

        return answer

    save(site.serve("/file", chunked(SIZE - 9), chunked(SIZE)), out)
    assert out.read_bytes() == CONTENT
    assert site.ranges == [None, f"bytes={SIZE - 9}-"]  # the server knows none: all came anew


def test_a_server_that_ignores_ranges_sends_the_whole_again(site, out):
    save(site.serve("/file", file(stop=1_000_000), file(ranges=False)), out)
    assert out.read_bytes() == CONTENT
    assert site.ranges == [None, "bytes=1000000-"]
    assert site.served == 1_000_000 + SIZE


@pytest.mark.parametrize("obeys", [True, False])
def test_a_file_that_changes_between_attempts_begins_anew(site, out, obeys):
    other = CONTENT[::-1]
    changed = file(other, etag='"2"')

    def ignores_if_range(site, handler):
        del handler.headers["If-Range"]
        changed(site, handler)

    url = site.serve("/file", file(stop=1_000_000), changed if obeys else ignores_if_range, changed)
    save(url, out)
    assert out.read_bytes() == other


def test_a_file_that_shrinks_between_attempts_begins_anew(site, out):
    short = file(CONTENT[:500_000], modified="Mon, 01 Jan 2024 00:00:00 GMT", etag=None)
    first = file(stop=1_000_000, modified="Mon, 01 Jan 2024 00:00:00 GMT", etag=None)
    told = save(site.serve("/file", first, short), out)  # the second answer is 416
    assert out.read_bytes() == CONTENT[:500_000]
    assert any("is not the one that was begun" in line for line in told)


@pytest.mark.parametrize("checksum", ["", "#" + MD5])
def test_what_nothing_tells_from_another_file_is_pieced_together_for_a_checksum_alone(
    site, out, checksum
):
    url = site.serve("/file", file(stop=1_000_000, etag='W/"1"'), file(etag='W/"1"'))
    save(url + checksum, out)
    assert out.read_bytes() == CONTENT
    assert site.ranges == [None, "bytes=1000000-" if checksum else None]


def test_pieces_of_two_files_are_found_by_the_checksum_and_begin_anew(site, out):
    url = site.serve("/file", file(CONTENT[::-1], etag=None, stop=1_000_000), file(etag=None))
    told = save(f"{url}#{MD5}", out)
    assert out.read_bytes() == CONTENT
    assert site.ranges == [None, "bytes=1000000-", None]
    assert any("it came in pieces, so it begins anew" in line for line in told)


def test_a_range_that_was_not_asked_for_is_not_appended(site, out):
    def shifted(site, handler):
        rest = CONTENT[5 : 5 + SIZE - 1_000_000]  # as many bytes as are missing, but others
        handler.send_response(206)
        handler.send_header("Content-Range", f"bytes 5-{SIZE - 1}/{SIZE}")
        handler.send_header("Content-Length", str(len(rest)))
        handler.end_headers()
        handler.wfile.write(rest)

    save(site.serve("/file", file(stop=1_000_000), shifted, file()), out)
    assert out.read_bytes() == CONTENT


@pytest.mark.parametrize("facts", [b"", b"{", b"{}", b"\xff", b'{"size": 1}', None])
def test_a_partial_that_nothing_is_known_of_begins_anew(site, out, cache, facts):
    url = site.serve("/file", file(stop=1_000_000))
    fails(url, out, "3 attempts")
    (path,) = cache.glob("*.json")
    path.unlink() if facts is None else path.write_bytes(facts)
    site.serve("/file", file())
    save(url, out)
    assert out.read_bytes() == CONTENT
    assert site.ranges[-1] is None


def test_a_partial_that_was_whole_already_needs_no_server(site, out, cache):
    url = site.serve("/file", file(stop=SIZE - 1))
    fails(url, out, "3 attempts")
    (partial,) = cache.glob("*.partial")
    partial.write_bytes(CONTENT)
    asked = len(site.asked)
    save(url, out)
    assert out.read_bytes() == CONTENT
    assert len(site.asked) == asked


BEHAVIOURS = st.one_of(
    st.builds(file, stop=st.integers(0, SIZE), etag=st.sampled_from(['"1"', '"2"', None])),
    st.builds(file, stop=st.integers(0, SIZE), ranges=st.just(False)),
    st.builds(file, length=st.just(False), stop=st.integers(0, SIZE), etag=st.none()),
    st.builds(file, st.sampled_from([CONTENT[::-1], CONTENT[:-9], b""]), stop=st.integers(0, SIZE)),
    st.builds(file, st.just(PAGE), ranges=st.just(False), etag=st.none()),
    st.builds(status, st.sampled_from([204, 206, 304, 404, 416, 500, 503])),
)


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(behaviours=st.lists(BEHAVIOURS, min_size=1, max_size=6))
def test_whatever_servers_do_the_file_comes_or_an_error(server, tmp_path_factory, behaviours):
    folder = tmp_path_factory.mktemp("any")
    server.site = Site()
    server.site.address = f"http://127.0.0.1:{server.server_port}"
    urls = [f"{server.site.serve(f'/{name}', *behaviours)}#{MD5}" for name in "ab"]
    told, out = Told(), folder / "archives" / "voc2012"
    limits = dataclasses.replace(QUICK, first_pause=0, longest_pause=0)
    for _ in range(2):
        try:
            fetch.save("voc2012", Archive(url=urls), out, folder, told.progress(), limits=limits)
        except ValueError:
            assert not out.exists()
        else:
            assert out.read_bytes() == CONTENT
    # Whatever lies in the cache by then, a good server brings the file.
    server.site.serve("/a", file())
    fetch.save("voc2012", Archive(url=urls), out, folder, told.progress(), limits=limits)
    assert out.read_bytes() == CONTENT


# Servers that answer something else


def test_a_file_that_is_not_on_the_server_is_not_asked_for_twice(site, out):
    url = site.address + "/missing"
    message = rf"^archives\.voc2012: {url}: the server answered 404 Not Found; or {BY_HAND}$"
    fails(url, out, message)
    assert len(site.asked) == 1


def test_an_empty_file_is_an_error(site, out):
    fails(site.serve("/file", file(b"")), out, "/file: an empty file came")


@pytest.mark.parametrize(
    ("name", "content", "kind", "message"),
    [
        ("file", PAGE, "text/html; charset=utf-8", "a web page came in place of the file"),
        ("file", b"\xef\xbb\xbf\n " + PAGE, "", "a web page came in place of the file"),
        ("file", b"moved away", "text/html", "a web page came in place of the file"),
        ("f.zip", PAGE, "application/zip", "a web page came in place of the file"),
        ("f.zip", CONTENT, "", r"what came is no \.zip: it begins with b'"),
        ("f.tar", CONTENT, "", r"what came is no \.tar: it begins with"),
        ("f.tar", b"short", "", r"what came is no \.tar: it begins with b'short'"),
        ("f.tgz", CONTENT, "", r"what came is no \.tar\.gz"),
        ("f.safetensors?download=true", CONTENT, "", r"what came is no \.safetensors"),
    ],
)
def test_what_cannot_be_the_file_is_refused_by_its_first_bytes(
    site, out, name, content, kind, message
):
    fails(site.serve(f"/{name}", file(content, kind=kind)), out, message)
    assert len(site.asked) == 1


def test_a_file_of_the_right_kind_is_taken_whatever_the_server_calls_it(site, out, tmp_path):
    with tarfile.open(tmp_path / "v7.tar", "w", format=tarfile.USTAR_FORMAT) as tar:
        tar.add(ROOT / "LICENSE", "LICENSE")
    for name, content in [
        ("f.tar", (tmp_path / "v7.tar").read_bytes()),
        ("f.zip", b"PK\x03\x04" + CONTENT),
        ("f.tar.gz", b"\x1f\x8b" + CONTENT),
        ("f.safetensors", b"\x10" + b"\0" * 7 + b'{"a": 1}'),
    ]:
        save(site.serve(f"/{name}", file(content, kind="text/html")), out)
        assert out.read_bytes() == content


def test_a_web_page_does_not_take_the_place_of_what_came_before(site, out):
    url = site.serve("/file", file(stop=1_000_000), file(PAGE, ranges=False, kind="text/html"))
    fails(url, out, "a web page came")
    site.serve("/file", file())
    save(url, out)
    assert site.ranges[-1] == "bytes=1000000-"


@pytest.mark.parametrize("checksum", ["md5=" + "0" * 32, "sha256=" + "0" * 64])
def test_a_wrong_checksum_is_an_error_that_tells_both_and_leaves_nothing(
    site, out, cache, checksum
):
    algorithm, expected = checksum.split("=")
    found = hashlib.new(algorithm, CONTENT).hexdigest()
    message = rf"/file: {algorithm} is {found}, expected {expected}: another file, or a damaged one"
    fails(f"{site.serve('/file', file())}#{checksum}", out, message)
    assert len(site.asked) == 1
    assert [path.suffix for path in cache.iterdir()] == [".lock"]


def test_a_server_that_is_busy_is_asked_again_when_it_says(site, out):
    began = time.monotonic()
    told = save(site.serve("/file", status(503, Retry_After="1"), file()), out)
    assert time.monotonic() - began >= 1
    url = site.address + "/file"
    assert told[0] == (f"{url}: the server answered 503 Service Unavailable; trying again in 1.0 s")
    assert out.read_bytes() == CONTENT


@pytest.mark.parametrize(
    "value",
    ["3600", email.utils.formatdate(time.time() + 7200, usegmt=True)],
    ids=["seconds", "date"],
)
def test_a_server_that_asks_for_more_patience_than_there_is_is_left(site, out, value):
    url = site.serve("/file", status(429, Retry_After=value))
    fails(url, out, r"429 Too Many Requests, and asks to come back after \d{4} s")
    assert len(site.asked) == 1


@pytest.mark.parametrize("value", ["", "soon", "-1", "Fri, 99 Foo 2024"])
def test_a_nonsensical_wish_to_wait_is_passed_over(site, out, value):
    save(site.serve("/file", status(503, Retry_After=value), file()), out)
    assert out.read_bytes() == CONTENT


def test_a_body_that_never_ends_is_left_for_its_speed(site, out):
    url = site.serve("/file", file(pause=0.15, etag=None))  # 7 kB/s: five minutes
    began = time.monotonic()
    fails(url, out, r"/file: slower than 10,000 bytes per second \(3 attempts\)")
    assert time.monotonic() - began < 10


def test_a_body_that_falls_silent_is_left(site, out):
    limits = dataclasses.replace(QUICK, attempts=1, read_timeout=0.2)
    fails(site.serve("/file", file(pause=3)), out, "failed: .*timed out", limits=limits)


# Mirrors


def test_a_mirror_is_asked_when_the_first_address_has_nothing(site, out):
    url = [site.address + "/missing", site.serve("/file", file())]
    told = save(url, out)
    assert told[0] == f"{url[0]}: the server answered 404 Not Found"
    assert out.read_bytes() == CONTENT
    assert [path for path, _ in site.asked] == ["/missing", "/file"]


def test_what_a_mirror_gave_is_found_again_without_asking_the_first(site, out):
    url = [site.address + "/missing", site.serve("/file", file())]
    save(url, out)
    save(url, out)
    assert len(site.asked) == 2


def test_a_mirror_goes_on_where_another_of_the_same_checksum_ended(site, out):
    urls = [site.serve("/a", file(stop=1_000_000, etag='"a"')), site.serve("/b", file(etag='"b"'))]
    save([f"{url}#{MD5}" for url in urls], out)
    assert out.read_bytes() == CONTENT
    assert site.asked[-1] == ("/b", "bytes=1000000-")
    # Three attempts on the first mirror; none but the first brought a byte.
    assert site.served == SIZE


def test_a_mirror_of_another_file_is_passed_over(site, out):
    urls = [site.serve("/a", file(CONTENT[::-1])), site.serve("/b", file())]
    told = save([f"{url}#{MD5}" for url in urls], out)
    assert out.read_bytes() == CONTENT
    assert any("another file, or a damaged one" in line for line in told)


def test_a_path_can_be_the_first_of_the_addresses(site, out, original):
    url = [original, site.serve("/file", file())]
    save(url, out)
    assert site.asked == []
    original.unlink()
    told = save(url, out)
    assert "original.tar: no such file" in told[0]
    assert out.read_bytes() == CONTENT


def test_where_nothing_can_be_reached_each_address_is_told_with_its_reason(site, out):
    urls = [
        site.address + "/missing",
        "http://127.0.0.1:1/a.tar",
        site.serve("/page", file(PAGE, kind="text/html")),
        f"{site.serve('/file', file())}#md5={'0' * 32}",
    ]
    lines = fails(urls, out, "none of its 4 addresses").splitlines()
    assert re.fullmatch(
        rf"archives\.voc2012: none of its 4 addresses gives it; {BY_HAND}", lines[0]
    )
    assert lines[1] == f"  {urls[0]}: the server answered 404 Not Found"
    assert lines[2].startswith(f"  {urls[1]}: the connection failed: [Errno ")
    assert lines[2].endswith("Connection refused (3 attempts)")
    assert lines[3] == f"  {urls[2]}: a web page came in place of the file"
    assert lines[4].startswith(f"  {site.address}/file: md5 is ")


def test_a_password_in_an_address_is_not_told(site, out, cache):
    url = site.serve("/gone", status(404)).replace("://", "://ada:s3cret@")
    message = fails([url, url + "2"], out, "none of its 2")
    url = site.serve("/file", file(stop=1_000_000), file()).replace("://", "://ada:s3cret@")
    told = save(url, out)
    kept = "".join(p.name + p.read_bytes().decode("latin1") for p in cache.iterdir())
    assert "s3cret" not in message + "".join(told) + kept


# Local and generated files


@pytest.mark.parametrize("write", [str, "file://{}".format, "file://localhost{}".format])
def test_a_local_file_is_copied_and_left_as_it_is(original, out, write):
    mode = original.stat().st_mode
    assert save(f"{write(original)}#{MD5}", out).counts[-1] == (SIZE, SIZE)
    assert out.read_bytes() == CONTENT
    assert not original.samefile(out)
    assert original.stat().st_mode == mode


def test_a_path_is_relative_to_the_working_directory(original, out, monkeypatch):
    monkeypatch.chdir(original.parent)
    save("original.tar", out)
    assert out.read_bytes() == CONTENT


def test_odd_characters_in_a_file_url_are_percent_encoded(tmp_path, out):
    (tmp_path / "my #1.tar").write_bytes(CONTENT)
    save(f"file://{tmp_path}/my%20%231.tar#{MD5}", out)
    assert out.read_bytes() == CONTENT


def test_a_local_files_checksum_is_compared(original, out):
    fails(f"{original}#md5={'0' * 32}", out, r"original\.tar: md5 is .*, expected 0{32}: another")


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("nowhere.tar", r"^archives\.voc2012: nowhere\.tar: no such file"),
        ("~/voc.tar", r"~/voc\.tar: no such file; .*\(~ is not expanded\)$"),
        (".", r"archives\.voc2012: \.: a folder"),
        ("/dev/null", "/dev/null: no such file"),
        ("miniature:coco?seed=0", "no miniature of 'coco'; there are voc2012, voc2012test, sbd, "),
        ("random:resnet19?seed=0", "has no model 'resnet19'; similar are .*resnet18"),
        ("random:resnet18.nobody_in1k?seed=0", "Invalid pretrained tag"),
    ],
)
def test_what_is_not_there_is_an_error(out, url, message):
    fails(url, out, message)


def test_an_empty_local_file_is_an_error(tmp_path, out):
    (tmp_path / "empty.tar").touch()
    fails(tmp_path / "empty.tar", out, r"empty\.tar: the file is empty")


def test_an_earlier_file_outlives_a_failed_fetch(site, out):
    out.parent.mkdir()
    out.write_bytes(b"earlier")
    with pytest.raises(ValueError, match="404"):
        save(site.address + "/missing", out)
    assert [path.read_bytes() for path in out.parent.iterdir()] == [b"earlier"]


def test_a_miniature_is_generated(out):
    save("miniature:sbd?seed=3", out)
    names = [name for name, _ in archive.stream(out, lambda name: name.endswith(".txt"))]
    assert names == ["benchmark_RELEASE/dataset/train.txt", "benchmark_RELEASE/dataset/val.txt"]


def test_random_weights_are_a_whole_timm_state_dict(out):
    save("random:resnet10t?seed=0", out)
    model = timm.create_model("resnet10t", pretrained=False)
    with safetensors.safe_open(out, "pt") as opened:
        assert opened.metadata() == {"format": "pt"}
    model.load_state_dict(safetensors.torch.load_file(out))


def test_random_weights_are_those_of_their_seed_and_leave_torchs_seed_alone():
    torch.manual_seed(7)
    before = torch.random.get_rng_state()
    first = random_weights.generate("resnet10t", 0)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert first == random_weights.generate("resnet10t", 0)
    assert first != random_weights.generate("resnet10t", 1)


# Processes


def stage(folder, url, out="archives/voc2012"):
    """Starts the stage as DVC does, in a folder of its own."""
    (folder / "params.yaml").write_text(yaml.safe_dump({"archives": {"voc2012": {"url": url}}}))
    command = [sys.executable, "-m", "stages.fetch", "voc2012", "params.yaml", out]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.Popen(command, cwd=folder, env=environment, stderr=subprocess.PIPE, text=True)


def wait_until(condition):
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_killed_fetch_goes_on_from_its_last_byte(site, tmp_path, out):
    url = site.serve("/file", file(pause=0.001), file())
    killed = stage(tmp_path, url)
    wait_until(lambda: site.served > 300_000)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    assert not out.exists()
    (partial,) = (tmp_path / "downloads").glob("*.partial")
    here = partial.stat().st_size
    assert here > 250_000
    again = stage(tmp_path, url)
    _, said = again.communicate()
    assert again.returncode == 0, said
    assert out.read_bytes() == CONTENT
    assert site.ranges == [None, f"bytes={here}-"]


def test_of_two_fetches_at_once_the_second_waits_for_the_first(site, tmp_path):
    url = site.serve("/file", file(pause=0.001))
    both = [stage(tmp_path, url, f"archives/{name}") for name in "ab"]
    said = [process.communicate()[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert len(site.asked) == 1
    assert sum("another process is fetching it" in text for text in said) == 1
    assert all((tmp_path / "archives" / name).read_bytes() == CONTENT for name in "ab")


def test_a_failed_fetch_ends_in_one_line_for_each_address(site, tmp_path):
    urls = [site.address + "/missing", site.address + "/gone"]
    process = stage(tmp_path, urls)
    _, said = process.communicate()
    assert process.returncode == 1
    assert "Traceback" not in said
    error = said[said.index("error: ") :].splitlines()
    assert error[0].startswith("error: archives.voc2012: none of its 2 addresses gives it; bring")
    assert error[1:] == [f"  {url}: the server answered 404 Not Found" for url in urls]


def test_the_bar_counts_what_was_here_already_but_not_as_speed(site, tmp_path, out):
    url = site.serve("/file", file(stop=1_000_000), file())
    _, said = stage(tmp_path, url).communicate()
    assert out.read_bytes() == CONTENT
    assert "voc2012:  49%" in said
    assert "100%|" in said
    assert "1.95M/1.95M" in said


# The Cityscapes site

CREDENTIALS = {"CITYSCAPES_USERNAME": "ada", "CITYSCAPES_PASSWORD": "s3cret & more"}
PACKAGE = "gtFine_trainvaltest.zip"
ZIP = b"PK\x03\x04" + CONTENT
FILE = "/file-handling/?packageID=3"


@pytest.fixture
def account(site, monkeypatch):
    """The site's login, list and one file, in both directions as its own downloader knows them."""
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    site.forms = []
    listed = [{"name": PACKAGE, "packageID": "3", "size": "2MB", "thirdparty": "0"}]
    site.packages = [*listed, {"name": "other.zip", "packageID": 4, "size": "1GB"}]

    def login(site, handler):
        if handler.command == "GET":
            file(PAGE, kind="text/html")(site, handler)
            return
        site.forms.append(handler.form)
        expected = {"username": ["ada"], "password": ["s3cret & more"], "submit": ["Login"]}
        if handler.form == expected:
            status(302, Location="/", Set_Cookie="session=open; Path=/")(site, handler)
        else:
            file(PAGE, kind="text/html")(site, handler)

    def members_only(answer):
        def answer_member(site, handler):
            member = "session=open" in handler.headers.get("Cookie", "")
            (answer if member else status(302, Location="/login"))(site, handler)

        return answer_member

    def packages(site, handler):
        file(json.dumps(site.packages).encode(), kind="application/json")(site, handler)

    md5 = hashlib.md5(ZIP).hexdigest()
    site.members_only = members_only
    site.serve("/login", login)
    site.serve("/downloads/?list", members_only(packages))
    site.serve("/md5-sum/?packageID=3", members_only(file(f"{md5}  {PACKAGE}\n".encode())))
    site.serve(FILE, members_only(file(ZIP, etag=None)))
    return site


def save_package(account, out, name=PACKAGE):
    return save(f"cityscapes:{name}", out, cityscapes_site=account.address)


def test_a_cityscapes_file_comes_with_an_account(account, out):
    save_package(account, out)
    assert out.read_bytes() == ZIP
    asked = len(account.asked)
    save_package(account, out)
    assert len(account.asked) == asked  # it is here: nobody logs in


def test_a_cityscapes_file_goes_on_where_it_broke_off_in_a_new_session(account, out):
    broken = file(ZIP, etag=None, stop=1_000_000)
    account.serve(FILE, *map(account.members_only, [broken, file(ZIP, etag=None)]))
    save_package(account, out)
    assert out.read_bytes() == ZIP
    assert account.ranges[-1] == "bytes=1000000-"
    assert len(account.forms) == 3


def test_a_cityscapes_site_that_is_busy_is_asked_again(account, out):
    listed = account.answers["/downloads/?list"][0]
    account.serve("/downloads/?list", status(503), listed)
    save_package(account, out)
    assert out.read_bytes() == ZIP


def test_a_damaged_cityscapes_file_is_found_by_the_sites_checksum(account, out):
    account.serve(FILE, account.members_only(file(ZIP[:-1] + b"x")))
    with pytest.raises(ValueError, match=f"cityscapes:{PACKAGE}: md5 is .*: another file"):
        save_package(account, out)


def test_a_cityscapes_file_that_is_kept_from_the_account_is_an_error(account, out):
    account.serve(FILE, status(302, Location="/terms"))
    message = rf"cityscapes:{PACKAGE}: the site sends us to /terms in its place"
    fails(f"cityscapes:{PACKAGE}", out, message, cityscapes_site=account.address)


@pytest.mark.parametrize("missing", CREDENTIALS)
def test_without_credentials_the_variables_to_set_are_named(account, out, missing, monkeypatch):
    monkeypatch.delenv(missing)
    message = (
        rf"^archives\.voc2012: cityscapes:{PACKAGE}: needs an account of {account.address}: set "
        rf"CITYSCAPES_USERNAME and CITYSCAPES_PASSWORD in the environment; or {BY_HAND}$"
    )
    fails(f"cityscapes:{PACKAGE}", out, message, cityscapes_site=account.address)
    assert account.asked == []


def test_wrong_credentials_are_an_error_without_a_second_try(account, out, monkeypatch):
    monkeypatch.setenv("CITYSCAPES_PASSWORD", "guessed")
    message = "the site does not take CITYSCAPES_USERNAME and CITYSCAPES_PASSWORD"
    fails(f"cityscapes:{PACKAGE}", out, message, cityscapes_site=account.address)
    assert len(account.forms) == 1


def test_a_file_that_is_not_for_this_account_is_an_error_with_what_is(account, out):
    message = f"does not offer it to this account; it offers {PACKAGE}, other.zip"
    fails("cityscapes:gtCoarse.zip", out, message, cityscapes_site=account.address)


@pytest.mark.parametrize("packages", [{}, [1], [{"name": PACKAGE}], "x", None])
def test_a_list_of_another_form_is_an_error(account, out, packages):
    account.packages = packages
    with pytest.raises(ValueError, match=r"list of files is of another form|offers none"):
        save_package(account, out)


def test_the_password_is_told_to_nobody_but_the_login(account, out, cache, monkeypatch):
    broken = account.members_only(file(ZIP, etag=None, stop=1_000_000))
    account.serve(FILE, broken, status(503), status(404))
    told = Told()
    with pytest.raises(ValueError, match="404 Not Found") as error:
        fetch.save(
            "voc2012",
            Archive(url=f"cityscapes:{PACKAGE}"),
            out,
            cache,
            told.progress(),
            limits=QUICK,
            cityscapes_site=account.address,
        )
    chain, shown = error.value, ""
    while chain:
        chain, shown = chain.__cause__ or chain.__context__, shown + repr(chain)
    kept = b"".join(path.read_bytes() for path in cache.iterdir()).decode("latin1")
    asked = "".join(path for path, _ in account.asked)
    assert "s3cret" not in shown + "".join(told) + kept + asked


def test_the_sites_own_downloader_asks_the_same(account, out, tmp_path, monkeypatch):
    reason = "needs cityscapesscripts"
    downloader = pytest.importorskip("cityscapesscripts.download.downloader", reason=reason)

    class Aimed(requests.adapters.HTTPAdapter):
        def send(self, request, **options):
            aimed = request.copy()
            aimed.url = request.url.replace(cityscapes_account.SITE, account.address)
            return super().send(aimed, **options)

    class Session(requests.Session):
        def __init__(self):
            super().__init__()
            self.mount(cityscapes_account.SITE, Aimed())

    monkeypatch.setattr(downloader.requests, "Session", Session)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    (tmp_path / "cityscapesscripts").mkdir()
    (tmp_path / "cityscapesscripts/credentials.json").write_text(
        json.dumps({"username": "ada", "password": "s3cret & more"})
    )
    (tmp_path / "theirs").mkdir()
    downloader.download_packages(
        session=downloader.login(), package_names=[PACKAGE], destination_path=tmp_path / "theirs"
    )
    theirs, account.asked = account.asked, []
    save_package(account, out)
    assert set(account.asked) == set(theirs)
    assert account.forms == [account.forms[0]] * 3
    assert (tmp_path / "theirs" / PACKAGE).read_bytes() == out.read_bytes()


# Disks


@pytest.fixture
def small_disk(tmp_path):
    """A file system of one MiB, and how to remount it."""
    folder = tmp_path / "small"
    folder.mkdir()

    def mount(*options):
        command = ["mount", "-t", "tmpfs", "-o", ",".join(options), "tmpfs", str(folder)]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0

    if os.geteuid() != 0 or not mount("size=1m"):
        pytest.skip("needs the right to mount a small file system")
    yield folder, lambda *options: mount("remount", *options)
    subprocess.run(["umount", str(folder)], check=True)


def test_what_does_not_fit_is_not_begun(site, out, small_disk):
    folder, _ = small_disk
    message = (
        rf"^archives\.voc2012: {folder}/cache: 2,048,000 bytes are to come, 1,0\d\d,\d{{3}} are "
        rf"free on the file system mounted at {folder}; free some, or .* {downloads.VARIABLE}"
    )
    urls = [site.serve("/file", file()), site.serve("/mirror", file())]
    with pytest.raises(downloads.CacheError, match=message) as error:
        save(urls, out, folder / "cache")
    assert "\n" not in str(error.value)
    assert [path for path, _ in site.asked] == ["/file"]  # a mirror would not help


def test_a_disk_that_fills_up_keeps_what_came(site, out, small_disk):
    folder, remount = small_disk
    url = site.serve("/file", file(length=False))
    message = (
        rf"^archives\.voc2012: {folder}/cache: No space left on device on the file system "
        rf"mounted at {folder}; what came is kept, and the next run goes on from there$"
    )
    fails(url, out, message, error=downloads.CacheError, cache=folder / "cache")
    (partial,) = (folder / "cache").glob("*.partial")
    here = partial.stat().st_size
    assert here > 900_000
    assert remount("size=8m")
    save(url, out, folder / "cache")
    assert out.read_bytes() == CONTENT
    assert site.ranges == [None, f"bytes={here}-"]


def test_a_file_is_copied_from_a_cache_on_another_file_system(site, out, small_disk):
    folder, remount = small_disk
    assert remount("size=8m")
    save(site.serve("/file", file()), out, folder / "cache")
    assert out.read_bytes() == CONTENT
    assert out.stat().st_nlink == 1
    assert [path.name for path in out.parent.iterdir()] == ["voc2012"]


def test_a_copy_that_does_not_fit_is_not_begun(site, tmp_path, cache, small_disk):
    folder, _ = small_disk
    url = site.serve("/file", file())
    fails(
        url, folder / "archives" / "voc2012", "2,048,000 bytes", downloads.CacheError, cache=cache
    )


def test_a_cache_that_can_only_be_read_serves_what_it_has(site, out, small_disk):
    folder, remount = small_disk
    assert remount("size=8m")
    url = site.serve("/file", file())
    save(url, out, folder)
    assert remount("ro")
    out.unlink()
    save(url, out, folder)
    assert out.read_bytes() == CONTENT
    assert len(site.asked) == 1
    message = rf"{folder}: no place for downloads: Read-only file system; set DEEPLAB_DOWNLOADS"
    out.unlink()
    fails(site.serve("/other", file()), out, message, downloads.CacheError, cache=folder)


def test_a_cache_that_is_no_folder_is_an_error(site, out, original):
    message = rf"^archives\.voc2012: {original}/x: no place for downloads: Not a directory; set"
    url = site.serve("/file", file())
    fails(url, out, message, downloads.CacheError, cache=original / "x")


def test_the_cache_is_the_main_repositorys_or_where_the_user_wants_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert downloads.folder() == tmp_path / "downloads"
    monkeypatch.setenv("DVC_ROOT", str(tmp_path / "main"))
    assert downloads.folder() == tmp_path / "main/downloads"
    monkeypatch.setenv(downloads.VARIABLE, "shared")
    assert downloads.folder() == tmp_path / "main/shared"
    monkeypatch.setenv(downloads.VARIABLE, str(tmp_path / "elsewhere"))
    assert downloads.folder() == tmp_path / "elsewhere"


# DVC


class Project:
    """A repository with the fetch stage alone, and the real `dvc`."""

    def __init__(self, folder, url):
        self.folder = folder
        self.out = folder / "archives/voc2012"
        ignored = shutil.ignore_patterns("__pycache__")
        for name in ("pipeline", "stages", ".dvcignore", ".gitignore"):
            source = ROOT / name
            if source.is_dir():
                shutil.copytree(source, folder / name, ignore=ignored)
            else:
                shutil.copy(source, folder / name)
        document = yaml.safe_load((ROOT / "dvc.yaml").read_text())
        document["stages"] = {"fetch": document["stages"]["fetch"]}
        (folder / "dvc.yaml").write_text(yaml.safe_dump(document, sort_keys=False))
        (folder / "params.yaml").write_text(yaml.safe_dump({"archives": {"voc2012": {"url": url}}}))
        self.run("git init -q")
        self.run("dvc init -q")
        shutil.copy(ROOT / ".dvc/config", folder / ".dvc/config")
        self.run("git add -A")
        self.run("git commit -qm project")

    def run(self, command):
        people = [
            f"GIT_{who}_{what}" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")
        ]
        names = dict.fromkeys(people, "a@b.invalid")
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        done = subprocess.run(
            command.split(),
            cwd=self.folder,
            env=os.environ | names | {"PATH": path},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        return done.stdout + done.stderr

    @property
    def kept(self):
        """The finished file in the download cache."""
        (path,) = (p for p in (self.folder / "downloads").iterdir() if re.search("-[^.]*$", p.name))
        return path

    @property
    def object(self):
        """DVC's own copy."""
        digest = hashlib.md5(CONTENT).hexdigest()
        return self.folder / ".dvc/cache/files/md5" / digest[:2] / digest[2:]


def can_share_blocks(folder):
    """Whether files can be cloned here, which DVC then does in place of links."""
    (folder / "a").write_bytes(b"a")
    command = ["cp", "--reflink=always", folder / "a", folder / "b"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def test_dvc_fetches_again_without_a_download_and_shares_no_byte_that_is_written(site, tmp_path):
    url = site.serve("/file", file())
    project = Project(tmp_path, url)
    project.run("dvc repro")
    names = [project.out, project.object, project.kept]
    assert [path.read_bytes() == CONTENT for path in names] == [True] * 3
    assert [path.stat().st_mode & 0o777 for path in names] == [0o444] * 3
    if not can_share_blocks(tmp_path):
        assert len({path.stat().st_ino for path in names}) == 1  # the disk holds it once

    # An edit of a drawing runs the stage again, which costs a hash.
    drawing = next((tmp_path / "pipeline/originals/drawing").glob("[a-z]*.py"))
    drawing.write_text(drawing.read_text() + "# edited\n")
    assert "Running stage 'fetch@voc2012'" in project.run("dvc repro")
    assert len(site.asked) == 1

    # What is unprotected for an edit is a copy.
    project.run("dvc unprotect archives/voc2012")
    with project.out.open("ab") as opened:
        opened.write(b"edited")
    assert project.object.read_bytes() == project.kept.read_bytes() == CONTENT
    project.run("dvc checkout --force")
    assert project.out.read_bytes() == CONTENT

    # Neither needs the other.
    shutil.rmtree(tmp_path / ".dvc/cache")
    project.out.unlink()
    assert project.kept.read_bytes() == CONTENT
    project.run("dvc repro")
    shutil.rmtree(tmp_path / "downloads")
    assert project.object.read_bytes() == project.out.read_bytes() == CONTENT
    assert len(site.asked) == 1


def test_dvc_experiments_share_downloads_and_take_one_path_in_place_of_mirrors(site, tmp_path):
    mirrors = [site.address + "/missing", site.serve("/file", file())]
    folder = tmp_path / "project"
    folder.mkdir()
    project = Project(folder, [f"{url}#{MD5}" for url in mirrors])
    project.run("dvc exp run --temp")
    assert project.kept.read_bytes() == CONTENT
    asked = len(site.asked)
    project.run("dvc repro --no-run-cache")
    assert project.out.read_bytes() == CONTENT
    assert len(site.asked) == asked == 2
    other = tmp_path / "other.tar"
    other.write_bytes(b"another file than the checksum's")
    project.run(f"dvc exp run -S archives.voc2012.url={other}")
    assert project.out.read_bytes() == other.read_bytes()
    document = yaml.safe_load((folder / "params.yaml").read_text())
    assert document["archives"]["voc2012"]["url"] == str(other)
    assert "downloads" not in project.run("git status --porcelain")
