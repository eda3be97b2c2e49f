"""One sign-in provider (OpenID Connect): discovery, code flow with PKCE, and the proof of who somebody is.

Nothing a provider says is believed before signature, issuer, audience, nonce and times of its ID token are right.
What this does not know: accounts. The only module that uses authlib and joserfc.
"""

from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import httpx2
import msgspec
from authlib.integrations.base_client import OAuthError  # type: ignore[import-untyped]
from authlib.integrations.httpx_client import AsyncOAuth2Client  # type: ignore[import-untyped]
from authlib.oidc.core import CodeIDToken  # type: ignore[import-untyped]
from joserfc import jwt
from joserfc.errors import InvalidKeyIdError, JoseError
from joserfc.jwk import KeySet
from joserfc.jws import JWSRegistry

from nixmill.config.server import OidcProvider
from nixmill.core.account import Identity
from nixmill.doors import Clock
from nixmill.web.proven import Proven
from nixmill.web.provider_faults import away, bad, client_secret, short

ALGORITHMS: Final = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
"""Signatures with a public key only; `none` and shared secrets are never taken."""
TIMEOUT_S: Final = 10.0
ANSWER_BYTES: Final = 256 * 1024
LEEWAY_S: Final = 60
"""How far clocks may differ."""
METADATA_S: Final = 3600.0
_TEXT_MAX: Final = 254


class Metadata(msgspec.Struct, frozen=True, kw_only=True):
    """What discovery says of a provider, as far as it is used."""

    issuer: str
    authorization_endpoint: str
    token_endpoint: str
    jwks_uri: str
    userinfo_endpoint: str = ""
    token_endpoint_auth_methods_supported: tuple[str, ...] = ("client_secret_basic",)


class OpenIdProvider:
    """Implements `nixmill.web.providers.Provider`."""

    def __init__(self, settings: OidcProvider, secret: Path | None, clock: Clock) -> None:
        """Take its settings and the file with the client's secret; nothing is asked yet."""
        self.settings = settings
        self._secret = secret
        self._clock = clock
        self._metadata: Metadata | None = None
        self._metadata_at = 0.0
        self._keys: KeySet | None = None

    async def address(self, callback: str, state: str, nonce: str, verifier: str) -> str:
        """Return where to send a browser."""
        metadata = await self._discovered()
        async with self._client(metadata, "", callback) as client:
            url, _ = client.create_authorization_url(
                metadata.authorization_endpoint, state=state, nonce=nonce, code_verifier=verifier
            )
        return str(url)

    async def proven(self, callback: str, code: str, nonce: str, verifier: str) -> Proven:
        """Redeem a code; return who it proves. `RefusalError`: the proof is bad; `DoorError`: there is none."""
        metadata = await self._discovered()
        secret = await client_secret(self.settings, self._secret)
        try:
            async with self._client(metadata, secret, callback) as client:
                token = await client.fetch_token(
                    metadata.token_endpoint, grant_type="authorization_code", code=code, code_verifier=verifier
                )
        except httpx2.HTTPError as error:
            raise away(self.settings, "redeem a code", error) from error
        except (OAuthError, ValueError, TypeError) as error:
            raise bad(self.settings, f"it did not redeem the code ({short(error)})") from error
        proof = token.get("id_token")
        if not isinstance(proof, str) or len(proof) > ANSWER_BYTES:
            raise bad(self.settings, "it sent no ID token")
        access = str(token.get("access_token", ""))
        claims = await self._claims(metadata, proof, access, nonce)
        if not _login(claims) and metadata.userinfo_endpoint and access:
            claims = {**await self._more(metadata, access, claims.get("sub")), **claims}
        return self._read(claims)

    async def _more(self, metadata: Metadata, access: str, subject: object) -> dict[str, Any]:
        """Return what the provider says of somebody beside the ID token (GitLab: what they are called).

        It counts only where it is about the same person. Source: OpenID Connect Core 1.0, 5.3.2.
        """
        try:
            said = msgspec.json.decode(await self._get(metadata.userinfo_endpoint, access), type=dict[str, Any])
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise bad(self.settings, f"what it says of you cannot be read ({short(error)})") from error
        if not isinstance(subject, str) or said.get("sub") != subject:
            raise bad(self.settings, "it speaks of somebody else")
        return said

    def _client(self, metadata: Metadata, secret: str, callback: str) -> Any:  # noqa: ANN401 - authlib has no types
        basic = "client_secret_basic" in metadata.token_endpoint_auth_methods_supported
        return AsyncOAuth2Client(
            self.settings.client_id,
            secret,
            scope=" ".join(self.settings.scopes),
            redirect_uri=callback,
            code_challenge_method="S256",
            token_endpoint_auth_method="client_secret_basic" if basic else "client_secret_post",
            timeout=TIMEOUT_S,
            follow_redirects=False,
        )

    async def _discovered(self) -> Metadata:
        """Return what discovery says; asked again after an hour."""
        now = self._clock.monotonic()
        if self._metadata is None or now - self._metadata_at > METADATA_S:
            url = self.settings.issuer.rstrip("/") + "/.well-known/openid-configuration"
            self._metadata = self._checked(await self._get(url))
            self._metadata_at = now
            self._keys = None
        return self._metadata

    def _checked(self, answer: bytes) -> Metadata:
        try:
            metadata = msgspec.json.decode(answer, type=Metadata)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise bad(self.settings, f"its description of itself cannot be read ({short(error)})") from error
        if metadata.issuer.rstrip("/") != self.settings.issuer.rstrip("/"):
            raise bad(self.settings, "it says that it is somebody else")
        wanted = {"https", urlsplit(self.settings.issuer).scheme}
        addresses: tuple[str, ...] = (metadata.authorization_endpoint, metadata.token_endpoint, metadata.jwks_uri)
        addresses += (metadata.userinfo_endpoint,) if metadata.userinfo_endpoint else ()
        if any(urlsplit(address).scheme not in wanted for address in addresses):
            raise bad(self.settings, "it names addresses that are not encrypted")
        return metadata

    async def _get(self, url: str, access: str = "") -> bytes:
        headers = {"Authorization": f"Bearer {access}"} if access else {}
        try:
            async with (
                httpx2.AsyncClient(timeout=TIMEOUT_S, follow_redirects=False) as client,
                client.stream("GET", url, headers=headers) as answer,
            ):
                answer.raise_for_status()
                read = bytearray()
                async for part in answer.aiter_bytes():
                    read += part
                    if len(read) > ANSWER_BYTES:
                        raise bad(self.settings, "its answer is too large")
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            raise away(self.settings, "ask", error) from error
        return bytes(read)

    async def _claims(self, metadata: Metadata, proof: str, access_token: str, nonce: str) -> dict[str, Any]:
        """Return the claims of an ID token whose signature and claims are right."""
        try:
            try:
                token = self._verified(await self._key_set(metadata), proof)
            except InvalidKeyIdError:  # the provider has new keys
                self._keys = None
                token = self._verified(await self._key_set(metadata), proof)
            issuers = [metadata.issuer, metadata.issuer.rstrip("/"), metadata.issuer.rstrip("/") + "/"]
            options = {"iss": {"essential": True, "values": issuers}, "aud": self._audience()}
            asked = {"nonce": nonce, "client_id": self.settings.client_id, "access_token": access_token}
            claims = CodeIDToken(token.claims, token.header, options, asked)
            claims.validate(now=int(self._clock.now()), leeway=LEEWAY_S)
        except (JoseError, ValueError, TypeError, KeyError) as error:
            raise bad(self.settings, f"its ID token is not right ({short(error)})") from error
        return dict(claims)

    def _audience(self) -> dict[str, Any]:
        return {"essential": True, "value": self.settings.client_id}

    def _verified(self, keys: KeySet, proof: str) -> jwt.Token:
        return jwt.decode(proof, keys, registry=JWSRegistry(algorithms=list(ALGORITHMS), strict_check_header=False))

    async def _key_set(self, metadata: Metadata) -> KeySet:
        if self._keys is None:
            self._keys = KeySet.import_key_set(msgspec.json.decode(await self._get(metadata.jwks_uri)))
        return self._keys

    def _read(self, claims: dict[str, Any]) -> Proven:
        subject = claims.get("sub")
        if not isinstance(subject, str) or not 0 < len(subject) <= _TEXT_MAX + 1:
            raise bad(self.settings, "its ID token names nobody")
        email = _text(claims, "email") if claims.get("email_verified", True) is True else ""
        login = _login(claims)
        identity = Identity(provider=self.settings.name, subject=subject, login=login)
        return Proven(identity=identity, name=login or email.partition("@")[0] or _text(claims, "name"), email=email)


def _login(claims: dict[str, Any]) -> str:
    """Return what somebody is called there."""
    return _text(claims, "preferred_username") or _text(claims, "nickname")


def _text(claims: dict[str, Any], name: str) -> str:
    value = claims.get(name)
    return value[:_TEXT_MAX] if isinstance(value, str) else ""
