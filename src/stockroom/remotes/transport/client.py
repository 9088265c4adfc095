"""Opens the client of an object store or web server: its endpoint, its credentials, and where redirects may go."""

from __future__ import annotations

import ipaddress
import os
import re
from datetime import timedelta
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from stockroom.errors import InvalidInputError, RemoteError
from stockroom.remotes.transport.gate import (
    RequestGate,
    refuse_but_aws,
    refuse_others,
    refuse_private,
    resolve,
)
from stockroom.remotes.transport.url import WEB_SCHEMES, RemoteSettings

_AZURE_KEYS: Final = re.compile(r"AZURE_STORAGE_(?:ACCOUNT_KEY|ACCESS_KEY|MASTER_KEY|KEY|SAS_KEY|SAS_TOKEN)")


def open_store(settings: RemoteSettings, gate: RequestGate, *, timeout_s: int = 120) -> Any:
    """Return obstore's client for a remote; its requests end after `timeout_s`. Contacts no server."""
    try:
        from obstore import store
    except ModuleNotFoundError as error:
        raise RemoteError(
            f"{settings.url}: remotes other than folders need obstore: `pip install 'stockroom-vcs[remote]'`"
        ) from error
    parts = urlsplit(settings.url)
    prefix = parts.path.strip("/") or None
    options: dict[str, Any] = {
        "connect_timeout": timedelta(seconds=10),
        "timeout": timedelta(seconds=timeout_s),
        "pool_max_idle_per_host": "32",
        "user_agent": "stockroom",
    }
    common: dict[str, Any] = {
        "client_options": options,
        "retry_config": {"max_retries": 0, "retry_timeout": timedelta(0)},
    }
    if parts.scheme in WEB_SCHEMES:
        options["allow_http"] = parts.scheme == "http"
        addresses = map(ipaddress.ip_address, resolve(parts.hostname or "", 0))
        is_private = any(not address.is_global for address in addresses)
        gate.bound_redirects(options, settings.url, refuse_private(settings.url), passes_all=is_private)
        return store.HTTPStore.from_url(settings.url, **common)
    if parts.scheme == "s3":
        return _open_s3(store, settings, parts.netloc, prefix, common, gate)
    if parts.scheme == "gs":
        return _open_gcs(store, settings, parts.netloc, prefix, common)
    return _open_azure(store, settings, parts.netloc, prefix, common, gate)


def _open_s3(
    store: Any, settings: RemoteSettings, bucket: str, prefix: str | None, common: dict[str, Any], gate: RequestGate
) -> Any:
    found = [_read_endpoint(name) for name in ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")]
    endpoint = settings.endpoint_url or next(filter(None, found), None)
    given: dict[str, Any] = {}
    if endpoint:
        given["endpoint"] = endpoint
        common["client_options"]["allow_http"] = endpoint.startswith("http://")
    region = settings.region or os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    given["region"] = region or "us-east-1"
    provider = _load_profile_credentials()
    if provider is not None:
        given["credential_provider"] = provider
    elif not _has_s3_credentials():
        given["skip_signature"] = True  # a public bucket; otherwise the server reports that credentials are missing
    if endpoint:
        is_alone = provider is not None or "AWS_ACCESS_KEY_ID" in os.environ or "skip_signature" in given
        rule = refuse_others(endpoint) if is_alone else refuse_but_aws(endpoint)
        has_token = not is_alone or (_gives_token(provider) if provider else "AWS_SESSION_TOKEN" in os.environ)
        gate.bound_redirects(common["client_options"], endpoint, rule, passes_all=has_token)
    return store.S3Store(bucket, prefix=prefix, **given, **common)


def _read_endpoint(variable: str) -> str | None:
    """Return the endpoint in a variable; raises `InvalidInputError`, which does not repeat it, if it is none."""
    endpoint = os.environ.get(variable)
    try:
        if endpoint and not (endpoint.startswith(("http://", "https://")) and urlsplit(endpoint).hostname):
            raise ValueError
        _ = endpoint and urlsplit(endpoint).port
    except ValueError:
        raise InvalidInputError(f"{variable}: expected an endpoint such as https://host:port, found none") from None
    return endpoint


def _has_s3_credentials() -> bool:
    """Whether the environment names credentials, or this machine can provide them."""
    names = (
        "AWS_ACCESS_KEY_ID",
        "AWS_WEB_IDENTITY_TOKEN_FILE",
        "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
        "AWS_CONTAINER_CREDENTIALS_FULL_URI",
        "AWS_EXECUTION_ENV",
    )
    product = Path("/sys/class/dmi/id/sys_vendor")  # an EC2 machine gets them from its instance metadata
    return any(name in os.environ for name in names) or (product.exists() and "Amazon" in product.read_text())


def _load_profile_credentials() -> Any:
    """Return the credentials of a profile in the shared files, if the environment has none and boto3 can read them."""
    has_files = any(Path(p).expanduser().exists() for p in ("~/.aws/credentials", "~/.aws/config"))
    wants_profile = "AWS_PROFILE" in os.environ or (has_files and "AWS_ACCESS_KEY_ID" not in os.environ)
    if not wants_profile:
        return None
    try:
        from obstore.auth.boto3 import Boto3CredentialProvider
    except ModuleNotFoundError:
        return None
    try:
        return Boto3CredentialProvider()
    except Exception:
        return None


def _gives_token(provider: Any) -> bool:
    """Return whether a profile's credentials have a session token, as temporary ones have."""
    try:
        return bool(provider().get("token"))
    except Exception:  # the first request says what is wrong
        return True


def _open_gcs(store: Any, settings: RemoteSettings, bucket: str, prefix: str | None, common: dict[str, Any]) -> Any:
    given: dict[str, Any] = {}
    _read_endpoint("GOOGLE_BASE_URL")
    if settings.endpoint_url:
        given["base_url"] = settings.endpoint_url
        common["client_options"]["allow_http"] = settings.endpoint_url.startswith("http://")
    names = ("GOOGLE_APPLICATION_CREDENTIALS", "GOOGLE_SERVICE_ACCOUNT", "GOOGLE_SERVICE_ACCOUNT_KEY")
    adc = Path("~/.config/gcloud/application_default_credentials.json").expanduser()
    if not any(name in os.environ for name in names) and not adc.exists() and settings.endpoint_url:
        given["skip_signature"] = True
    return store.GCSStore(bucket, prefix=prefix, **given, **common)


def _open_azure(
    store: Any, settings: RemoteSettings, container: str, prefix: str | None, common: dict[str, Any], gate: RequestGate
) -> Any:
    given: dict[str, Any] = {}
    for name in ("AZURE_ENDPOINT", "AZURE_STORAGE_ENDPOINT"):
        _read_endpoint(name)
    endpoint = settings.endpoint_url
    if endpoint:
        given["endpoint"] = endpoint
        common["client_options"]["allow_http"] = endpoint.startswith("http://")
        if any(_AZURE_KEYS.fullmatch(name) for name in os.environ):  # otherwise it asks other hosts for credentials
            gate.bound_redirects(common["client_options"], endpoint, refuse_others(endpoint), passes_all=True)
    return store.AzureStore(container, prefix=prefix, **given, **common)
