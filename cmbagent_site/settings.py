"""Every setting, read once from the environment (docs/operations.md lists them).

A value that cannot be used never raises here: it is collected in SETTINGS_PROBLEMS with its
remedy and refused by the system checks, so that an operator reads a sentence, not a traceback.
"""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from cmbagent.models.choosing import ModelEnvironment
from cmbagent_site.environment import EnvironmentReader, boot_id, keep_private, secret_key
from cmbagent_site.logging import logging_config

BASE_DIR = Path(__file__).resolve().parent.parent
env = EnvironmentReader(os.environ)
SETTINGS_PROBLEMS = env.problems

# -- where things live ------------------------------------------------------------------------
DATA_DIR = env.path("CMBAGENT_DATA_DIR", BASE_DIR / "var")
keep_private(DATA_DIR)
RUNTIME_DIR = env.path("CMBAGENT_RUNTIME_DIR", DATA_DIR / "run")  # sockets, locks: this host's
SESSIONS_DIR = DATA_DIR / "sessions"  # <session id>/work is what code may write to
BLOBS_DIR = DATA_DIR / "blobs"  # bytes of artifacts, once each, by sha256
SCIENCE_ENV = BASE_DIR / ".venv-science"
SCIENCE_LOCK = BASE_DIR / "requirements" / "science.txt"
DATA_ROOTS = env.paths("CMBAGENT_DATA_ROOTS")

VERSION = "0.1.0"

# -- who we are -------------------------------------------------------------------------------
HOST = env.text("HOST", "127.0.0.1")
PORT = env.integer("PORT", 8000, minimum=1, maximum=65535)
PUBLIC_URL = env.url("CMBAGENT_PUBLIC_URL", f"http://{HOST}:{PORT}")
HOST_NAME = f"{socket.gethostname()}/{boot_id()}"  # a restart of the machine makes another host

# -- running things ---------------------------------------------------------------------------
WORKERS = env.integer("CMBAGENT_WORKERS", 8, minimum=1, maximum=512)
LEASE_SECONDS = env.number("CMBAGENT_LEASE_SECONDS", 15.0, minimum=1)
GROUP_COMMIT = env.boolean("CMBAGENT_GROUP_COMMIT", default=True)
REAP_SECONDS = 1.0
SANDBOX_ACCEPTED_LEVEL = env.integer("CMBAGENT_SANDBOX", 2, minimum=1, maximum=3)
CODE_THREADS = env.optional_integer("CMBAGENT_CODE_THREADS", minimum=1)
CODE_LIMITS: dict[str, int] = {}  # fields of cmbagent.sandbox.Limits that differ from its own
MAX_CONNECTIONS = env.integer("MAX_CONNECTIONS", 10_000, minimum=1)
MAX_CONNECTIONS_PER_USER = env.optional_integer("MAX_CONNECTIONS_PER_USER", minimum=1)
SESSION_TTL = env.optional_integer("SESSION_TTL", minimum=1)
APPROVAL_TIMEOUT = env.optional_integer("APPROVAL_TIMEOUT", minimum=1)
MAX_UPLOAD_BYTES = 200 * 2**20
# Names, addresses and keys of models. It does not show its keys; what cannot be used in it is
# refused by a check, and by the run that would need it (execution_app.model_choice).
MODEL_ENVIRONMENT = ModelEnvironment(os.environ)

# -- Django -----------------------------------------------------------------------------------
SECRET_KEY_FILE = DATA_DIR / "secret_key"
SECRET_KEY = secret_key(SECRET_KEY_FILE, env)
DEBUG = env.boolean("DJANGO_DEBUG", default=False)
_public = urlsplit(PUBLIC_URL)
_behind_tls = _public.scheme == "https"
ALLOWED_HOSTS = list(
    dict.fromkeys([_public.hostname or HOST, "127.0.0.1", "localhost", "[::1]", HOST])
)
CSRF_TRUSTED_ORIGINS = [f"{_public.scheme}://{_public.netloc}"]
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = _behind_tls
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if _behind_tls else None
SECURE_HSTS_SECONDS = 3600 if _behind_tls else 0
SESSION_COOKIE_NAME = f"cmbagent_{_public.port or 0}"  # two servers on one machine do not meet
X_FRAME_OPTIONS = "DENY"
# The proxy that speaks TLS for us redirects; what holds for the rest of its domain is not ours to say.
SILENCED_SYSTEM_CHECKS = ["security.W005", "security.W008", "security.W021"]

INSTALLED_APPS = [
    "daphne",
    "cmbagent_site",
    "sessions_app",
    "approvals_app",
    "execution_app",  # before django_q: its `qcluster` is the one that can be killed safely
    "django_q",
    "channels",
    "ninja",
    "csp",
    "django_htmx",
    "django_structlog",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
]
MIDDLEWARE = [
    "cmbagent_site.problems.json_errors",  # first: it shapes what the others answer too
    "django.middleware.security.SecurityMiddleware",
    "csp.middleware.CSPMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django_structlog.middlewares.RequestMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
]
ROOT_URLCONF = "cmbagent_site.urls"
ASGI_APPLICATION = "cmbagent_site.asgi.application"
TEMPLATES: list[dict[str, Any]] = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "sessions_app.views.sandbox_notice",
            ]
        },
    }
]
LOGIN_URL = "sessions:sign_in"
LOGIN_REDIRECT_URL = "sessions:home"
LOGOUT_REDIRECT_URL = "sessions:sign_in"
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in (
        *("UserAttributeSimilarityValidator", "MinimumLengthValidator"),
        *("CommonPasswordValidator", "NumericPasswordValidator"),
    )
]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True
TIME_ZONE = "UTC"
LANGUAGE_CODE = "en"
STATIC_URL = "/static/"
STATICFILES_DIRS = [BASE_DIR / "static"]
STATIC_ROOT = None  # nothing is collected: a checkout serves its own files
WHITENOISE_USE_FINDERS = True  # a checkout serves its own files: nothing to collect
WHITENOISE_MAX_AGE = 60
DATA_UPLOAD_MAX_MEMORY_SIZE = 10 * 2**20
FILE_UPLOAD_TEMP_DIR = None

CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": ["'none'"],
        "script-src": ["'self'"],
        "style-src": ["'self'"],
        "img-src": ["'self'", "data:", "blob:"],
        "font-src": ["'self'"],
        "connect-src": ["'self'"],
        "form-action": ["'self'"],
        "base-uri": ["'none'"],
        "object-src": ["'none'"],
        "frame-ancestors": ["'none'"],
    }
}

# -- the two shapes: SQLite and Unix sockets, or PostgreSQL and Redis -------------------------
REDIS_URL = env.text("REDIS_URL", "")
DATABASES: dict[str, Any] = {
    "default": env.database("DATABASE_URL", f"sqlite:///{DATA_DIR / 'db.sqlite3'}")
}
ON_SQLITE = DATABASES["default"].get("ENGINE", "").endswith("sqlite3")
if ON_SQLITE:
    # IMMEDIATE: a transaction that reads and then writes would fail with "database is locked"
    # whatever the timeout, because its snapshot is old by the time it wants to write.
    DATABASES["default"]["OPTIONS"] = {
        "timeout": 20,
        "transaction_mode": "IMMEDIATE",
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
    }
else:
    # A worker frozen inside a transaction must not hold the rows that the reaper needs.
    DATABASES["default"]["OPTIONS"] = {
        "connect_timeout": 3,
        # a server that vanished without a word is noticed: a supervisor must freeze its engine
        "keepalives_idle": 5,
        "keepalives_interval": 2,
        "keepalives_count": 3,
        "tcp_user_timeout": 10_000,
        "options": "-c idle_in_transaction_session_timeout=5000 -c lock_timeout=10000",
    }
    DATABASES["default"]["CONN_HEALTH_CHECKS"] = True

CHANNEL_LAYERS: dict[str, Any] = {
    "default": {
        "BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer",
        # redis-py's default socket timeout would end every idle subscription after 5 s
        "CONFIG": {"hosts": [{"address": REDIS_URL, "socket_timeout": None}]},
    }
    if REDIS_URL
    else {"BACKEND": "cmbagent_site.layers.UnixDatagramLayer", "CONFIG": {"folder": RUNTIME_DIR}}
}

# Why each value: docs/architecture.md, "The queue". A task is a bell; nothing here may end,
# repeat or recycle a worker that supervises a run for hours.
Q_CLUSTER: dict[str, Any] = {
    "name": "runs",
    "workers": WORKERS,
    "timeout": 60,
    "retry": 86_400,
    "max_attempts": 1,
    "ack_failures": True,
    "queue_limit": 1,
    "recycle": 10**9,
    "save_limit": -1,
    "guard_cycle": 0.2,
    "poll": 0.05,
    "scheduler": False,
    "catch_up": False,
    "log_level": "WARNING",
    "ALT_CLUSTERS": {
        "chores": {
            "workers": 1,
            "timeout": 3600,
            "retry": 7200,
            "scheduler": True,
            "poll": 1,
            "guard_cycle": 1,
        }
    },
}
if REDIS_URL:
    Q_CLUSTER["redis"] = REDIS_URL
else:
    Q_CLUSTER["orm"] = "default"

# -- logging ----------------------------------------------------------------------------------
LOG_LEVEL = env.choice("LOG_LEVEL", "INFO", ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"))
LOG_JSON = env.boolean("LOG_JSON", default=False)
LOG_FILE = env.log_file("LOG_FILE")
LOGGING = logging_config(level=LOG_LEVEL, json=LOG_JSON, file=LOG_FILE)
