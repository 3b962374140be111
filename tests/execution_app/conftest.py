"""What tests of a supervisor begin with."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import User

from execution_app.services import Claim, claim_run, start_run
from tests.conftest import MakeSession


@pytest.fixture
def claim(alice: User, make_session: MakeSession) -> Claim:
    start_run(session=make_session(alice), task="x", by=alice)
    claimed = claim_run(owner="w", sandbox_level=1)
    assert claimed is not None
    return claimed
