"""Where a teacher may be: a recipe from elsewhere must not send this machine's keys or rows to any host it likes.

The owner of the machine says which hosts are allowed: a shipped list of public services, the loopback, and what stands
in the environment variable LUTHIER_TEACHER_HOSTS. A public name that leads to a private address is refused, and the
connection goes to the addresses that were checked, so that a second answer of the name service changes nothing. A
public service is given its own key and no other: a recipe cannot send the key of one service to another.

Where the environment names a proxy (HTTPS_PROXY, NO_PROXY), public hosts are asked through it. The proxy then finds the
address, so it is not checked here; what is left is the list of hosts and the certificate of the name.
"""

from __future__ import annotations

import ipaddress
import os
import socket
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any
from urllib.parse import SplitResult, urlsplit

from luthier.errors import UserError

HOSTS = "LUTHIER_TEACHER_HOSTS"
PLACE = "teacher.url"
AUTO = "auto"
Resolve = Callable[[str, int], Sequence[str]]


@dataclass(frozen=True)
class Address:
    """A checked endpoint.

    Attributes:
        url: as the recipe has it, without a slash at its end. host: its name.
        connect: the same URL with each checked numeric address in place of the name, in the order to try them.
        name: host and port as in the URL, for the Host header.
        variable: of the shipped key; "" for a host of the owner's and for the loopback. public: on the shipped list.
        proxy: through which it is asked; may hold a password, so never shown.
    """

    url: str
    host: str
    connect: tuple[str, ...]
    name: str
    variable: str = ""
    public: bool = False
    proxy: str | None = field(default=None, repr=False)


def resolve_name(host: str, port: int) -> list[str]:
    """Return the numeric addresses of a host, the best first."""
    found = socket.getaddrinfo(host, port, proto=socket.IPPROTO_TCP)
    return list(dict.fromkeys(str(one[4][0]) for one in found))


def check(url: str, resolve: Resolve = resolve_name) -> Address:
    """Return the address of an endpoint that may be asked.

    Args:
        url: such as https://api.openai.com/v1. resolve: host and port to numeric addresses.

    Raises:
        UserError: no http(s) URL, credentials in it, a host that is not allowed, a name that does not resolve, or a
            public name that leads to a private address.
    """
    parts, host, port = _parts(url)
    own = {one.strip().lower() for one in os.environ.get(HOSTS, "").split(",") if one.strip()}
    trusted = host in own or f"{host}:{port}" in own
    loopback, variable = host in _shipped()["loopback"], str(_shipped()["public"].get(host, ""))
    if not (trusted or loopback or variable):
        raise UserError(
            f"This machine does not allow asking {host}.",
            PLACE,
            f"If you trust it with your key and your rows: {HOSTS}={host} luthier …",
        )
    if parts.scheme == "http" and not (trusted or loopback):
        raise UserError(f"Keys and rows would travel to {host} unencrypted.", PLACE, "Use https.")
    name, path = parts.netloc.lower(), parts.path.rstrip("/")
    whole = f"{parts.scheme}://{name}{path}"
    proxy = None if loopback or parts.scheme == "http" else _proxy(host)
    if proxy:
        return Address(whole, host, (whole,), name, variable, bool(variable), proxy)
    found = _numeric(host, port, resolve, trusted, loopback)
    shown = [f"[{one}]" if ":" in one else one for one in found]
    connect = tuple(f"{parts.scheme}://{one}:{port}{path}" for one in shown)
    return Address(whole, host, connect, name, variable, bool(variable))


def secret(key: str | None, address: Address) -> str:
    """Return the key of an endpoint from the environment, "" where it takes none.

    Args:
        key: name of the variable; "auto": that of the public service; None: no key. address: of the endpoint.

    Raises:
        UserError: the variable is not set, holds no key, or is that of another service.
    """
    variable = address.variable if key == AUTO else key
    if not variable:
        return ""
    if address.public and variable != address.variable:
        raise UserError(
            f"{address.host} is given the key in {address.variable} and no other, and the recipe names {variable}.",
            "teacher.key",
            f"Remove teacher.key, or put the key of {address.host} into {address.variable}.",
        )
    found = os.environ.get(variable, "").strip()
    if not found or not found.isascii() or not found.isprintable() or " " in found:
        holds = "holds no key" if not found else "holds something that is no key"
        raise UserError(
            f"The environment variable {variable} {holds}.", "teacher.key", f"export {variable}=…, then run again."
        )
    return found


def _parts(url: str) -> tuple[SplitResult, str, int]:
    """Return the parts of a URL, its host and its port. A URL that may hold a password is not shown."""
    try:
        parts = urlsplit(url)
        host = (parts.hostname or "").lower()
        port = parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError as error:
        raise UserError("This is no address of an endpoint.", PLACE, "Give one such as https://host/v1.") from error
    if parts.username is not None or parts.password is not None:
        raise UserError("The address holds a user or a password.", PLACE, "Name the variable of the key: teacher.key.")
    if parts.query or parts.fragment:
        raise UserError("The address ends in ? or #.", PLACE, "Give the base address, such as https://host/v1.")
    if parts.scheme not in ("http", "https") or not host:
        raise UserError(f"{url!r} is no address of an endpoint.", PLACE, "Give one such as https://api.openai.com/v1.")
    return parts, host, port


def _numeric(host: str, port: int, resolve: Resolve, trusted: bool, loopback: bool) -> list[str]:
    try:
        found = list(resolve(host, port))
    except (OSError, UnicodeError) as error:
        raise UserError(f"{host} cannot be found: {error}.", PLACE, "Check the name and the network.") from error
    if not found:
        raise UserError(f"{host} has no address.", PLACE, "Check the name and the network.")
    for one in found:
        if loopback and not _bare(one).is_loopback:
            raise UserError(f"{host} leads to {one}, which is not this machine.", PLACE, "Check /etc/hosts.")
        if not (trusted or loopback or _is_public(one)):
            raise UserError(
                f"{host} leads to {one}, an address inside a private network.",
                PLACE,
                f"If that is meant: {HOSTS}={host} luthier …",
            )
    return found


def _is_public(numeric: str) -> bool:
    one = _bare(numeric)
    return one.is_global and not one.is_multicast


def _bare(numeric: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """Return an address without its zone; an IPv4 address that stands in an IPv6 one is itself."""
    one = ipaddress.ip_address(numeric.partition("%")[0])
    if isinstance(one, ipaddress.IPv6Address):
        inside = one.ipv4_mapped or one.sixtofour
        if one in NAT64:
            inside = ipaddress.IPv4Address(int(one) & 0xFFFFFFFF)
        return inside or one
    return one


NAT64 = ipaddress.ip_network("64:ff9b::/96")


def _proxy(host: str) -> str | None:
    """Return the proxy that the environment names for a host."""
    if urllib.request.proxy_bypass(host):
        return None
    found: Mapping[str, str] = urllib.request.getproxies_environment()
    return found.get("https") or found.get("all")


@cache
def _shipped() -> dict[str, Any]:
    import yaml

    found: dict[str, Any] = yaml.safe_load(
        files("luthier.models.remote").joinpath("hosts.yaml").read_text(encoding="utf-8")
    )
    return found
