"""A proxy in front of an S3 server that checks keys, signatures and tokens; tests change them while it runs."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from urllib.parse import parse_qsl, quote, urlsplit

from tests.kit.servers import Exchange, Proxy


class Accounts(Proxy):
    """Passes on requests that are signed with a key in `secrets`; the others get S3's own refusals."""

    def __init__(self, target_url: str) -> None:
        super().__init__(target_url, drop_headers=("x-amz-security-token",))
        self.secrets: dict[str, str] = {}
        """The secret of each key."""
        self.tokens: dict[str, str] = {}
        """The session token of each key that needs one."""
        self.expired: set[str] = set()
        self.seen: list[str] = []
        """The keys of all requests, refused ones too."""
        self.on_refusal: Callable[[], None] = lambda: None

    def allow(self, *keys: str, token: str = "") -> dict[str, str]:
        """Let these keys in, and no other; returns the variables with the last of them."""
        self.secrets = {key: f"secret-of-{key}" for key in keys}
        self.tokens = dict.fromkeys(keys, token) if token else {}
        return variables_of(keys[-1], token)

    def forward(self, handler: BaseHTTPRequestHandler, body: bytes) -> Exchange:
        refusal = self._find_refusal(handler)
        if refusal is None:
            return super().forward(handler, body)
        status, code = refusal
        self.on_refusal()
        content = f'<?xml version="1.0" encoding="UTF-8"?><Error><Code>{code}</Code><Message>no</Message></Error>'
        return Exchange(handler.command, handler.path, status, [("Content-Type", "application/xml")], content.encode())

    def _find_refusal(self, handler: BaseHTTPRequestHandler) -> tuple[int, str] | None:
        match = re.search(
            r"Credential=([^/]+)/([^,]+), ?SignedHeaders=([^,]+), ?Signature=(\w+)",
            handler.headers["Authorization"] or "",
        )
        if match is None:
            return 403, "AccessDenied"
        key, scope, names, signature = match.groups()
        self.seen.append(key)
        if key in self.expired:
            return 400, "ExpiredToken"
        if key not in self.secrets:
            return 403, "InvalidAccessKeyId"
        if self.tokens.get(key, "") != (handler.headers["x-amz-security-token"] or ""):
            return 400, "InvalidToken"
        if signature != _sign(handler, self.secrets[key], scope, names):
            return 403, "SignatureDoesNotMatch"
        return None


def variables_of(key: str, token: str = "") -> dict[str, str]:
    """The variables of the environment that hold a key."""
    found = {"AWS_ACCESS_KEY_ID": key, "AWS_SECRET_ACCESS_KEY": f"secret-of-{key}"}
    return found | ({"AWS_SESSION_TOKEN": token} if token else {})


def _sign(handler: BaseHTTPRequestHandler, secret: str, scope: str, names: str) -> str:
    """The signature of a request, version 4."""
    parts = urlsplit(handler.path)
    query = sorted((quote(k, safe="-_.~"), quote(v, safe="-_.~")) for k, v in parse_qsl(parts.query, True))
    headers = "".join(f"{name}:{(handler.headers[name] or '').strip()}\n" for name in names.split(";"))
    lines = [handler.command, parts.path, "&".join(f"{k}={v}" for k, v in query), headers, names]
    request = "\n".join([*lines, handler.headers["x-amz-content-sha256"] or ""])
    digest = hashlib.sha256(request.encode()).hexdigest()
    key = f"AWS4{secret}".encode()
    for part in scope.split("/"):
        key = hmac.new(key, part.encode(), "sha256").digest()
    text = f"AWS4-HMAC-SHA256\n{handler.headers['x-amz-date']}\n{scope}\n{digest}"
    return hmac.new(key, text.encode(), "sha256").hexdigest()
