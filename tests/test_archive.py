import gzip
import io
import tarfile

import packing
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.originals import archive

FILES = {"a/1.txt": b"one", "a/2.txt": b"", "b.bin": bytes(range(256)) * 5}
BAD = "not a tar archive, or a damaged one"


@pytest.fixture
def path(tmp_path):
    return tmp_path / "original.tar"


def stored(path, content):
    path.write_bytes(content)
    return path


def streamed(path):
    return list(archive.stream(path, lambda name: True))


def read_all(path):
    return {name: archive.read(path, member) for name, member in archive.index(path).items()}


@st.composite
def damaged(draw, content):
    """The content with a few bytes changed, or cut short."""
    changed = bytearray(content)
    for _ in range(draw(st.integers(1, 4))):
        changed[draw(st.integers(0, len(changed) - 1))] = draw(st.integers(0, 255))
    return bytes(changed[: draw(st.integers(0, len(changed)))])


def test_members_of_a_plain_tar_are_read_at_random(path):
    assert read_all(stored(path, packing.tar(FILES))) == FILES


@pytest.mark.parametrize("pack", [packing.tar, packing.tgz])
def test_members_are_streamed_in_the_order_of_the_archive(path, pack):
    assert streamed(stored(path, pack(FILES))) == list(FILES.items())


def test_only_wanted_members_are_streamed(path):
    stored(path, packing.tgz(FILES))
    assert list(archive.stream(path, {"b.bin"}.__contains__)) == [("b.bin", FILES["b.bin"])]


def test_names_have_no_leading_dot(path):
    stored(path, packing.tar({"./a/1.txt": b"one"}))
    assert list(archive.index(path)) == ["a/1.txt"]
    assert streamed(path) == [("a/1.txt", b"one")]


def test_names_beyond_a_hundred_characters_are_read(path):
    name = "folder/" * 30 + "file"
    assert read_all(stored(path, packing.tar({name: b"deep"}))) == {name: b"deep"}


def test_links_and_folders_are_passed_over(path):
    with tarfile.open(path, "w") as tar:
        for name, kind in (("link", tarfile.SYMTYPE), ("hard", tarfile.LNKTYPE)):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, "file"
            tar.addfile(member)
        folder = tarfile.TarInfo("folder")
        folder.type = tarfile.DIRTYPE
        tar.addfile(folder)
        tar.addfile(tarfile.TarInfo("file"), io.BytesIO())
    assert list(archive.index(path)) == ["file"]
    assert streamed(path) == [("file", b"")]


@pytest.mark.parametrize("name", ["/etc/passwd", "../up", "a/../../up", ".."])
def test_a_name_that_leads_out_of_the_archive_is_an_error(path, name):
    stored(path, packing.tar({name: b"1"}))
    for reader in (archive.index, streamed):
        with pytest.raises(ValueError, match=r"original\.tar: member '.*' leads out of the arch"):
            reader(path)


def test_two_members_of_one_name_are_an_error(path):
    stored(path, packing.tar([("a", b"1"), ("./a", b"2")]))
    with pytest.raises(ValueError, match=r"original\.tar: member a occurs twice"):
        archive.index(path)
    with pytest.raises(ValueError, match=r"original\.tar: member a occurs twice"):
        streamed(path)


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"PK\x03\x04....", "a zip archive"),
        (b"BZh91AY&SY", "bzip2-compressed"),
        (b"\xfd7zXZ\x00\x00\x04", "xz-compressed"),
        (b"<!DOCTYPE html><html>", "a web page"),
    ],
)
def test_another_kind_of_file_is_called_by_its_name(path, content, kind):
    with pytest.raises(ValueError, match=rf"original\.tar: not a tar archive but {kind}"):
        archive.index(stored(path, content))
    with pytest.raises(ValueError, match=rf"original\.tar: not a tar archive but {kind}"):
        streamed(path)


def test_a_compressed_tar_has_no_index(path):
    with pytest.raises(ValueError, match="is gzip-compressed; expected a plain tar"):
        archive.index(stored(path, packing.tgz(FILES)))


@pytest.mark.parametrize(
    "content", [b"", b"no tar at all, " * 99, gzip.compress(b"no tar", mtime=0)]
)
def test_what_is_no_tar_is_an_error_that_names_the_file(path, content):
    with pytest.raises(ValueError, match=rf"original\.tar: {BAD}"):
        streamed(stored(path, content))


def test_a_missing_file_is_an_error_that_names_it(path):
    with pytest.raises(FileNotFoundError, match=r"original\.tar"):
        archive.index(path)


@pytest.mark.parametrize("size", [100, 512 + 1, 512 * 4 + 300, 512 * 5])
def test_a_tar_cut_within_a_header_or_a_content_is_an_error(path, size):
    stored(path, packing.tar(FILES)[:size])
    with pytest.raises(ValueError, match=BAD):
        archive.index(path)
    with pytest.raises(ValueError, match=BAD):
        streamed(path)


def test_a_damaged_header_is_not_taken_for_the_end(path):
    content = bytearray(packing.tar(FILES))
    content[1024] ^= 1  # a/2.txt's header, behind that and the content of a/1.txt
    with pytest.raises(ValueError, match="bad checksum"):
        archive.index(stored(path, bytes(content)))


def test_a_negative_size_does_not_send_the_reader_round_and_round(path):
    header = bytearray(packing.tar({"a": b""})[:512])
    header[124:136] = b"\xff" * 10 + b"\xfe\x00"  # base 256: -512
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    with pytest.raises(ValueError, match="a has size -512"):
        archive.index(stored(path, bytes(header) + bytes(1024)))


def test_a_member_that_would_fill_memory_is_an_error(path):
    with gzip.open(path, "wb", compresslevel=1) as file:
        header = tarfile.TarInfo("zeros")
        header.size = 300 << 20
        file.write(header.tobuf())
        file.write(bytes(1024))
    with pytest.raises(ValueError, match=r"zeros has 314572800 bytes, more than the limit of 2684"):
        streamed(path)


def test_a_gzip_cut_short_is_an_error(path):
    content = packing.tgz(FILES)
    with pytest.raises(ValueError, match="ended before the end-of-stream marker"):
        streamed(stored(path, content[:-9]))


def test_gzips_checksum_is_compared_even_behind_the_last_member(path):
    content = bytearray(packing.tgz(FILES))
    content[-5] ^= 1
    with pytest.raises(ValueError, match="CRC check failed"):
        streamed(stored(path, bytes(content)))


def fuzz(strategy):
    """Bad bytes give ValueError or, where they hit nothing that matters, some members."""
    quiet = settings(
        max_examples=150,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=[HealthCheck.function_scoped_fixture],
    )
    return lambda test: quiet(given(content=strategy)(test))


@fuzz(damaged(packing.tar(FILES)))
def test_no_damaged_tar_ends_in_another_error_than_one_that_names_it(path, content):
    stored(path, content)
    for reader in (read_all, streamed):
        try:
            reader(path)
        except ValueError as error:
            assert str(path) in str(error)  # noqa: PT017


@fuzz(damaged(packing.tgz(FILES)) | st.binary(max_size=2000))
def test_no_damaged_gzip_ends_in_another_error_than_one_that_names_it(path, content):
    stored(path, content)
    try:
        streamed(path)
    except ValueError as error:
        assert str(path) in str(error)  # noqa: PT017


def test_ids_are_read_line_by_line_whatever_the_line_ends():
    assert archive.read_ids(b"2007_000032\r\n2007_000039\n\n", "list") == [
        "2007_000032",
        "2007_000039",
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "train.txt: lists no image"),
        (b"\n \n", "train.txt: lists no image"),
        (b"a\nb\na\n", "train.txt: a is listed twice"),
        (b"a 1\n", "train.txt: 'a 1' is not an image id"),
        (b"../a\n", "train.txt: '../a' is not an image id"),
        (b".\n", "train.txt: '.' is not an image id"),
        (b"\xff\xfe\n", "is not an image id"),
    ],
)
def test_a_list_that_is_none_is_an_error(content, message):
    with pytest.raises(ValueError, match=message):
        archive.read_ids(content, "train.txt")
