"""Tokens: what is refused, and how keys are changed."""

from __future__ import annotations

import base64
import hmac
import json
from dataclasses import replace

import jwt
import pytest

from tapeline.alerts.access.principal import NotAuthenticatedError
from tapeline.alerts.access.signing_keys import checked_keys, key_name, weakness
from tapeline.alerts.access.tokens import AUDIENCE, ISSUER, Claims, TokenSigner
from tapeline.alerts.delivery.secret_vault import new_key
from tapeline.core.errors import ConfigurationError
from tests.alerts.access.support import KEY, OLDER, OTHER, Clock

NOW = 1_790_000_000
CLAIMS = Claims("ann", "family", "token", NOW, NOW + 900)
PAYLOAD = {
    "iss": ISSUER,
    "aud": AUDIENCE,
    "sub": "ann",
    "typ": "access",
    "jti": "token",
    "fam": "family",
    "iat": NOW,
    "nbf": NOW,
    "exp": NOW + 900,
}


@pytest.fixture
def signer() -> TokenSigner:
    return TokenSigner([KEY], Clock())


def forged(payload=PAYLOAD, *, key=KEY, hash="sha256", **header) -> str:
    """A token that is signed by hand, so that it may say anything."""
    text = f"{part({'alg': f'HS{hash[3:]}', 'typ': 'JWT', 'kid': key_name(KEY)} | header)}.{part(payload)}"
    return f"{text}.{encoded(hmac.digest(key.encode(), text.encode(), hash))}"


def part(value) -> str:
    return encoded(json.dumps(value).encode())


def encoded(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def refused(signer: TokenSigner, token: str, kind="access") -> None:
    with pytest.raises(NotAuthenticatedError) as refusal:
        signer.read(token, kind)
    assert str(refusal.value) == f"the {kind} token is not valid"


def test_a_token_says_what_was_signed(signer) -> None:
    assert signer.read(signer.signed("access", CLAIMS), "access") == CLAIMS
    assert signer.read(forged(), "access") == CLAIMS
    assert signer.signed("refresh", CLAIMS) == signer.signed("refresh", CLAIMS)


@pytest.mark.parametrize("algorithm", ["none", "None", "nOnE"])
def test_a_token_without_a_signature_is_refused(signer, algorithm) -> None:
    header = {"alg": algorithm, "typ": "JWT", "kid": key_name(KEY)}
    refused(signer, f"{part(header)}.{part(PAYLOAD)}.")
    refused(signer, f"{part(header)}.{part(PAYLOAD)}.AAAA")
    # The signature of an honest token does not carry over.
    refused(signer, f"{part(header)}.{part(PAYLOAD)}.{forged().rpartition('.')[2]}")


def test_the_algorithm_is_the_keys_and_not_the_tokens(signer) -> None:
    from cryptography.hazmat.primitives.asymmetric import ed25519, rsa

    for algorithm, private in (
        ("RS256", rsa.generate_private_key(65_537, 2_048)),
        ("EdDSA", ed25519.Ed25519PrivateKey.generate()),
    ):
        refused(signer, jwt.encode(PAYLOAD, private, algorithm, headers={"kid": key_name(KEY)}))
    for hash in ("sha384", "sha512"):
        refused(signer, forged(hash=hash))


def test_a_public_key_is_no_secret_to_sign_with() -> None:
    from cryptography.hazmat.primitives.asymmetric import ed25519
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    public = ed25519.Ed25519PrivateKey.generate().public_key()
    pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    with pytest.raises(ConfigurationError, match="public-key"):
        TokenSigner([pem], Clock())


@pytest.mark.parametrize("claim", sorted(PAYLOAD))
def test_every_claim_is_required(signer, claim) -> None:
    refused(signer, forged({name: value for name, value in PAYLOAD.items() if name != claim}))
    refused(signer, forged({**PAYLOAD, claim: None}))


@pytest.mark.parametrize(
    ("claim", "value"),
    [
        *(("aud", "another"), ("aud", [AUDIENCE, "another"]), ("iss", "another"), ("typ", "refresh")),
        *(("nbf", NOW + 60), ("iat", NOW + 60), ("exp", NOW), ("exp", NOW - 1), ("exp", str(NOW + 900))),
        *(("exp", True), ("exp", 1e300), ("nbf", "0"), ("sub", 7), ("sub", ""), ("fam", ["family"])),
    ],
)
def test_every_claim_is_looked_at(signer, claim, value) -> None:
    refused(signer, forged({**PAYLOAD, claim: value}))


def test_a_refresh_token_is_no_access_token_and_the_other_way_round(signer) -> None:
    refused(signer, signer.signed("refresh", CLAIMS), "access")
    refused(signer, signer.signed("access", CLAIMS), "refresh")


def test_clocks_of_two_workers_may_differ_a_little() -> None:
    clock = Clock()
    ahead = TokenSigner([KEY], clock).signed("access", replace(CLAIMS, issued_at=NOW + 4))
    assert TokenSigner([KEY], clock).read(ahead, "access").issued_at == NOW + 4


@pytest.mark.parametrize(
    "kid",
    [
        *("../../../../dev/null", "x' UNION SELECT 'secret", "", key_name(OTHER), key_name(KEY).upper()),
        *(key_name(KEY) + "\n", ["a"], {"a": 1}, 7, None, "0" * 100_000),
    ],
)
def test_a_hostile_kid_names_no_key(signer, kid) -> None:
    # Its signature would be right under our key, and under an empty one.
    refused(signer, forged(kid=kid))
    refused(signer, forged(kid=kid, key=""))


@pytest.mark.parametrize("name", ["jku", "x5u", "jwk", "x5c", "crit", "b64", "zip", "cty"])
def test_a_header_that_brings_its_own_key_is_refused(signer, name) -> None:
    # Its signature is right: it is refused for the header alone, and nothing is fetched.
    refused(signer, forged(**{name: "https://attacker.example/keys.json"}))


@pytest.mark.parametrize("token", ["", ".", "..", "a.b.c", "a" * 5_000, "é.é.é", forged() + "x", forged()[:-2], " "])
def test_what_is_no_token_is_refused(signer, token) -> None:
    refused(signer, token)


def test_a_deep_payload_is_refused_and_not_followed(signer) -> None:
    refused(signer, f"{part({'alg': 'HS256', 'typ': 'JWT', 'kid': key_name(KEY)})}.{'W1tb' * 300}.AAAA")


def test_a_changed_byte_is_seen(signer) -> None:
    token = forged()
    for place in range(0, len(token), 7):
        if token[place] != ".":
            letter = "A" if token[place] != "A" else "B"
            changed = token[:place] + letter + token[place + 1 :]
            refused(signer, changed)


def test_the_key_is_changed_without_logging_anybody_out() -> None:
    clock = Clock()
    before = TokenSigner([OLDER], clock).signed("access", CLAIMS)
    both = TokenSigner([KEY, OLDER], clock)
    assert both.read(before, "access") == CLAIMS
    after = both.signed("access", CLAIMS)
    assert jwt.get_unverified_header(after)["kid"] == key_name(KEY)
    clock.move(900)
    refused(both, before)
    clock.move(-900)
    retired = TokenSigner([KEY], clock)
    refused(retired, before)
    assert retired.read(after, "access") == CLAIMS


def test_the_name_of_a_key_does_not_let_another_key_sign(signer) -> None:
    refused(signer, forged(key=OTHER))


@pytest.mark.parametrize(
    "key",
    [
        *("", "short", "x" * 31, "a" * 64, "ab" * 32, "abcdefghijklmnopqrstuvwxyz0123456789ABCDEF"),
        *("super-secret" * 3, "SuperSecret" + "9f8Qz7" * 5, "changeme" * 5, "your-256-bit-secret-your-256-bit-secret"),
        "a-string-secret-at-least-256-bits-long",
        "09d25e094faa6ca2556c818166b7a9563b93f7099f6f0f4caa6cf63b88e8d3e7",
        "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow",
        *("".join(chr(33 + n) for n in range(64)), "correct-horse-battery-correct-horse-battery-"),
        "password-Zk3v9Qw7Lx2Rn8Tb5Yc1Hd6",
    ],
)
def test_a_key_that_can_be_guessed_is_refused_without_being_told(key) -> None:
    with pytest.raises(ConfigurationError) as refusal:
        checked_keys([KEY, key])
    assert "signing key 2" in str(refusal.value)
    assert not key or key not in str(refusal.value)
    assert "tapeline alerts key" in refusal.value.hint


def test_random_keys_are_taken() -> None:
    import random

    chance = random.Random(7)
    hexadecimal = ["".join(chance.choices("0123456789abcdef", k=32)) for _ in range(200)]
    assert [key for key in [*hexadecimal, new_key(), KEY, OLDER, OTHER] if weakness(key)] == []


def test_no_key_and_the_same_key_twice_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="no key"):
        checked_keys([])
    with pytest.raises(ConfigurationError, match="the same"):
        checked_keys([KEY, KEY])
    assert KEY not in repr(TokenSigner([KEY], Clock()))
