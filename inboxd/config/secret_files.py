"""Files with a secret, which a service gets as systemd credentials, and every other program reads itself."""

import base64
import binascii
import os
from collections.abc import Mapping
from pathlib import Path

from inboxd.errors import Finding, SettingsError

CREDENTIALS_VARIABLE = "CREDENTIALS_DIRECTORY"
"""systemd sets it to the folder of the files that LoadCredential= names; only this service can read them."""
PREFIX = "whsec_"
KEY_BYTES_MIN = 24
"""The form of a key for signatures, by standardwebhooks.com: the prefix, and at least so many bytes in base64."""


def secret_credential(inbox: str) -> str:
    """Return the name of the credential that holds the key with which an inbox's webhook is signed."""
    return f"{inbox}.secret"


def authorization_credential(inbox: str) -> str:
    """Return the name of the credential that holds the header Authorization of an inbox's webhook."""
    return f"{inbox}.authorization"


def find_secret_file(path: str, credential: str, environment: Mapping[str, str] = os.environ) -> Path:
    """Return the path of a credential, or else of the file that is meant to be passed as one."""
    folder = environment.get(CREDENTIALS_VARIABLE)
    in_folder = Path(folder) / credential if folder else None
    return in_folder if in_folder and in_folder.exists() else Path(path)


def read_secret(path: str, credential: str, environment: Mapping[str, str] = os.environ) -> str:
    """Return the only line of a credential, or else of a file. Raises SettingsError, which does not show it."""
    try:
        text = find_secret_file(path, credential, environment).read_text("ascii").strip()
    except OSError as error:
        # root's own file is no problem of a service, to which systemd passes it; a reload checks the settings without it
        problem, is_private = f"can't be read: {error.strerror}", isinstance(error, PermissionError)
        remedy = "make the file readable for the user of inboxd; as a service, root alone needs to read it"
        if isinstance(error, FileNotFoundError):
            remedy = "make the file, with mode 600: docs/webhooks.md says with what"
        raise SettingsError([Finding(path, problem, remedy, blocks=not is_private)]) from None
    except UnicodeDecodeError:
        text = ""
    if not text or not text.isprintable():
        raise SettingsError([Finding(path, "has not exactly one line of ASCII", "write the secret alone into the file")])
    return text


def read_signing_key(path: str, credential: str, environment: Mapping[str, str] = os.environ) -> bytes:
    """Return the key in a file with the secret of a webhook. Raises SettingsError, which does not show it."""
    text = read_secret(path, credential, environment)
    try:
        key = base64.b64decode(text.removeprefix(PREFIX), validate=True) if text.startswith(PREFIX) else b""
    except binascii.Error:
        key = b""
    if len(key) < KEY_BYTES_MIN:
        problem = f"has no key, which is {PREFIX} and at least {KEY_BYTES_MIN} bytes in base64"
        raise SettingsError([Finding(path, problem, f"make one: echo {PREFIX}$(openssl rand -base64 32) > {path}")])
    return key
