"""Webhooks over real connections: what leaves, what counts as success, and where the connection goes."""

from __future__ import annotations

import datetime
import ssl
import threading
import time
from dataclasses import replace

import pytest
from standardwebhooks.webhooks import Webhook

from tapeline.alerts.delivery.messages import event_body
from tapeline.alerts.delivery.pinned_http import post
from tapeline.alerts.delivery.secret_vault import SecretVault, UnreadableSecretError, new_key
from tapeline.alerts.delivery.signing import verify
from tapeline.alerts.delivery.ssrf import Target, TargetRules
from tapeline.alerts.delivery.webhook import WebhookChannel
from tapeline.alerts.records import Delivery
from tapeline.alerts.store.store import UnknownRecordError
from tapeline.alerts.webhook_manager import WebhookManager
from tapeline.core.errors import ConfigurationError, TemporaryError
from tests.alerts.delivery.support import START, Receiver, Reply, firing, receiver

pytestmark = pytest.mark.network_shape


def rules(port: int) -> TargetRules:
    return TargetRules(http=True, ports=(port,), networks=("127.0.0.0/8",))


def delivery(number: int = 0, **changes) -> Delivery:
    one = firing(number)
    return replace(Delivery(f"d{number}", one.id, "webhook", "e1", event_body(one), START), **changes)


def book_of(store, vault, channel: WebhookChannel) -> WebhookManager:
    return WebhookManager(store, vault, {"webhook": channel})


@pytest.fixture
def ready(delivery_store, vault, hooks, request):
    """A channel and an endpoint of it at the receiver."""
    id = request.node.name[:64]
    channel = WebhookChannel(vault, rules=rules(hooks.port), timeout=3.0)
    book = book_of(delivery_store, vault, channel)
    made = book.register("me", "webhook", f"{hooks.url}/in/token-of-the-path", name="hook", id=id)
    return channel, book, made.endpoint, made.secret


def test_the_independent_reader_takes_what_arrives(ready, hooks: Receiver) -> None:
    channel, book, endpoint, secret = ready
    newer = book.rotate(endpoint.id).secret
    rotated = book.known(endpoint.id)
    answer = channel.send([delivery()], rotated, now=time.time_ns())
    assert (answer.outcome, answer.status) == ("sent", 200)
    (got,) = hooks.got
    assert got.path == "/in/token-of-the-path"
    assert got.headers["Content-Type"] == "application/json"
    assert got.headers["Host"] == f"127.0.0.1:{hooks.port}"
    for each in (secret, newer):
        assert Webhook(each).verify(got.body, got.headers)["id"] == firing().id == got.headers["webhook-id"]
        verify([each], got.headers, got.body, now=time.time())
    channel.send([delivery()], book.retire(endpoint.id), now=time.time_ns())
    assert len(hooks.got[1].headers["webhook-signature"].split(" ")) == 1
    assert hooks.got[1].body == got.body


@pytest.mark.parametrize(
    ("reply", "outcome", "retry_after"),
    [
        (Reply(204), "sent", None),
        (Reply(301, headers=(("Location", "/elsewhere"),)), "retry", None),
        (Reply(400, "no"), "retry", None),
        (Reply(429, headers=(("Retry-After", "17"),)), "retry", 17.0),
        (Reply(503, headers=(("Retry-After", "1e9"),)), "retry", 86_400.0),
        (Reply(500, headers=(("Retry-After", "17"),)), "retry", None),
        (Reply(410), "gone", None),
        (Reply(fault="drop"), "retry", None),
    ],
)
def test_an_answer_is_judged_by_its_status(ready, hooks: Receiver, reply: Reply, outcome, retry_after) -> None:
    channel, _, endpoint, _ = ready
    hooks.script = [reply]
    answer = channel.send([delivery()], endpoint, now=START)
    assert (answer.outcome, answer.retry_after) == (outcome, retry_after)
    assert len(hooks.got) == 1  # a redirect is not followed
    assert bool(answer.disable) == (outcome == "gone")


@pytest.mark.parametrize("fault", ["hang", "drip"])
def test_a_receiver_that_does_not_end_is_left_in_time(ready, hooks: Receiver, vault, fault) -> None:
    hooks.otherwise = Reply(fault=fault)
    channel = WebhookChannel(vault, rules=rules(hooks.port), timeout=0.3)
    began = time.monotonic()
    answer = channel.send([delivery()], ready[2], now=START)
    assert answer.outcome == "retry"
    assert "within 0.3 s" in answer.detail
    assert time.monotonic() - began < 2.5


def test_of_the_answer_256_characters_are_kept_without_secrets_and_control_characters(ready, hooks: Receiver) -> None:
    channel, _, endpoint, secret = ready
    hooks.script = [Reply(500, f"token-of-the-path {secret}\x1b[31m\r\nforged: line" + "y" * 100_000)]
    answer = channel.send([delivery()], endpoint, now=START)
    assert len(answer.detail) <= 256 + len("HTTP 500: ")
    assert "forged: line" in answer.detail
    for hidden in ("token-of-the-path", secret, secret.removeprefix("whsec_"), "\n", "\x1b"):
        assert hidden not in answer.detail


def test_a_proxy_of_the_environment_is_not_asked(ready, hooks: Receiver, monkeypatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert ready[0].send([delivery()], ready[2], now=START).outcome == "sent"


def test_a_name_that_leads_elsewhere_the_second_time_is_not_followed(delivery_store, vault, hooks: Receiver) -> None:
    answers = [["127.0.0.1"], ["127.0.0.1"], ["10.0.0.1"], ["127.0.0.1", "169.254.169.254"]]

    def resolve(host: str, port: int) -> list[str]:
        assert host == "rebind.example.com"
        return answers.pop(0)

    allowed = rules(hooks.port)
    channel = WebhookChannel(vault, rules=allowed, resolve=resolve)
    book = book_of(delivery_store, vault, channel)
    url = f"http://rebind.example.com:{hooks.port}/"
    endpoint = book.register("me", "webhook", url, name="hook", id="rebind").endpoint
    # One look at the name, and the connection goes where that look led: a second look would find 10.0.0.1.
    assert channel.send([delivery()], endpoint, now=START).outcome == "sent"
    assert len(answers) == 2
    assert hooks.got[0].headers["Host"] == f"rebind.example.com:{hooks.port}"
    for _ in range(2):
        answer = channel.send([delivery()], endpoint, now=START)
        assert answer.outcome == "retry"
        assert "not public" in answer.detail
        assert "10.0.0.1" not in answer.detail
    assert len(hooks.got) == 1


def test_the_same_check_stands_at_creation_change_and_switching_on(delivery_store, vault) -> None:
    found = ["93.184.216.34"]
    book = book_of(delivery_store, vault, WebhookChannel(vault, resolve=lambda host, port: found))
    for url in ("http://example.com/", "https://127.0.0.1/", "https://localhost/"):
        with pytest.raises(ConfigurationError):
            book.register("me", "webhook", url, name="hook", id="refused")
    assert delivery_store.endpoint("refused") is None
    endpoint, secret = (
        (made := book.register("me", "webhook", "https://example.com/path-secret", name="hook", id="kept")).endpoint,
        made.secret,
    )
    assert "path-secret" not in endpoint.address
    assert secret.encode() not in endpoint.secrets[0]
    assert secret not in repr(made)
    with pytest.raises(ConfigurationError, match="exists"):
        book.register("me", "webhook", "https://example.com/", name="hook", id="kept")
    with pytest.raises(ConfigurationError):
        book.change("kept", address="https://[::ffff:10.0.0.1]/")
    assert delivery_store.endpoint("kept") == endpoint
    found[:] = ["10.0.0.1"]
    with pytest.raises(ConfigurationError, match="not public"):
        book.enable("kept")
    tested = book.test("kept")
    assert (tested.outcome, tested.status, "not public" in tested.detail) == ("retry", 0, True)
    with pytest.raises(UnknownRecordError):
        book.rotate("nobody")


def test_an_unreadable_secret_is_said_and_a_rotation_repairs_it(delivery_store, hooks: Receiver) -> None:
    key, other = new_key(), new_key()
    lost = SecretVault([key])
    book = book_of(delivery_store, lost, WebhookChannel(lost, rules=rules(hooks.port)))
    endpoint = book.register("me", "webhook", f"{hooks.url}/", name="hook", id="lost-key").endpoint
    vault = SecretVault([other])
    strange = WebhookChannel(vault, rules=rules(hooks.port))
    answer = strange.send([delivery()], endpoint, now=START)
    assert answer.outcome == "refused"
    assert "cannot be decrypted" in answer.disable
    assert hooks.got == []
    repaired = book_of(delivery_store, vault, strange)
    assert (repaired.shown(endpoint), "address" in repaired.problem(endpoint)) == (None, True)
    with pytest.raises(UnreadableSecretError):
        repaired.enable("lost-key")
    changed = repaired.change("lost-key", address=f"{hooks.url}/")
    assert "rotate it" in repaired.problem(changed)
    mended = repaired.rotate("lost-key").endpoint
    assert len(mended.secrets) == 1
    assert repaired.problem(mended) == ""
    assert strange.send([delivery()], mended, now=START).outcome == "sent"


def test_a_header_cannot_be_forged_by_an_id(ready, hooks: Receiver) -> None:
    answer = ready[0].send([delivery(firing="evt_1\r\nX-Forged: 1")], ready[2], now=START)
    assert answer.outcome == "refused"
    assert ready[0].send([delivery()], None, now=START).outcome == "refused"
    assert ready[0].send([delivery(body="x" * 300_000)], ready[2], now=START).outcome == "refused"
    assert hooks.got == []


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A certificate of hooks.example.com that nobody else trusts."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "hooks.example.com")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("hooks.example.com")]), False)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "server.pem"
    plain = serialization.NoEncryption()
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
        + made.public_bytes(serialization.Encoding.PEM)
    )
    return path


def test_tls_asks_for_the_name_at_the_checked_address_and_trusts_no_other(certificate) -> None:
    asked: list[str | None] = []

    def tls(server) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        context.sni_callback = lambda sock, name, ctx: asked.append(name)
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)

    trusting = ssl.create_default_context(cafile=str(certificate))
    with receiver(tls) as state:
        target = Target("https", "hooks.example.com", state.port, "/x", ("127.0.0.1",))
        assert post(target, b"{}", {}, timeout=5, context=trusting).status == 200
        assert asked == ["hooks.example.com"]
        assert state.got[0].headers["Host"] == f"hooks.example.com:{state.port}"
        with pytest.raises(TemporaryError, match="TLS"):
            post(target, b"{}", {}, timeout=5)
        with pytest.raises(TemporaryError, match="TLS"):
            post(replace(target, host="other.example.com"), b"{}", {}, timeout=5, context=trusting)
        assert len(state.got) == 1


def test_another_address_of_the_name_is_tried_where_one_does_not_answer(hooks: Receiver) -> None:
    target = Target("http", "hooks.example.com", hooks.port, "/", ("127.0.0.9", "127.0.0.1"))
    assert post(target, b"{}", {}, timeout=5).status == 200


def test_an_abandoned_try_leaves_no_thread_behind(hooks: Receiver) -> None:
    hooks.otherwise = Reply(fault="drip")
    with pytest.raises(TemporaryError):
        post(Target("http", "h", hooks.port, "/", ("127.0.0.1",)), b"{}", {}, timeout=0.2)
    until = time.monotonic() + 5
    while any(each.name == "tapeline-notify" for each in threading.enumerate()) and time.monotonic() < until:
        threading.Event().wait(0.02)
    assert not any(each.name == "tapeline-notify" for each in threading.enumerate())
