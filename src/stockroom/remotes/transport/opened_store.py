"""A store of obstore that is open with the credentials of an environment, and what they were read from."""

from __future__ import annotations

import ipaddress
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, TypeAlias
from urllib.parse import urlsplit

from stockroom.errors import InvalidInputError, RemoteError
from stockroom.remotes.transport.aws_profile import ProfileCredentials, read_profile
from stockroom.remotes.transport.environment import RemoteEnvironment, read_environment
from stockroom.remotes.transport.gate import (
    RequestGate,
    refuse_but_aws,
    refuse_others,
    refuse_private,
    resolve,
)
from stockroom.remotes.transport.url import WEB_SCHEMES, RemoteSettings

Options: TypeAlias = dict[str, Any]

_AZURE_KEYS: Final = re.compile(r"AZURE_STORAGE_(?:ACCOUNT_KEY|ACCESS_KEY|MASTER_KEY|KEY|SAS_KEY|SAS_TOKEN)")
_PREFIXES: Final = {"s3": ("AWS_",), "gs": ("GOOGLE_",), "az": ("AZURE_", "IDENTITY_ENDPOINT", "MSI_ENDPOINT")}
_CHOSEN: Final = frozenset({"AWS_REGION", "AWS_DEFAULT_REGION", "AWS_BUCKET", "AWS_BUCKET_NAME"})
_ENDPOINTS: Final = frozenset({"AWS_ENDPOINT", "AWS_ENDPOINT_URL"})
_AWS_FILES: Final = ("AWS_SHARED_CREDENTIALS_FILE:~/.aws/credentials", "AWS_CONFIG_FILE:~/.aws/config")
_ADC: Final = "~/.config/gcloud/application_default_credentials.json"
_GOOGLE_CREDENTIALS: Final = (
    "GOOGLE_APPLICATION_CREDENTIALS", "GOOGLE_SERVICE_ACCOUNT", "GOOGLE_SERVICE_ACCOUNT_PATH",
    "GOOGLE_SERVICE_ACCOUNT_KEY", "GOOGLE_BEARER_TOKEN",
)  # fmt: skip
_FILES: Final = {
    "s3": (*_AWS_FILES, "AWS_WEB_IDENTITY_TOKEN_FILE"),
    "gs": (f"GOOGLE_APPLICATION_CREDENTIALS:{_ADC}", "GOOGLE_SERVICE_ACCOUNT", "GOOGLE_SERVICE_ACCOUNT_PATH"),
    "az": ("AZURE_FEDERATED_TOKEN_FILE",),
}
_UNPROXIED: Final = (
    "169.254.169.254,169.254.170.2,169.254.170.23,fd00:ec2::254,fd00:ec2::23,metadata.google.internal,metadata"
)
"""Where machines get the credentials of their roles."""


@dataclass(frozen=True, slots=True)
class Sources:
    """What a store is opened with: variables, the stamps of files with credentials, and a profile's credentials."""

    environment: RemoteEnvironment
    stamps: tuple[tuple[int, int, int] | None, ...]
    profile: ProfileCredentials | None


@dataclass(frozen=True, slots=True)
class OpenedStore:
    """A store, the sources of its credentials, and the gate that bounds its redirects."""

    client: Any
    sources: Sources
    gate: RequestGate
    scheme: str

    def is_current(self) -> bool:
        """Return whether no file with credentials has changed, and a profile's credentials have not expired."""
        profile = self.sources.profile
        if profile is not None and profile.renew_s is not None and time.time() >= profile.renew_s:
            return False
        return self.sources.stamps == _read_stamps(self.scheme, self.sources.environment)


def read_sources(settings: RemoteSettings, environment: RemoteEnvironment | None) -> Sources:
    """Read what a store of a remote is opened with. Without `environment`, that of this process counts."""
    scheme = settings.url.partition("://")[0]
    read = read_environment() if environment is None else environment
    stamps = _read_stamps(scheme, read)  # first: a file that changes meanwhile is read again
    return Sources(read, stamps, read_profile(read) if scheme == "s3" and _wants_profile(read) else None)


def open_store(settings: RemoteSettings, sources: Sources, *, timeout_s: int = 120) -> OpenedStore:
    """Open the store of a remote; its requests end after `timeout_s`.

    It contacts no server, except to ask for the address of a web site.
    """
    try:
        from obstore import store
    except ModuleNotFoundError as error:
        raise RemoteError(
            f"{settings.url}: remotes other than folders need obstore: `pip install 'stockroom-vcs[remote]'`"
        ) from error
    parts, gate = urlsplit(settings.url), RequestGate()
    options: Options = {
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
        _set_web_options(options, settings.url, sources.environment, gate)
        return OpenedStore(store.HTTPStore.from_url(settings.url, **common), sources, gate, parts.scheme)
    prepare = {"s3": _prepare_s3, "gs": _prepare_gcs, "az": _prepare_azure}[parts.scheme]
    given = prepare(settings, sources, options, gate)
    kind = {"s3": store.S3Store, "gs": store.GCSStore, "az": store.AzureStore}[parts.scheme]

    def make(config: dict[str, Any]) -> Any:
        return kind(parts.netloc, prefix=parts.path.strip("/") or None, config=config, **common)

    return OpenedStore(_make_known(make, given), sources, gate, parts.scheme)


def _make_known(make: Callable[[dict[str, Any]], Any], config: dict[str, Any]) -> Any:
    """Return what `make` makes with those items of `config` that this version of obstore knows."""
    from obstore.exceptions import UnknownConfigurationKeyError

    while True:
        try:
            return make(config)
        except UnknownConfigurationKeyError as error:
            unknown = [name for name in config if f"'{name}'" in str(error)]
            if not unknown:
                raise
            config = {name: value for name, value in config.items() if name not in unknown}


def _read_stamps(scheme: str, environment: RemoteEnvironment) -> tuple[tuple[int, int, int] | None, ...]:
    if scheme == "s3" and environment.get("AWS_ACCESS_KEY_ID"):
        return ()
    return tuple(map(_read_stamp, environment.list_files(*_FILES.get(scheme, ()))))


def _read_stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def _pass_variables(scheme: str, environment: RemoteEnvironment) -> dict[str, Any]:
    """Return the variables of a provider as obstore's settings: it reads only those of its own process by itself."""
    return {name.lower(): value for name, value in environment.items() if value and name.startswith(_PREFIXES[scheme])}


def _set_proxy(options: Options, url: str, environment: RemoteEnvironment) -> None:
    """Let requests take the proxy that the environment names, unless this process has the same one anyway."""
    scheme, proxies = urlsplit(url).scheme, environment.list_proxies()
    proxy = proxies.get(scheme) or proxies.get("all")
    own = read_environment().list_proxies()
    if proxy and (proxy, proxies.get("no")) != (own.get(scheme) or own.get("all"), own.get("no")):
        options["proxy_url"] = proxy
        options["proxy_excludes"] = ",".join(filter(None, [proxies.get("no"), _UNPROXIED]))


def _set_web_options(options: Options, url: str, environment: RemoteEnvironment, gate: RequestGate) -> None:
    options["allow_http"] = url.startswith("http://")
    _set_proxy(options, url, environment)
    addresses = map(ipaddress.ip_address, resolve(urlsplit(url).hostname or "", 0))
    is_private = any(not address.is_global for address in addresses)
    gate.bound_redirects(options, url, refuse_private(url), environment, passes_all=is_private)


def _prepare_s3(settings: RemoteSettings, sources: Sources, options: Options, gate: RequestGate) -> dict[str, Any]:
    environment, profile = sources.environment, sources.profile
    variables = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")
    named = [_read_endpoint(variable, environment) for variable in variables]
    endpoint = settings.endpoint_url or next(filter(None, named), None)
    dropped = _CHOSEN | _ENDPOINTS if endpoint else _CHOSEN
    given = _pass_variables("s3", RemoteEnvironment({n: v for n, v in environment.items() if n not in dropped}))
    _set_proxy(options, endpoint or "https://amazonaws.com", environment)
    if endpoint:
        given["endpoint"] = endpoint
        options["allow_http"] = endpoint.startswith("http://")
    region = settings.region or environment.get("AWS_REGION") or environment.get("AWS_DEFAULT_REGION")
    given["region"] = region or (profile and profile.region) or "us-east-1"
    if profile is not None:
        found = {"access_key_id": profile.access_key_id, "secret_access_key": profile.secret_access_key}
        given |= {f"aws_{name}": value for name, value in found.items()}
        given |= {"aws_session_token": profile.token} if profile.token else {}
    elif not _has_s3_credentials(environment):
        given["skip_signature"] = True  # a public bucket; otherwise the server reports that credentials are missing
    if endpoint:
        is_alone = profile is not None or "aws_access_key_id" in given or "skip_signature" in given
        rule = refuse_others(endpoint) if is_alone else refuse_but_aws(endpoint, environment)
        has_token = not is_alone or "aws_session_token" in given
        gate.bound_redirects(options, endpoint, rule, environment, passes_all=has_token)
    return given


def _read_endpoint(variable: str, environment: RemoteEnvironment) -> str | None:
    """Return the endpoint in a variable; raises `InvalidInputError`, which does not repeat it, if it is none."""
    endpoint = environment.get(variable)
    try:
        if endpoint and not (endpoint.startswith(("http://", "https://")) and urlsplit(endpoint).hostname):
            raise ValueError
        _ = endpoint and urlsplit(endpoint).port
    except ValueError:
        raise InvalidInputError(f"{variable}: expected an endpoint such as https://host:port, found none") from None
    return endpoint


def _has_s3_credentials(environment: RemoteEnvironment) -> bool:
    """Whether the environment names credentials, or this machine can provide them."""
    names = (
        "AWS_ACCESS_KEY_ID",
        "AWS_WEB_IDENTITY_TOKEN_FILE",
        "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
        "AWS_CONTAINER_CREDENTIALS_FULL_URI",
        "AWS_EXECUTION_ENV",
    )
    product = Path("/sys/class/dmi/id/sys_vendor")  # an EC2 machine gets them from its instance metadata
    return any(environment.get(name) for name in names) or (product.exists() and "Amazon" in product.read_text())


def _wants_profile(environment: RemoteEnvironment) -> bool:
    """Return whether credentials are in AWS's shared files, if anywhere."""
    if environment.get("AWS_ACCESS_KEY_ID"):
        return False
    return bool(environment.get("AWS_PROFILE")) or any(p.exists() for p in environment.list_files(*_AWS_FILES))


def _prepare_gcs(settings: RemoteSettings, sources: Sources, options: Options, _: RequestGate) -> dict[str, Any]:
    environment = sources.environment
    _read_endpoint("GOOGLE_BASE_URL", environment)
    given = _pass_variables("gs", environment)
    _set_proxy(options, settings.endpoint_url or "https://storage.googleapis.com", environment)
    if settings.endpoint_url:
        given.pop("google_base_url", None)
        given["base_url"] = settings.endpoint_url
        options["allow_http"] = settings.endpoint_url.startswith("http://")
    default = environment.expand(_ADC)
    if not any(environment.get(name) for name in _GOOGLE_CREDENTIALS):
        if default.is_absolute() and default.exists():
            given["google_application_credentials"] = str(default)
        elif settings.endpoint_url:
            given["skip_signature"] = True
    return given


def _prepare_azure(settings: RemoteSettings, sources: Sources, options: Options, gate: RequestGate) -> dict[str, Any]:
    environment, endpoint = sources.environment, settings.endpoint_url
    for variable in ("AZURE_ENDPOINT", "AZURE_STORAGE_ENDPOINT"):
        _read_endpoint(variable, environment)
    given = _pass_variables("az", environment)
    _set_proxy(options, endpoint or "https://blob.core.windows.net", environment)
    if endpoint:
        given = {
            name: value for name, value in given.items() if name not in ("azure_endpoint", "azure_storage_endpoint")
        }
        given["endpoint"] = endpoint
        options["allow_http"] = endpoint.startswith("http://")
        if any(_AZURE_KEYS.fullmatch(name) for name in environment):  # otherwise it asks other hosts for credentials
            gate.bound_redirects(options, endpoint, refuse_others(endpoint), environment, passes_all=True)
    return given
