"""The files of the Cityscapes site, which gives them to those who log in.

The requests are those of the data set's own downloader, which a test holds them to. That one asks
at the terminal, has no timeout and appends to a file whatever comes; the files are up to 44 GB, so
the transfer is ours. User name and password come from the environment alone and leave it for the
login alone.

Source: cityscapesscripts 2.3.0, cityscapesscripts/download/downloader.py.
"""

import os
import re
from typing import NamedTuple

import requests

from pipeline.originals import transfer
from pipeline.originals.transfer import Limits

SITE = "https://www.cityscapes-dataset.com"
USERNAME_VARIABLE = "CITYSCAPES_USERNAME"
PASSWORD_VARIABLE = "CITYSCAPES_PASSWORD"


class Package(NamedTuple):
    """A file of the site: its id there, and its published MD5."""

    id: str
    md5: str


def find(name: str, site: str, limits: Limits) -> Package:
    """Finds a file by its name, in one attempt.

    Raises:
        ValueError: no credentials, wrong ones, or no such file for this account.
        AttemptError: the site could not be reached.
    """
    session = _login(site, limits)
    listed = _packages(_get(session, f"{site}/downloads/?list", limits))
    if name not in listed:
        names = ", ".join(sorted(listed)) or "none"
        raise ValueError(f"the site does not offer it to this account; it offers {names}")
    answer = _get(session, f"{site}/md5-sum/?packageID={listed[name]}", limits).text.split()
    if not answer or not re.fullmatch("[0-9a-f]{32}", answer[0]):
        raise ValueError("the site told no MD5 of it")
    return Package(listed[name], answer[0])


def open_(
    package: Package, site: str, headers: dict[str, str], limits: Limits
) -> requests.Response:
    """Asks for a file's bytes; logs in anew, as a session may not outlast a long transfer.

    Raises:
        ValueError: no credentials, wrong ones, or no right to the file.
        AttemptError: the site could not be reached.
    """
    response = _login(site, limits).get(
        f"{site}/file-handling/?packageID={package.id}",
        headers=headers,
        stream=True,
        allow_redirects=False,
        timeout=limits.timeouts,
    )
    if response.is_redirect:
        response.close()
        raise ValueError(f"the site sends us to {response.headers['Location']} in its place")
    return response


def _login(site: str, limits: Limits) -> requests.Session:
    credentials = {
        "username": os.environ.get(USERNAME_VARIABLE, ""),
        "password": os.environ.get(PASSWORD_VARIABLE, ""),
    }
    if not all(credentials.values()):
        raise ValueError(
            f"needs an account of {site}: set {USERNAME_VARIABLE} and {PASSWORD_VARIABLE} in the "
            "environment"
        )
    session = requests.Session()
    _get(session, f"{site}/login", limits)
    with transfer.reaching():
        response = session.post(
            f"{site}/login",
            data=credentials | {"submit": "Login"},
            allow_redirects=False,
            timeout=limits.timeouts,
        )
    if response.status_code == 200:  # the form again; who is logged in is sent elsewhere
        raise ValueError(f"the site does not take {USERNAME_VARIABLE} and {PASSWORD_VARIABLE}")
    if response.status_code != 302:
        transfer.refuse(response)
    return session


def _get(session: requests.Session, url: str, limits: Limits) -> requests.Response:
    with transfer.reaching():
        response = session.get(url, allow_redirects=False, timeout=limits.timeouts)
    if response.status_code != 200:
        transfer.refuse(response)
    return response


def _packages(response: requests.Response) -> dict[str, str]:
    """Ids by name, from [{"name": ..., "packageID": ...}, ...]."""
    try:
        return {str(package["name"]): str(package["packageID"]) for package in response.json()}
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError("the site's list of files is of another form than expected") from error
