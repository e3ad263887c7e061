"""Calls a webhook over HTTP: connections, proxy, certificates, time limits, which hosts.

One client serves one subscription, so that what is configured for one target, and what hangs there,
concerns no other.
"""

from __future__ import annotations

import asyncio
import ssl
import tempfile
from base64 import b64encode
from importlib.metadata import version
from pathlib import Path
from typing import Final

import aiohttp
from yarl import URL

from photinus_core.events.webhook_options import Pairs, TlsSet, WebhookOptions, WebhookSettings
from photinus_core.events.webhook_requests import Answer, CallFailedError, WebhookRequest

ANSWER_BYTES_MAX: Final = 1024 * 1024
"""Largest answer that is taken into a reply."""
UNWANTED_BYTES_MAX: Final = 64 * 1024
HEAD_BYTES_MAX: Final = 32 * 1024
REDIRECTS_MAX: Final = 10
USER_AGENT: Final = f"photinus/{version('photinus-core')}"


class WebhookClient:
    """Calls one subscription's target. `aclose` ends its connections."""

    def __init__(
        self, options: WebhookOptions, settings: WebhookSettings, parallel_max: int
    ) -> None:
        self._parallel_max = parallel_max
        self._options = options
        self._settings = settings
        self._opening = asyncio.Lock()
        self._session: aiohttp.ClientSession | None = None

    async def call(self, request: WebhookRequest, *, keep_body: bool) -> Answer:
        """Calls the target once; redirects are followed.

        Args:
            request: What to ask.
            keep_body: Whether the answer's body is of interest.

        Raises:
            CallFailedError: it cannot be called, breaks off or is not in time.
        """
        try:
            try:
                return await self._ask(request, keep_body=keep_body)
            except aiohttp.ServerDisconnectedError:
                # A connection that was kept for the next call may end just as that begins.
                return await self._ask(request, keep_body=keep_body)
        except TimeoutError as failure:
            limit_s = self._options.connecting.request_timeout_s
            raise CallFailedError(f"no answer in time ({limit_s:g} s at most)") from failure
        except aiohttp.TooManyRedirects as failure:
            raise CallFailedError(f"more than {REDIRECTS_MAX} redirects") from failure
        except (aiohttp.ClientError, OSError, ValueError) as failure:
            raise CallFailedError(str(failure) or type(failure).__name__) from failure

    async def _ask(self, request: WebhookRequest, *, keep_body: bool) -> Answer:
        session = await self._opened()
        url = URL(request.url, encoded=True)
        async with session.request(
            request.method,
            url,
            data=None if request.body is None else request.body.encode(),
            headers=(*request.headers, *self._login(request, url)),
            proxy=self._options.connecting.proxy_url or None,
            max_redirects=REDIRECTS_MAX,
        ) as answer:
            # What nobody wants is read all the same: else the connection cannot be used again.
            limit = ANSWER_BYTES_MAX if keep_body else UNWANTED_BYTES_MAX
            body = b""
            while len(body) <= limit and (more := await answer.content.read(limit + 1 - len(body))):
                body += more
            if keep_body and len(body) > limit:
                raise CallFailedError(f"the answer has more than {limit:,} bytes")
            return Answer(answer.status, tuple(answer.headers.items()), body)

    def _login(self, request: WebhookRequest, url: URL) -> Pairs:
        """The configuration's login as a header, unless the subscription has one of its own."""
        settings = self._settings
        has_own = any(name.lower() == "authorization" for name, _ in request.headers)
        if not settings.username or has_own or url.user is not None:
            return ()
        login = b64encode(f"{settings.username}:{settings.password}".encode()).decode()
        return (("Authorization", f"Basic {login}"),)

    async def aclose(self) -> None:
        """Closes the connections."""
        if self._session is not None:
            await self._session.close()

    async def _opened(self) -> aiohttp.ClientSession:
        async with self._opening:
            if self._session is None:
                self._session = await self._open()
            return self._session

    async def _open(self) -> aiohttp.ClientSession:
        connecting, tls = self._options.connecting, self._options.tls
        context = True if tls is None else await asyncio.to_thread(ssl_context, tls)
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                ssl=context,
                limit=min(connecting.connections_max or self._parallel_max, self._parallel_max),
                keepalive_timeout=connecting.idle_timeout_s,
            ),
            timeout=aiohttp.ClientTimeout(
                total=connecting.request_timeout_s,
                sock_connect=connecting.connection_timeout_s,
                connect=connecting.connection_timeout_s + connecting.tls_handshake_timeout_s,
            ),
            headers={"Accept-Encoding": "gzip", "User-Agent": USER_AGENT},
            cookie_jar=aiohttp.DummyCookieJar(),
            middlewares=(self._check_host,),
            max_line_size=HEAD_BYTES_MAX,
            max_field_size=HEAD_BYTES_MAX,
        )

    async def _check_host(
        self, request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        """Asked for each request, redirects included."""
        url = request.url
        if not self._settings.allows(url.host or "", url.port):
            raise CallFailedError(f"calls to host '{url.host}' are not allowed here")
        return await handler(request)


def ssl_context(tls: TlsSet) -> ssl.SSLContext:
    """Makes what a `tls` section says; reads files.

    Raises:
        OSError: a file cannot be read.
        ValueError: what should be a certificate or key is none.
    """
    try:
        context = ssl.create_default_context(cafile=tls.ca_file or None, cadata=tls.ca or None)
        if not tls.verify_host:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if tls.cert or tls.cert_file:
            _load_own(context, tls)
    except ssl.SSLError as failure:
        raise ValueError(f"the TLS configuration cannot be used: {failure}") from failure
    return context


def _load_own(context: ssl.SSLContext, tls: TlsSet) -> None:
    if tls.cert_file:
        context.load_cert_chain(tls.cert_file, tls.key_file or None)
        return
    # The library takes files only; this one is nobody else's and gone at once.
    with tempfile.NamedTemporaryFile("w", suffix=".pem") as file:
        file.write(f"{tls.cert.strip()}\n{tls.key.strip()}\n")
        file.flush()
        context.load_cert_chain(Path(file.name))
