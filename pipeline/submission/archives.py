"""A submission's archive: packed so that equal label maps give equal bytes, and read back whole."""

import gzip
import io
import tarfile
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path

# The earliest that a zip can hold; a tar's is 1970.
_ZIP_TIME = (1980, 1, 1, 0, 0, 0)


def write(path: Path, suffix: str, members: Iterable[tuple[str, bytes]]) -> None:
    """Writes (name, content) of each member, in this order, without times or owners.

    Args:
        path: of the archive.
        suffix: ".tgz" or ".zip", which says what kind it is.
        members: taken one at a time.
    """
    if suffix == ".tgz":
        with (
            path.open("wb") as file,
            gzip.GzipFile("", "wb", fileobj=file, mtime=0) as packed,
            tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as tar,
        ):
            for name, content in members:
                entry = tarfile.TarInfo(name)
                entry.size = len(content)
                tar.addfile(entry, io.BytesIO(content))
    else:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:  # a PNG is packed already
            for name, content in members:
                entry_ = zipfile.ZipInfo(name, _ZIP_TIME)
                entry_.external_attr = 0o644 << 16
                archive.writestr(entry_, content)


def read(path: Path, suffix: str) -> Iterable[tuple[str, bytes]]:
    """Yields (name, content) of each file in an archive, folders left out.

    Raises:
        ValueError: not an archive of that kind, or a damaged one.
    """
    try:
        if suffix == ".tgz":
            with tarfile.open(path, "r:gz") as tar:
                for entry in tar:
                    content = tar.extractfile(entry) if entry.isfile() else None
                    if content is not None:
                        yield entry.name, content.read()
                    elif not entry.isdir():
                        raise ValueError(f"{path}: {entry.name} is neither a file nor a folder")
        else:
            with zipfile.ZipFile(path) as archive:
                for name in archive.namelist():
                    if not name.endswith("/"):
                        yield name, archive.read(name)
    except (tarfile.TarError, zipfile.BadZipFile, EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"{path}: not a {suffix} archive, or a damaged one: {error}") from error
