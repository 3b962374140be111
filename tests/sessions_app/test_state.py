"""What one run leaves to the next: saved against the version that was read."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import User

from sessions_app.errors import StateChanged
from sessions_app.event_types import PhaseChanged, StepStarted
from sessions_app.models import SessionState
from sessions_app.services import append_events, save_state
from tests.conftest import MakeSession

pytestmark = pytest.mark.django_db


@pytest.fixture
def state(alice: User, make_session: MakeSession) -> SessionState:
    return SessionState.objects.get(session=make_session(alice))


def test_state_is_saved_against_its_version(state: SessionState) -> None:
    version = save_state(
        state.session_id, version=state.version, context_variables={"H0": 67.4}, plan_data={"n": 1}
    )
    state.refresh_from_db()
    assert (state.version, state.context_variables, state.plan_data) == (
        version,
        {"H0": 67.4},
        {"n": 1},
    )


def test_who_read_an_older_version_is_refused_and_nothing_is_lost(state: SessionState) -> None:
    save_state(state.session_id, version=state.version, current_phase="first")
    with pytest.raises(StateChanged):
        save_state(state.session_id, version=state.version, current_phase="second")
    state.refresh_from_db()
    assert state.current_phase == "first"


def test_what_is_no_part_of_the_state_is_refused(state: SessionState) -> None:
    with pytest.raises(TypeError, match="mood"):
        save_state(state.session_id, version=state.version, mood="good")


def test_phase_and_step_follow_the_log(state: SessionState) -> None:
    before = state.version
    append_events(
        state.session_id,
        [PhaseChanged(phase="x" * 500), StepStarted(index=2, title="fit", agent="engineer")],
    )
    state.refresh_from_db()
    assert (state.current_phase, state.current_step) == ("x" * 120, 2)
    assert state.version == before + 1
