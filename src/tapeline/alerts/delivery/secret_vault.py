"""Secrets at rest: encrypted under a key that is not in the database, each bound to the record that it belongs to."""

from __future__ import annotations

import base64
import binascii
import hashlib
import secrets
from collections.abc import Sequence
from typing import Final

from tapeline.core.errors import ConfigurationError, MissingExtraError

KEY_BYTES: Final = 32
_MARK: Final = b"tv1"
_NONCE: Final = 12
_NAME: Final = 8


class UnreadableSecretError(ConfigurationError):
    """A kept secret cannot be decrypted: another key, another record, or damaged."""


class SecretVault:
    """Encrypts and decrypts with AES-256-GCM.

    Parameters
    ----------
    keys:
        Base64 of 32 bytes each; the first encrypts, all decrypt: to change the key, put the new one in front and keep
        the old one until everything was sealed anew.

    Raises
    ------
    ConfigurationError
        No key, or one that is not the base64 of 32 bytes.

    Examples
    --------
    >>> vault = SecretVault([new_key()])
    >>> vault.open(vault.seal("whsec_abc", "endpoint-1"), "endpoint-1")
    'whsec_abc'
    >>> vault.open(vault.seal("whsec_abc", "endpoint-1"), "endpoint-2")
    Traceback (most recent call last):
    ...
    tapeline.alerts.delivery.secret_vault.UnreadableSecretError: the secret of 'endpoint-2' cannot be decrypted \
(give it a new secret, or restore the key that it was sealed with)

    References
    ----------
    NIST SP 800-38D, Recommendation for Block Cipher Modes of Operation: Galois/Counter Mode (2007).
    """

    def __init__(self, keys: Sequence[str]) -> None:
        try:
            from cryptography.hazmat.primitives.ciphers.aead import AESGCM
        except ImportError:
            raise MissingExtraError("cryptography", "alerts") from None
        if not keys:
            raise ConfigurationError(
                "no key to keep secrets with", hint="new_key() makes one; keep it out of the database"
            )
        self._ciphers: dict[bytes, AESGCM] = {}
        for key in keys:
            try:
                raw = base64.b64decode(key, validate=True)
            except (binascii.Error, ValueError):
                raw = b""
            if len(raw) != KEY_BYTES or len(set(raw)) < 8:
                raise ConfigurationError(
                    f"a key to keep secrets with is not the base64 of {KEY_BYTES} random bytes",
                    hint="new_key() makes one",
                )
            self._ciphers[hashlib.sha256(b"name" + raw).digest()[:_NAME]] = AESGCM(raw)

    def seal(self, secret: str, record: str) -> bytes:
        """Encrypt a secret for the record of this id; for another it cannot be opened."""
        name, cipher = next(iter(self._ciphers.items()))
        nonce = secrets.token_bytes(_NONCE)
        return _MARK + name + nonce + cipher.encrypt(nonce, secret.encode(), record.encode())

    def open(self, sealed: bytes, record: str) -> str:
        """Decrypt it.

        Raises
        ------
        UnreadableSecretError
            The key is not among ours, the record is another, or a bit was changed.
        """
        from cryptography.exceptions import InvalidTag

        head = len(_MARK) + _NAME
        cipher = self._ciphers.get(sealed[len(_MARK) : head]) if sealed.startswith(_MARK) else None
        try:
            if cipher is None:
                raise InvalidTag
            return cipher.decrypt(sealed[head : head + _NONCE], sealed[head + _NONCE :], record.encode()).decode()
        except (InvalidTag, ValueError):
            raise UnreadableSecretError(
                f"the secret of {record!r} cannot be decrypted",
                hint="give it a new secret, or restore the key that it was sealed with",
            ) from None

    def seal_text(self, secret: str, record: str) -> str:
        """:meth:`seal` as text, for a column of text."""
        return f"sealed:{base64.b64encode(self.seal(secret, record)).decode()}"

    def open_text(self, text: str, record: str) -> str:
        """What :meth:`seal_text` sealed; a text that is not sealed is given back as it is."""
        if not text.startswith("sealed:"):
            return text
        try:
            sealed = base64.b64decode(text.removeprefix("sealed:"), validate=True)
        except (binascii.Error, ValueError):
            sealed = b""
        return self.open(sealed, record)

    def __repr__(self) -> str:
        return f"SecretVault({len(self._ciphers)} keys)"


def new_key() -> str:
    """A random key for :class:`SecretVault`."""
    return base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode()
