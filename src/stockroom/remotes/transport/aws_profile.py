"""Credentials of a profile in AWS's shared files, as botocore reads them.

Botocore reads the environment of its process in many places, so a short child process does it, with the variables of
the caller. It gets them through a pipe: other processes do not see them.

Run as `python -m stockroom.remotes.transport.aws_profile`, this module is the child.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass, field
from typing import Any, Final

from stockroom.errors import AuthenticationError
from stockroom.remotes.mask import mask_secrets
from stockroom.remotes.transport.environment import RemoteEnvironment

_TIMEOUT_S: Final = 60.0
_EARLY_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class ProfileCredentials:
    """Credentials of a profile, and its region. They are to be read again at `renew_s`, in seconds since 1970."""

    access_key_id: str = field(repr=False)
    secret_access_key: str = field(repr=False)
    token: str | None = field(repr=False)
    region: str | None
    renew_s: float | None = field(compare=False)


def read_profile(environment: RemoteEnvironment) -> ProfileCredentials | None:
    """Return the credentials of the profile that an environment chooses. None if there are none, or no botocore.

    Raises `AuthenticationError` if the profile cannot give any, for example because a login has expired.
    """
    command = [sys.executable, "-P", "-m", "stockroom.remotes.transport.aws_profile"]
    variables = json.dumps({**os.environ, **environment})
    name = environment.get("AWS_PROFILE", "default")
    try:
        run = subprocess.run(  # noqa: S603 - this very Python
            command, input=variables.encode(), capture_output=True, timeout=_TIMEOUT_S, cwd="/", check=True
        )
        answer = json.loads(run.stdout)
    except (subprocess.SubprocessError, OSError, ValueError) as error:
        raise AuthenticationError(
            f"AWS profile {name!r}: its credentials could not be read ({type(error).__name__}); "
            "`aws sts get-caller-identity` shows why"
        ) from None  # its text holds the input
    if answer is None:
        return None
    if "error" in answer:
        raise AuthenticationError(f"AWS profile {name!r}: {mask_secrets(answer['error'], environment)}")
    return _parse(answer)


def _parse(answer: dict[str, Any]) -> ProfileCredentials:
    expires_s, now_s = answer.pop("expires_s"), time.time()
    return ProfileCredentials(
        **answer, renew_s=None if expires_s is None else max(expires_s - _EARLY_S, now_s + _EARLY_S / 2)
    )


def _load() -> dict[str, Any] | None:
    """Return the answer of the child process."""
    try:
        import botocore.session
    except ModuleNotFoundError:
        if os.environ.get("AWS_PROFILE"):
            return {"error": "profiles are read with boto3, which is not installed: `pip install boto3`"}
        return None
    try:
        session = botocore.session.get_session()
        credentials = session.get_credentials()
        if credentials is None:
            return None
        frozen = credentials.get_frozen_credentials()
        expiry = getattr(credentials, "_expiry_time", None)
    except Exception as error:
        return {"error": " ".join(str(error).split()) or type(error).__name__}
    return {
        "access_key_id": frozen.access_key,
        "secret_access_key": frozen.secret_key,
        "token": frozen.token,
        "region": session.get_config_variable("region"),
        "expires_s": None if expiry is None else expiry.timestamp(),
    }


if __name__ == "__main__":
    os.environ.update(json.load(sys.stdin))
    json.dump(_load(), sys.stdout)
