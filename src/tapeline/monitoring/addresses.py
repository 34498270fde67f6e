"""Notification addresses: parsed and checked once, so that what follows can trust them. No error repeats one."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import parse_qsl, unquote, urlsplit

from tapeline.core.errors import ConfigurationError

TELEGRAM_API: Final = "https://api.telegram.org"
SLACK_API: Final = "https://hooks.slack.com"

_TELEGRAM: Final = re.compile(
    r"tgram://(?:bot)?(?P<bot>\d{3,20})(?::|%3A|/)(?P<token>[A-Za-z0-9_-]{10,128})(?P<chats>(?:/[^/?]*)*)(?:\?(?P<query>.*))?",
    re.IGNORECASE,
)
_CHAT: Final = re.compile(r"(?P<chat>-?\d{1,20}|@[A-Za-z]\w{3,63})(?::(?P<topic>\d{1,18}))?")
_SLACK: Final = re.compile(
    r"slack://(?:[^@/?]{1,80}@)?(?P<tokens>\w{1,64}/\w{1,64}/\w{1,128})(?P<targets>(?:/[^/?]*)*)(?:\?(?P<query>.*))?",
    re.IGNORECASE | re.ASCII,
)
_SLACK_HOOK: Final = re.compile(
    r"(?P<base>https://hooks\.slack(?:-gov)?\.com)/services/(?P<tokens>\w{1,64}/\w{1,64}/\w{1,128})/?(?:\?(?P<query>.*))?",
    re.IGNORECASE | re.ASCII,
)
_SLACK_TARGET: Final = re.compile(r"[#@+]?\w[\w.-]{0,79}")
_SCHEME: Final = re.compile(r"[a-z][a-z0-9+.-]{0,30}", re.IGNORECASE)
_YES: Final = ("yes", "true", "on", "1")
_NO: Final = ("no", "false", "off", "0")


@dataclass(frozen=True)
class TelegramAddress:
    """One chat of one bot, at one Bot API server."""

    token: str = field(repr=False)
    chat_id: str
    topic: int | None = None
    silent: bool = False
    api: str = TELEGRAM_API

    @property
    def name(self) -> str:
        """A name that tells channels apart and gives nothing away."""
        return _name("telegram", self.token, self.chat_id, str(self.topic), self.api)


@dataclass(frozen=True)
class SlackAddress:
    """One incoming webhook; ``target`` is a channel for the old kind of webhook that may choose one."""

    tokens: str = field(repr=False)
    target: str | None = None
    api: str = SLACK_API

    @property
    def name(self) -> str:
        """A name that tells channels apart and gives nothing away."""
        return _name("slack", self.tokens, str(self.target), self.api)


@dataclass(frozen=True)
class AppriseAddress:
    """Any other service, as apprise spells it."""

    url: str = field(repr=False)
    scheme: str

    @property
    def name(self) -> str:
        """A name that tells channels apart and gives nothing away."""
        return _name(self.scheme, self.url)


Address = TelegramAddress | SlackAddress | AppriseAddress


def parse_address(url: str) -> list[Address]:
    """Read one address of the settings; one with several chats or channels gives several.

    - ``tgram://<bot id>:<token>/<chat>[:<topic>][/<chat>...][?silent=yes&api=<base>]``: a Telegram bot. A chat is a
      number or ``@name``. ``api`` is the base of a Bot API server of one's own.
    - ``slack://<T>/<B>/<secret>[/<channel>...][?api=<base>]`` or ``https://hooks.slack.com/services/<T>/<B>/<secret>``:
      a Slack incoming webhook.
    - every other address goes to apprise as it stands.

    Raises
    ------
    ConfigurationError
        The address cannot be read. The message names its scheme only: the rest of it is secret.

    Examples
    --------
    >>> [a.chat_id for a in parse_address("tgram://123456:abcdefghijkl/-100200:7/@news")]
    ['-100200', '@news']
    >>> parse_address("tgram://123456:abcdefghijkl/1?api=file:///etc/passwd")
    Traceback (most recent call last):
    ...
    tapeline.core.errors.ConfigurationError: a tgram:// address has an api that is not an http or https base address \
(for instance api=http://127.0.0.1:8081)
    """
    url = url.strip()
    scheme, separator, _ = url.partition("://")
    if not separator or not _SCHEME.fullmatch(scheme):
        raise ConfigurationError(
            "a notification address has no scheme",
            hint="for instance tgram://<token>/<chat> or slack://<T>/<B>/<secret>",
        )
    scheme = scheme.lower()
    if scheme == "tgram":
        return list(_telegram(url))
    if scheme == "slack" and not _is_other_slack(url):
        found = _SLACK.fullmatch(url.replace("/#", "/%23"))
        if not found:
            raise _unreadable(scheme, "slack://<T>/<B>/<secret>, the three parts of the webhook's path")
        return list(_slack(found["tokens"], found["targets"], found["query"], SLACK_API))
    hook = _SLACK_HOOK.fullmatch(url)
    if hook:
        return list(_slack(hook["tokens"], "", hook["query"], hook["base"].lower()))
    return [AppriseAddress(url, scheme)]


def _telegram(url: str) -> list[TelegramAddress]:
    found = _TELEGRAM.fullmatch(url)
    if not found:
        raise _unreadable("tgram", "tgram://<bot id>:<token>/<chat>, the token as BotFather gives it")
    options = _options("tgram", found["query"], {"api", "silent", "topic"})
    chats = [unquote(chat) for chat in found["chats"].split("/") if chat]
    if not chats:
        raise _unreadable("tgram", "add the chat after the token: tgram://<bot id>:<token>/<chat>")
    addresses = []
    for text in chats:
        chat = _CHAT.fullmatch(text)
        topic = (chat and chat["topic"]) or options.get("topic")
        if not chat or (topic and not topic.isdecimal()):
            raise _unreadable("tgram", "a chat is a number or @name, a topic a number: tgram://<token>/-1001234:5")
        addresses.append(
            TelegramAddress(
                token=f"{found['bot']}:{found['token']}",
                chat_id=chat["chat"],
                topic=int(topic) if topic else None,
                silent=_flag("tgram", "silent", options.get("silent", "no")),
                api=_base("tgram", options.get("api", TELEGRAM_API)),
            )
        )
    return addresses


def _slack(tokens: str, targets: str, query: str | None, base: str) -> list[SlackAddress]:
    options = _options("slack", query, {"api"})
    api = _base("slack", options.get("api", base))
    names: list[str | None] = []
    for text in (unquote(target) for target in targets.split("/") if target):
        if not _SLACK_TARGET.fullmatch(text):
            raise _unreadable("slack", "a channel is #name, @user or +id")
        names.append({"+": text[1:], "#": text, "@": text}.get(text[0], f"#{text}"))
    return [SlackAddress(tokens, target, api) for target in names or [None]]


def _is_other_slack(url: str) -> bool:
    # Bot tokens and workflows are other interfaces than the incoming webhook; apprise speaks them.
    return url[len("slack://") :].partition("@")[2].startswith("xo") or bool(
        re.match(r"slack://xo|slack://.*[?&](mode|token|template)=", url, re.IGNORECASE)
    )


def _options(scheme: str, query: str | None, known: set[str]) -> dict[str, str]:
    try:
        pairs = parse_qsl(query or "", keep_blank_values=True, max_num_fields=20)
    except ValueError:
        raise _unreadable(scheme, f"it takes {', '.join(sorted(known))}") from None
    unknown = [name for name, _ in pairs if name not in known]
    if unknown:
        raise ConfigurationError(
            f"a {scheme}:// address has {len(unknown)} unknown parameter(s)",
            hint=f"it takes {', '.join(sorted(known))}",
        )
    return dict(pairs)


def _flag(scheme: str, name: str, value: str) -> bool:
    if value.lower() not in _YES + _NO:
        raise ConfigurationError(f"a {scheme}:// address has a {name} that is neither yes nor no")
    return value.lower() in _YES


def _base(scheme: str, url: str) -> str:
    try:
        parts = urlsplit(url)
        plain = not (parts.username or parts.password or parts.query or parts.fragment)
        _ = parts.port  # reading it checks it
        sound = parts.scheme in ("http", "https") and bool(parts.hostname) and plain
    except ValueError:
        sound = False
    if not sound or re.search(r"[\s\\\x00-\x20]|\.\.", url):
        raise ConfigurationError(
            f"a {scheme}:// address has an api that is not an http or https base address",
            hint="for instance api=http://127.0.0.1:8081",
        )
    return url.rstrip("/")


def _unreadable(scheme: str, hint: str) -> ConfigurationError:
    return ConfigurationError(f"a {scheme}:// address cannot be read", hint=hint)


def _name(kind: str, *parts: str) -> str:
    return f"{kind}-{hashlib.sha256('|'.join(parts).encode()).hexdigest()[:8]}"
