import stat
import struct
import warnings
import zipfile
import zlib

import packing
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.originals import zip_archive

FILES = {"a/1.txt": b"one", "a/2.txt": b"", "b.bin": bytes(range(256)) * 20}
CENTRAL = b"PK\x01\x02"


@pytest.fixture
def path(tmp_path):
    return tmp_path / "original.zip"


def stored(path, content):
    path.write_bytes(content)
    return path


def read_all(path):
    members = zip_archive.index(path)
    return {name: zip_archive.read(path, name, member) for name, member in members.items()}


def stream_all(path):
    contents = {}
    for name, member in zip_archive.index(path).items():
        with zip_archive.opened(path, name, member) as stream:
            contents[name] = stream.read()
    return contents


def changed(content, place, form, value):
    whole = bytearray(content)
    struct.pack_into(form, whole, place, value)
    return bytes(whole)


def directory_changed(content, offset, form, value):
    """With a field of the first member changed in the archive's directory."""
    return changed(content, content.index(CENTRAL) + offset, form, value)


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("read", [read_all, stream_all])
def test_members_are_read_whether_compressed_or_not(path, compression, read):
    assert read(stored(path, packing.zipped(FILES, compression))) == FILES


def test_members_come_in_the_order_of_their_bytes(path):
    content = packing.zipped({"b": b"1", "a": b"2"})
    assert list(zip_archive.index(stored(path, content))) == ["b", "a"]


def test_names_have_no_leading_dot(path):
    assert read_all(stored(path, packing.zipped({"./a": b"1"}))) == {"a": b"1"}


def test_a_member_larger_than_a_chunk_is_read_in_pieces(path):
    large = bytes(range(251)) * 20_000  # 5 MB: 251 is prime, so pieces differ
    stored(path, packing.zipped({"large": large}))
    assert read_all(path) == stream_all(path) == {"large": large}


def test_links_and_folders_are_passed_over(path):
    with zipfile.ZipFile(path, "w") as archive:
        link = zipfile.ZipInfo("link")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "/etc/passwd")
        archive.mkdir("folder")
        archive.writestr("folder/file", b"1")
    assert read_all(path) == {"folder/file": b"1"}


def test_zip64_is_read(path):
    with zipfile.ZipFile(path, "w") as archive, archive.open("a", "w", force_zip64=True) as file:
        file.write(b"large")
    assert read_all(path) == {"a": b"large"}


def test_a_prefix_of_the_archive_moves_its_members(path):
    content = packing.zipped(FILES)
    assert read_all(stored(path, b"PK, said the self-extractor" + content)) == FILES


@pytest.mark.parametrize("name", ["/etc/passwd", "../up", "a/../../up", ".."])
def test_a_name_that_leads_out_of_the_archive_is_an_error(path, name):
    stored(path, packing.zipped({name: b"1"}))
    with pytest.raises(ValueError, match=r"original\.zip: member '.*' leads out of the archive"):
        zip_archive.index(path)


def test_two_members_of_one_name_are_an_error(path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        stored(path, packing.zipped([("a", b"1"), ("./a", b"2")]))
    with pytest.raises(ValueError, match=r"original\.zip: member a occurs twice"):
        zip_archive.index(path)


def test_an_encrypted_member_is_an_error(path):
    stored(path, directory_changed(packing.zipped(FILES), 8, "<H", 1))
    with pytest.raises(ValueError, match=r"original\.zip: a/1\.txt is encrypted"):
        zip_archive.index(path)


def test_a_rare_compression_is_an_error(path):
    stored(path, packing.zipped(FILES, zipfile.ZIP_LZMA))
    with pytest.raises(ValueError, match=r"a/1\.txt is compressed by method 14, which is neither"):
        zip_archive.index(path)


def test_a_name_that_is_no_utf_8_is_an_error(path):
    content = packing.zipped({"ä": b"1"})
    stored(path, content.replace("ä".encode(), b"\xff\xfe"))
    with pytest.raises(ValueError, match=r"original\.zip: a member's name is not UTF-8"):
        zip_archive.index(path)


@pytest.mark.parametrize("read", [read_all, stream_all])
def test_a_member_larger_than_it_tells_is_an_error_before_it_fills_memory(path, read):
    bomb = packing.zipped({"bomb": bytes(50 << 20)})
    stored(path, directory_changed(bomb, 24, "<I", 1 << 20))
    with pytest.raises(ValueError, match="bomb is larger than the 1048576 bytes it tells"):
        read(path)


def test_a_member_that_tells_of_gigabytes_is_not_read_into_memory(path):
    stored(path, directory_changed(packing.zipped({"a": b"1"}), 24, "<I", 3 << 30))
    with pytest.raises(ValueError, match="a has 3221225472 bytes, more than the limit of 268435"):
        read_all(path)


def test_a_member_smaller_than_it_tells_is_an_error(path):
    stored(path, directory_changed(packing.zipped({"a": b"1"}), 24, "<I", 2))
    with pytest.raises(ValueError, match=r"a is damaged: 1 bytes with checksum .*, expected 2 w"):
        read_all(path)


def test_a_changed_byte_is_found_by_the_checksum(path):
    content = packing.zipped({"a": b"one"}, zipfile.ZIP_STORED)
    stored(path, content.replace(b"one", b"two"))
    expected = f"{zlib.crc32(b'one'):08x}"
    with pytest.raises(
        ValueError, match=rf"original\.zip: a is damaged: .*, expected 3.*{expected}"
    ):
        read_all(path)


def test_a_member_that_is_not_where_it_should_be_is_an_error(path):
    stored(path, directory_changed(packing.zipped(FILES), 42, "<I", 7))
    with pytest.raises(ValueError, match=r"a/1\.txt is damaged: it has no header where it should"):
        read_all(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a zip archive: it is empty"),
        (b"<!DOCTYPE html>", "not a zip archive: it begins with b'<!DOCTYP'"),
        (packing.tar(FILES), "not a zip archive: it begins with"),
        (packing.zipped(FILES)[:-30], "not a zip archive, or one cut short"),
        (packing.zipped(FILES)[:100], "not a zip archive, or one cut short"),
    ],
)
def test_what_is_no_zip_is_an_error_that_names_the_file(path, content, message):
    with pytest.raises(ValueError, match=rf"original\.zip: {message}"):
        zip_archive.index(stored(path, content))


def test_a_missing_file_is_an_error_that_names_it(path):
    with pytest.raises(FileNotFoundError, match=r"original\.zip"):
        zip_archive.index(path)


@settings(
    max_examples=400,
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
def test_no_damaged_zip_ends_in_another_error_or_writes_a_file(path, data):
    compression = data.draw(st.sampled_from([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED]))
    content = bytearray(packing.zipped(FILES, compression))
    tail = content.index(CENTRAL)  # half of the damage goes where it hurts
    for _ in range(data.draw(st.integers(1, 5))):
        first = data.draw(st.sampled_from([0, tail]))
        content[data.draw(st.integers(first, len(content) - 1))] = data.draw(st.integers(0, 255))
    content = content[: data.draw(st.integers(0, len(content)) | st.just(len(content)))]
    stored(path, bytes(content))
    for read in (read_all, stream_all):
        try:
            read(path)
        except ValueError as error:
            assert str(path) in str(error)  # noqa: PT017
            assert "\n" not in str(error)  # noqa: PT017
    assert list(path.parent.iterdir()) == [path]


def test_what_is_too_large_to_be_read_is_streamed(path):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("zeros", bytes(257 << 20))
    ((name, member),) = zip_archive.index(path).items()
    with pytest.raises(ValueError, match="zeros has 269484032 bytes, more than the limit of"):
        zip_archive.read(path, name, member)
    with zip_archive.opened(path, name, member) as stream:
        assert sum(len(piece) for piece in iter(lambda: stream.read(1 << 16), b"")) == 257 << 20


@pytest.mark.parametrize("offset", [0xFFFFFFF0, 5000])
def test_a_member_beyond_the_end_of_the_file_is_an_error(path, offset):
    stored(path, directory_changed(packing.zipped({"a": b"1"}), 42, "<I", offset))
    with pytest.raises(ValueError, match=r"a stands outside of the file|cut short"):
        zip_archive.index(path)
