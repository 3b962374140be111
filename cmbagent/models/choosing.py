"""Which AI model each role uses, from the environment and a session's configuration.

Standard library only: the web process asks this too, and a model's library costs a second.
"""

from __future__ import annotations

import importlib.util
import ipaddress
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal
from urllib.parse import urlsplit

from cmbagent.wire import ModelSpec

NO_MODEL: Literal["no-model"] = "no-model"
DEFAULT = "default"  # the role of whoever has no model of its own
ROLES = ("engineer", "researcher")
DEFAULT_AGENT = "engineer"  # does the task of a session that names nobody
DEFAULT_TIMEOUT_S = 300.0  # models that think send nothing for minutes
MAX_TIMEOUT_S = 3600.0
MAX_NAME_CHARACTERS = 200
_NAME = re.compile(r"[!-~]+")


@dataclass(frozen=True)
class Provider:
    """How a provider is set up. `module` is what its library is imported as."""

    keys: tuple[str, ...]  # variables that may hold the key; the first that is set counts
    base_url: str
    address: str  # where it answers when base_url is not set
    module: str
    example: str


PROVIDERS: dict[str, Provider] = {
    "openai": Provider(
        ("OPENAI_API_KEY",), "OPENAI_BASE_URL", "https://api.openai.com/v1", "openai", "gpt-4o"
    ),
    "anthropic": Provider(
        ("ANTHROPIC_API_KEY",),
        "ANTHROPIC_BASE_URL",
        "https://api.anthropic.com",
        "anthropic",
        "anthropic:claude-sonnet-5-5",
    ),
    "google": Provider(
        ("GEMINI_API_KEY", "GOOGLE_API_KEY"),
        "GEMINI_BASE_URL",
        "https://generativelanguage.googleapis.com",
        "google.genai",
        "google:gemini-3.8-flash",
    ),
    "mistral": Provider(
        ("MISTRAL_API_KEY",),
        "MISTRAL_BASE_URL",
        "https://api.mistral.ai",
        "mistralai",
        "mistral:mistral-large-latest",
    ),
}

_MODEL, _TIMEOUT, _PRICES = "CMBAGENT_MODEL", "CMBAGENT_MODEL_TIMEOUT", "CMBAGENT_MODEL_PRICES"
_OF_ROLE = {role: f"{_MODEL}_{role.upper()}" for role in ROLES}
_KEYS = {name for provider in PROVIDERS.values() for name in provider.keys}
_BASE_URLS = {provider.base_url for provider in PROVIDERS.values()}
VARIABLES = {_MODEL, _TIMEOUT, _PRICES, *_OF_ROLE.values(), *_KEYS, *_BASE_URLS}

_EXAMPLES = "a name like gpt-4o or anthropic:claude-sonnet-5-5, or no-model"


class ModelChoiceInvalid(ValueError):
    """`field` is the variable of the environment, or the field of the configuration, to change."""

    def __init__(self, field: str, problem: str, remedy: str) -> None:
        super().__init__(f"{problem} {remedy}")
        self.field = field
        self.problem = problem
        self.remedy = remedy


class Secret(str):
    """Does not show itself where values are shown: debug pages, settings, logs of locals."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'********'"


class ModelEnvironment(Mapping[str, str]):
    """The part of an environment that is about models. Its keys are read by name and not shown."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        wanted = {n for n in environ if n in _KEYS | _BASE_URLS or n.startswith(_MODEL)}
        values = {name: environ[name].strip() for name in sorted(wanted)}
        self._values = {n: Secret(v) if n in _KEYS else v for n, v in values.items() if v}

    def __getitem__(self, name: str) -> str:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"ModelEnvironment({self._values!r})"

    @property
    def default_name(self) -> str:
        """The model that does a task unless its session chooses another, as it was written."""
        return self.get(_OF_ROLE[DEFAULT_AGENT]) or self.get(_MODEL) or NO_MODEL


def choose_models(environ: Mapping[str, str], config: Mapping[str, Any]) -> dict[str, ModelSpec]:
    """By role; "default" is always there. What the session says goes before what the operator
    says, and of each what is said of one role before what is said of all: `config` may have
    "model" (a name) and "models" (names by role). Raises ModelChoiceInvalid.
    """
    environ = ModelEnvironment(environ)
    _check_variables(environ)
    named = config.get("models") or {}
    for role in named:
        _check_role(role)
    chosen = {DEFAULT: _first([("config.model", config.get("model")), _from(_MODEL, environ)])}
    for role in ROLES:
        said = [(f"config.models.{role}", named.get(role))]
        said += [("config.model", config.get("model")), _from(_OF_ROLE[role], environ)]
        chosen[role] = _first([*said, chosen[DEFAULT]])
    return {role: _spec(field, name, environ) for role, (field, name) in chosen.items()}


def agent_of(config: Mapping[str, Any]) -> str:
    """To whom a session's configuration gives the task."""
    return str(config.get("agent", DEFAULT_AGENT))


def problems(environ: Mapping[str, str]) -> list[ModelChoiceInvalid]:
    """Everything about the environment that keeps models from being used."""
    environ = ModelEnvironment(environ)
    checks: list[Callable[[], Any]] = [partial(_check_variables, environ)]
    checks += [partial(_prices, environ), partial(_timeout_s, environ)]
    checks += [partial(_base_url, name, environ) for name in PROVIDERS]
    if found := _refusals(checks):
        return found
    named = [_from(field, environ) for field in (_MODEL, *_OF_ROLE.values())]
    return _refusals([partial(_spec, field, name, environ) for field, name in named if name])


def unused_keys(environ: Mapping[str, str]) -> list[str]:
    """Variables that connect a provider while nothing says which model to use: none is used. A
    key that lies in a shell for something else must not spend money or send data away."""
    environ = ModelEnvironment(environ)
    if any(field in environ for field in (_MODEL, *_OF_ROLE.values())):
        return []
    return sorted(name for name in environ if name in _KEYS | _BASE_URLS)


def keys_in_the_clear(environ: Mapping[str, str]) -> list[str]:
    """Base URLs without TLS, on another machine, to which a key would travel."""
    environ = ModelEnvironment(environ)
    return [
        provider.base_url
        for name, provider in PROVIDERS.items()
        if _key(name, environ) and _travels_in_the_clear(environ.get(provider.base_url, ""))
    ]


def parse_name(field: str, text: str, *, compatible: bool = False) -> tuple[str, str]:
    """Provider and model of `gpt-4o` or `anthropic:claude-…`. Names of Ollama's models may hold a
    colon too (`qwen3:8b`): where OPENAI_BASE_URL is set (`compatible`) they are taken as they are.
    Raises ModelChoiceInvalid."""
    if not _NAME.fullmatch(text) or len(text) > MAX_NAME_CHARACTERS:
        raise ModelChoiceInvalid(field, "This is no name of a model.", f"Write {_EXAMPLES}.")
    if text == NO_MODEL:
        return NO_MODEL, NO_MODEL
    prefix, colon, name = text.partition(":")
    if colon and prefix in PROVIDERS:
        if not name:
            raise ModelChoiceInvalid(field, f"{text} names no model.", f"Write {_EXAMPLES}.")
        return prefix, name
    if colon and not compatible and prefix != "ft":  # OpenAI calls fine-tuned models ft:…
        raise ModelChoiceInvalid(
            field, f"There is no provider {prefix!r}.", f"Use one of {', '.join(PROVIDERS)}."
        )
    return "openai", text


# -- who says which ---------------------------------------------------------------------------
_Said = tuple[str, str | None]  # where it is said, and what


def _from(field: str, environ: Mapping[str, str]) -> _Said:
    return field, environ.get(field)


def _first(said: list[_Said]) -> _Said:
    return next((choice for choice in said if choice[1]), (_MODEL, NO_MODEL))


def _check_role(role: str) -> None:
    if role not in ROLES:
        remedy = f"The roles are {', '.join(ROLES)}."
        raise ModelChoiceInvalid(f"config.models.{role}", f"There is no role {role!r}.", remedy)


def _check_variables(environ: Mapping[str, str]) -> None:
    """A role that is misspelt would silently get the model of all others."""
    for name in environ:
        if name not in VARIABLES:
            roles = ", ".join(_OF_ROLE.values())
            raise ModelChoiceInvalid(
                name, f"{name} is no setting.", f"Unset it; models of roles are {roles}."
            )


# -- what follows from a choice ---------------------------------------------------------------
def _spec(field: str, text: str | None, environ: Mapping[str, str]) -> ModelSpec:
    provider, name = parse_name(field, text or NO_MODEL, compatible="OPENAI_BASE_URL" in environ)
    if provider == NO_MODEL:
        return _spec_of_no_model()
    _check_installed(field, provider)
    base_url, key = _base_url(provider, environ), _key(provider, environ)
    if key is None and not (provider == "openai" and base_url):
        raise _key_missing(field, provider)
    prices = _prices(environ).get((provider, name), (None, None))
    return {
        "provider": provider,  # type: ignore[typeddict-item]  # one of PROVIDERS
        "name": name,
        "base_url": base_url,
        "api_key": key,
        "timeout_s": _timeout_s(environ),
        "input_price": prices[0],
        "output_price": prices[1],
    }


def _spec_of_no_model() -> ModelSpec:
    return {
        "provider": NO_MODEL,
        "name": NO_MODEL,
        "base_url": None,
        "api_key": None,
        "timeout_s": DEFAULT_TIMEOUT_S,
        "input_price": 0.0,
        "output_price": 0.0,
    }


def _check_installed(field: str, provider: str) -> None:
    if not _is_installed(PROVIDERS[provider].module):
        raise ModelChoiceInvalid(
            field,
            f"Models of {provider} need a library that is not installed.",
            "Install it (make models) and start the server again.",
        )


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # of the package it lies in
        return False


def _key(provider: str, environ: Mapping[str, str]) -> str | None:
    return next((environ[name] for name in PROVIDERS[provider].keys if name in environ), None)


def _key_missing(field: str, provider: str) -> ModelChoiceInvalid:
    remedy = f"Set {' or '.join(PROVIDERS[provider].keys)} where the server is started"
    if provider == "openai":
        remedy += ", or OPENAI_BASE_URL for a server that needs none (vLLM, Ollama)"
    return ModelChoiceInvalid(field, f"There is no key for {provider}.", f"{remedy}.")


def _base_url(provider: str, environ: Mapping[str, str]) -> str | None:
    """None for the provider's own address, however it was written."""
    field = PROVIDERS[provider].base_url
    url = environ.get(field, "").rstrip("/")
    if not url or url == PROVIDERS[provider].address:
        return None
    if not _is_web_address(url):
        raise ModelChoiceInvalid(
            field,
            f"{field} is no web address.",
            "Set it like http://127.0.0.1:8000/v1; a password in it is refused, keys go elsewhere.",
        )
    return url


def _is_web_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        port_fits = parts.port is None or parts.port > 0
    except ValueError:
        return False
    extra = parts.username or parts.password or parts.query or parts.fragment
    plain = parts.scheme in {"http", "https"} and bool(_NAME.fullmatch(url))
    return bool(plain and parts.hostname and port_fits and not extra)


def _travels_in_the_clear(url: str) -> bool:
    parts = urlsplit(url)
    return parts.scheme == "http" and not _is_loopback(parts.hostname or "")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _timeout_s(environ: Mapping[str, str]) -> float:
    text = environ.get(_TIMEOUT)
    seconds = DEFAULT_TIMEOUT_S if text is None else _number(text)
    if not 0 < seconds <= MAX_TIMEOUT_S:  # NaN is not either
        raise ModelChoiceInvalid(
            _TIMEOUT,
            f"{_TIMEOUT} is not a time a model can be waited for.",
            f"Set it to seconds, at most {MAX_TIMEOUT_S:g}, or unset it ({DEFAULT_TIMEOUT_S:g}).",
        )
    return seconds


Prices = dict[tuple[str, str], tuple[float, float]]


def _prices(environ: Mapping[str, str]) -> Prices:
    """Of input and output, by provider and name."""
    items = [item.strip() for item in environ.get(_PRICES, "").split(",")]
    compatible = "OPENAI_BASE_URL" in environ
    return dict(_price(item, compatible=compatible) for item in items if item)


def _price(item: str, *, compatible: bool) -> tuple[tuple[str, str], tuple[float, float]]:
    name, _, prices = item.rpartition("=")
    both = [_number(price) for price in prices.split("/")]
    if not name or len(both) != 2 or not all(0 <= price < math.inf for price in both):
        raise ModelChoiceInvalid(
            _PRICES,
            f"{_PRICES} cannot be read at {item!r}.",
            "Write name=input/output in USD per million tokens, separated by commas: "
            "gpt-4o=2.50/10,qwen3:8b=0/0.",
        )
    return parse_name(_PRICES, name.strip(), compatible=compatible), (both[0], both[1])


def _number(text: str) -> float:
    """NaN for what is none."""
    try:
        return float(text)
    except ValueError:
        return math.nan


def _refusals(checks: list[Callable[[], Any]]) -> list[ModelChoiceInvalid]:
    found = []
    for check in checks:
        try:
            check()
        except ModelChoiceInvalid as refusal:
            found.append(refusal)
    return found
