"""Login: what proves to a server that the user may read a file. It is sent to the host that it is for alone.

Every redirect asks again, so no login follows a redirect to another host.
"""

import logging
import netrc
import os
import re
from collections.abc import Generator
from pathlib import Path

import httpx2

from models.errors import InputError

log = logging.getLogger(__name__)

HUB = "https://huggingface.co"
HUB_ENDPOINT, HUB_TOKEN = "HF_ENDPOINT", "HF_TOKEN"  # the variables that the hub's own tools read


class _Bearer(httpx2.Auth):
    def __init__(self, token: str) -> None:
        self._token = token

    def auth_flow(self, request: httpx2.Request) -> Generator[httpx2.Request, httpx2.Response, None]:
        request.headers["Authorization"] = f"Bearer {self._token}"
        yield request


def login_for(url: httpx2.URL) -> httpx2.Auth | None:
    """The login for an address: the hub's token, or the username and password in the user's netrc file.

    Raises:
        InputError: the address is on the hub, and the value of HF_TOKEN is not a token.
    """
    if url.userinfo:
        return None  # the HTTP client takes the login from the address
    if _is_on_hub(url) and (token := hub_token()):
        return _Bearer(token)
    return _netrc_login(url)


def hub_url() -> httpx2.URL:
    """The address of the Hugging Face hub, or of the mirror in the variable HF_ENDPOINT.

    Raises:
        InputError: the variable contains no address.
    """
    text = os.environ.get(HUB_ENDPOINT, "").strip().rstrip("/") or HUB
    try:
        url = httpx2.URL(text)
    except (httpx2.InvalidURL, ValueError):
        url = httpx2.URL("")
    if url.scheme not in ("http", "https") or not url.host:
        raise InputError(
            f"the variable {HUB_ENDPOINT} contains no http(s) address: unset it, or set it to one such as "
            f"{HUB}"
        )
    return url


def hub_token() -> str:
    """The hub's token in the variable HF_TOKEN; "" if it is not set.

    Raises:
        InputError: the variable contains something that cannot be sent. (The HTTP client's own message
            would show it.)
    """
    token = os.environ.get(HUB_TOKEN, "").strip()
    if not re.fullmatch(r"[\x21-\x7e]*", token):
        raise InputError(
            f"the value of the variable {HUB_TOKEN} is not a token: unset it, or set it to one of "
            f"{HUB}/settings/tokens"
        )
    return token


def _is_on_hub(url: httpx2.URL) -> bool:
    try:
        hub = hub_url()
    except InputError:
        return False
    return (url.scheme, url.host, url.port) == (hub.scheme, hub.host, hub.port)


def _netrc_login(url: httpx2.URL) -> httpx2.Auth | None:
    """The username and password for the host, from ~/.netrc or from the file that NETRC names."""
    path = Path(os.environ.get("NETRC") or "~/.netrc").expanduser()
    try:
        found = netrc.netrc(path).hosts.get(url.host)  # unknown hosts must not get the `default` login
    except FileNotFoundError:
        return None
    except (OSError, UnicodeError, netrc.NetrcParseError) as error:
        reason = getattr(error, "msg", None) or getattr(error, "strerror", None) or "it is not a text file"
        log.warning("%s is ignored: %s", path, reason)
        return None
    return httpx2.BasicAuth(found[0], found[2] or "") if found else None
