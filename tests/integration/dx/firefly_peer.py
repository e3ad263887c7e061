"""A peer as FireFly's data exchange behaves on the wire, written from the format: forms and 204, no extensions."""

import asyncio
import datetime as dt
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

VALIDITY = dt.timedelta(days=30)
TIMEOUT = aiohttp.ClientTimeout(total=20)


@dataclass(frozen=True)
class KeyPair:
    """A certificate with its key, in PEM."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def pem(self) -> str:
        return self.certificate.public_bytes(serialization.Encoding.PEM).decode()

    @property
    def key_pem(self) -> str:
        return self.key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ).decode()


def certified(organization: str, issuer: KeyPair | None = None, unit: str = "") -> KeyPair:
    """A certificate as the openssl command makes it: self-signed and a CA, unless an issuer signs it."""
    key = ec.generate_private_key(ec.SECP256R1())
    attributes = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization)]
    if unit:
        attributes.append(x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, unit))
    attributes.append(x509.NameAttribute(NameOID.COMMON_NAME, "dx"))
    subject = x509.Name(attributes)
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - VALIDITY)
        .not_valid_after(now + VALIDITY)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(issuer.key if issuer else key, hashes.SHA256())
    )
    return KeyPair(certificate, key)


def context_of(
    pair: KeyPair, folder: Path, trusted: str, *, server: bool = False
) -> ssl.SSLContext:
    """TLS with a key pair, trusting a certificate and whatever it signed."""
    folder.mkdir(parents=True, exist_ok=True)
    certificate_file, key_file = folder / "cert.pem", folder / "key.pem"
    certificate_file.write_text(pair.pem)
    key_file.write_text(pair.key_pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(certificate_file, key_file)
    context.load_verify_locations(cadata=trusted)
    return context


@dataclass
class FireflyPeer:
    """What came, and a client that sends as FireFly does.

    Attributes:
        refusals: statuses to answer the next requests with, before taking any.
    """

    name: str
    node: str
    folder: Path
    pair: KeyPair
    trusted: str
    port: int = 0
    messages: list[dict[str, str]] = field(default_factory=list)
    blobs: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)
    refusals: list[int] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)

    @property
    def id(self) -> str:
        return f"{self.name}/{self.node}"

    @property
    def document(self) -> str:
        endpoint = f"https://127.0.0.1:{self.port}"
        return json.dumps({"id": self.id, "endpoint": endpoint, "cert": self.pair.pem})

    def client_context(self) -> ssl.SSLContext:
        return context_of(self.pair, self.folder / "client", self.trusted)

    @asynccontextmanager
    async def session(self) -> AsyncIterator[aiohttp.ClientSession]:
        connector = aiohttp.TCPConnector(ssl=self.client_context())
        async with aiohttp.ClientSession(connector=connector, timeout=TIMEOUT) as session:
            yield session

    async def send_message(self, endpoint: str, recipient_node: str, message: str) -> int:
        form = aiohttp.FormData(default_to_multipart=True)
        form.add_field("senderDestination", self.node)
        form.add_field("recipientDestination", recipient_node)
        form.add_field("message", message)
        async with (
            self.session() as session,
            session.post(f"{endpoint}/api/v1/messages", data=form) as answer,
        ):
            return answer.status

    async def send_blob(self, endpoint: str, recipient_node: str, path: str, content: bytes) -> int:
        async def pieces() -> AsyncIterator[bytes]:  # makes the transfer chunked, as form-data does
            for start in range(0, len(content), 50_000):
                yield content[start : start + 50_000]

        form = aiohttp.FormData()
        form.add_field("senderDestination", self.node)
        form.add_field("recipientDestination", recipient_node)
        form.add_field("blob", pieces(), filename="blob")
        async with (
            self.session() as session,
            session.put(f"{endpoint}/api/v1/blobs{path}", data=form) as answer,
        ):
            return answer.status

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(f"{request.method} {request.path}")
        self.headers.append(dict(request.headers))
        if request.path == "/api/v1/ping":
            return web.Response(status=204)
        if self.refusals:
            await request.read()
            return web.json_response({"error": "queue full"}, status=self.refusals.pop(0))
        fields: dict[str, str] = {}
        content = b""
        async for part in await request.multipart():
            assert isinstance(part, aiohttp.BodyPartReader)
            if part.filename is None:
                fields[str(part.name)] = await part.text()
            else:
                content = bytes(await part.read())
        if request.path == "/api/v1/messages":
            self.messages.append(fields)
        else:
            self.blobs.append((request.path.removeprefix("/api/v1/blobs"), fields, content))
        return web.Response(status=204)


@asynccontextmanager
async def firefly_peer(
    folder: Path,
    name: str,
    trusted: str,
    pair: KeyPair | None = None,
    kind: type[FireflyPeer] = FireflyPeer,
) -> AsyncIterator[FireflyPeer]:
    """A running peer that trusts one certificate."""
    peer = kind(name, f"node-{name}", folder, pair or certified(name), trusted)
    application = web.Application(client_max_size=1 << 30)
    application.router.add_route("*", "/{path:.*}", peer.handle)
    runner = web.AppRunner(application, shutdown_timeout=1)
    await runner.setup()
    context = await asyncio.to_thread(
        context_of, peer.pair, folder / "server", trusted, server=True
    )
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
    await site.start()
    peer.port = runner.addresses[0][1]
    try:
        yield peer
    finally:
        await runner.cleanup()
