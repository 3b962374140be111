"""What a session asks its agents to keep in mind reaches the model, and only then."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic_ai import ModelRequest

from tests.cmbagent.in_process import Book, Script, run_with


@pytest.mark.parametrize("wishes", ["Use natural units.", ""])
async def test_wishes_are_among_the_instructions(
    work_dir: Path, monkeypatch: pytest.MonkeyPatch, wishes: str
) -> None:
    script = Script("Done.").speaks_in(monkeypatch)
    run = run_with(Book(), work_dir=work_dir, config={"instructions": wishes} if wishes else {})
    await run.agent("researcher", "Look.")
    request = script.asked[0][-1]
    assert isinstance(request, ModelRequest)
    told = request.instructions or ""
    assert ("also asks of you:\nUse natural units." in told) == bool(wishes)
    assert ("also asks" in told) == bool(wishes)
