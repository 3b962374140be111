"""What an engine may tell of the keys it holds: nothing."""

from __future__ import annotations

import json
import os
from typing import Any
from unittest import mock

import pytest
from django.contrib.auth.models import User
from structlog.testing import capture_logs

from execution_app import control, sandbox, services, supervisor, worker
from execution_app.engine_process import EngineProcess
from execution_app.models import JournalEntry, Run
from execution_app.services import Claim, claim_run, start_run
from sessions_app.models import Event
from tests.conftest import MakeSession
from tests.execution_app.scripted import keys_of, supervised

pytestmark = pytest.mark.django_db(transaction=True)


KEY = "sk-not-for-anybodys-eyes-\u20ac"
BABBLING = """
for own in ("environ", "cmdline"):
    open(own, "wb").write(open(f"/proc/self/{own}", "rb").read())
say(t="log", level="error", event=str(start["models"]), fields={"start": start["models"]})
say(t="event", event_type="phase_changed", data={"phase": str(start["models"])}, step=None)
say(t="event", event_type=start["models"]["default"]["api_key"], data={}, step=None)
entry("model#0", start["models"], [event(start["models"])], kind="model")
hear()
key = start["models"]["default"]["api_key"].encode()
for end in 1, 2:
    os.write(end, b"whole: " + key + b"\\n")
    for piece in (b"in pieces: " + key[:1], key[1:9], key[9:-1], key[-1:] + b"\\nlast line\\n"):
        os.write(end, piece)
        time.sleep(0.2)
print(start["models"], flush=True)
complete(models=start["models"])
"""


def everything(claim: Claim) -> str:
    rows = [*Event.objects.values(), *JournalEntry.objects.values(), *Run.objects.values()]
    return str(rows)


def output_of(claim: Claim) -> list[str]:
    events = Event.objects.filter(run_id=claim.run_id, event_type="output")
    return [event.data["text"] for event in events]


@pytest.mark.parametrize("end", ["", 'say(t=str(start["models"]))\n'])
def test_a_key_that_an_engine_tells_reaches_nobody(claim: Claim, end: str) -> None:
    spec: Any = {"provider": "openai", "name": "m", "base_url": None, "api_key": KEY}
    models = {"default": spec | {"timeout_s": 1.0, "input_price": None, "output_price": None}}
    with capture_logs() as logs, mock.patch.object(supervisor, "models_for", return_value=models):
        supervised(claim, BABBLING.replace("complete", f"{end}complete"))

    assert keys_of(claim) == ["model#0"]
    assert len([text for text in output_of(claim) if "last line" in text]) == 2
    for own in ("environ", "cmdline"):
        assert KEY.encode() not in (services.work_dir(claim.session_id) / own).read_bytes()
    for place in (str(logs), everything(claim)):
        assert "[hidden]" in place
        assert KEY[3:-1] not in place


# -- the way to a provider --------------------------------------------------------------------
PASSWORD = "not-for-anybodys-eyes-either"
LOOKING = """```python
import glob, os
print("own:", dict(os.environ))
for path in glob.glob("/proc/*/environ"):
    try:
        print("of others:", open(path, "rb").read())
    except OSError:
        pass
print("looked")
```"""


@pytest.fixture(params=(1, 2, 3) if os.geteuid() == 0 else (1, 2))
def _level(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Level 3 promises this much only where a session's code is another user."""
    report = {"level": request.param, "remedy": "", "report": ""}
    monkeypatch.setenv(sandbox.PROBED, json.dumps(report))


@pytest.mark.usefixtures("_level")
def test_executed_code_does_not_see_the_password_of_a_proxy(
    alice: User, make_session: MakeSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("https_proxy", f"http://somebody:{PASSWORD}@proxy:3128")
    start_run(session=make_session(alice), task=LOOKING, by=alice)
    claim = claim_run(owner="w", sandbox_level=1)
    assert claim is not None
    with (
        mock.patch.object(supervisor, "EngineProcess", wraps=EngineProcess) as started,
        control.listen() as nudges,
    ):
        worker.supervise(claim, nudges)

    assert PASSWORD in started.call_args.args[2]["https_proxy"], "the engine has it"
    said = "".join(output_of(claim))
    assert "own: {" in said
    assert said.endswith("looked\n")
    assert PASSWORD not in everything(claim)
