"""Fetching an image from a host that the configuration allows: public addresses only, no redirects, a size, a time."""

import asyncio
import ipaddress
import socket
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from residency.platform.serving.refusals import Refusal

SECONDS = 10.0


def check_address(address: str) -> None:
    """Raises OSError for an address that is not one of the public internet: loopback, private, link-local, …"""
    if not ipaddress.ip_address(address).is_global:
        raise OSError(f"{address} is no public address")


class PublicResolver(AbstractResolver):
    """Names to public addresses. The connection goes to what was checked: no second look-up in between."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM, family=family)
        results = []
        for kind, _, protocol, _, address in found:
            check_address(str(address[0]))
            results.append(
                ResolveResult(
                    hostname=host,
                    host=str(address[0]),
                    port=port,
                    family=kind,
                    proto=protocol,
                    flags=socket.AI_NUMERICHOST,
                )
            )
        return results

    async def close(self) -> None:
        """Nothing is held."""


async def fetch_image(url: str, hosts: Sequence[str], most_bytes: int, resolver: Any = None) -> bytes:
    """The bytes behind an https address; raises Refusal (400) where it may not or cannot be fetched."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        host, port, parts = "", None, urlsplit("")
    if parts.scheme != "https" or host not in hosts or port not in (None, 443) or parts.username is not None:
        raise _refused(f"{host[:100] or 'this address'} is not allowed")
    try:
        check_address(host)  # a literal address is not resolved, so it is looked at here
    except OSError as error:
        raise _refused(str(error)) from error
    except ValueError:
        pass  # a name: the resolver looks at its addresses
    connector = aiohttp.TCPConnector(resolver=resolver or PublicResolver(), use_dns_cache=False)
    timeout = aiohttp.ClientTimeout(total=SECONDS)
    try:
        async with (
            aiohttp.ClientSession(connector=connector, timeout=timeout, trust_env=False) as session,
            session.get(url, allow_redirects=False) as answer,
        ):
            if answer.status != 200:
                raise _refused(f"{host} answered {answer.status}")
            data = await answer.content.read(most_bytes + 1)
            while len(data) <= most_bytes and (more := await answer.content.read(most_bytes + 1 - len(data))):
                data += more
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        raise _refused(f"{host} cannot be reached ({type(error).__name__})") from error
    if len(data) > most_bytes:
        raise _refused(f"the image of {host} is larger than {most_bytes // 2**20} MiB")
    return data


def _refused(why: str) -> Refusal:
    return Refusal(400, "image_not_allowed", f"The image was not fetched: {why}.", "messages")
