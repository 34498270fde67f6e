"""Secrets at rest."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tapeline.alerts.delivery.secret_vault import SecretVault, UnreadableSecretError, new_key
from tapeline.core.errors import ConfigurationError

KEYS = [new_key(), new_key()]
VAULT = SecretVault(KEYS[:1])


@given(st.text(st.characters(codec="utf-8"), max_size=100), st.text(st.characters(codec="utf-8"), max_size=20))
def test_only_the_record_that_it_was_sealed_for_opens_it(secret: str, record: str) -> None:
    sealed = VAULT.seal(secret, record)
    assert VAULT.open(sealed, record) == VAULT.open_text(VAULT.seal_text(secret, record), record) == secret
    assert sealed != VAULT.seal(secret, record)
    assert len(secret) < 6 or secret.encode() not in sealed
    with pytest.raises(UnreadableSecretError):
        VAULT.open(sealed, record + "x")


@given(st.data())
def test_a_changed_bit_or_a_cut_is_found(data) -> None:
    sealed = bytearray(VAULT.seal("whsec_secret", "e"))
    place = data.draw(st.integers(0, len(sealed) - 1))
    sealed[place] ^= 1 << data.draw(st.integers(0, 7))
    for damaged in (bytes(sealed), bytes(sealed[:place]), b""):
        with pytest.raises(UnreadableSecretError):
            VAULT.open(damaged, "e")


def test_a_key_is_changed_by_putting_a_new_one_in_front() -> None:
    old = VAULT.seal("s", "e")
    both = SecretVault([KEYS[1], KEYS[0]])
    assert both.open(old, "e") == "s"
    assert SecretVault(KEYS[1:]).open(both.seal("s", "e"), "e") == "s"
    with pytest.raises(UnreadableSecretError) as caught:
        SecretVault(KEYS[1:]).open(old, "e")
    assert KEYS[1] not in str(caught.value)
    assert repr(both) == "SecretVault(2 keys)"


@pytest.mark.parametrize("key", ["", "abc", base64.b64encode(bytes(32)).decode(), base64.b64encode(b"x" * 31).decode()])
def test_an_unusable_key_is_refused(key: str) -> None:
    with pytest.raises(ConfigurationError):
        SecretVault([key])
    with pytest.raises(ConfigurationError):
        SecretVault([])
