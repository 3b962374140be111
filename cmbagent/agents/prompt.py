"""What an agent is told of its work, kept as Markdown with TOML front matter in prompts/."""

from __future__ import annotations

import hashlib
import tomllib
from dataclasses import dataclass
from pathlib import Path

from cmbagent.context import Run
from cmbagent.errors import AgentUnknown

FOLDER = Path(__file__).parent / "prompts"


@dataclass(frozen=True)
class Prompt:
    """`role` chooses the model; `tools` are names of toolbox.TOOLS."""

    name: str
    description: str
    role: str
    tools: tuple[str, ...]
    version: int
    instructions: str


def parse_prompt(text: str) -> Prompt:
    """Raises ValueError or KeyError for a document that is no prompt."""
    _, front, body = text.split("+++\n", 2)
    fields = tomllib.loads(front)
    return Prompt(
        name=fields["name"],
        description=fields["description"],
        role=fields["role"],
        tools=tuple(fields["tools"]),
        version=fields["version"],
        instructions=body.strip(),
    )


async def prompt_of(run: Run, name: str) -> Prompt:
    """The prompt with which the run began to ask this agent: a deploy may change the file, but
    not what a run was told, nor the tools it was given. What no AI reads is not kept.

    Raises AgentUnknown.
    """
    text = _read(name)
    prompt = parse_prompt(text)
    if not run.uses_ai(prompt.role):
        return prompt

    async def body() -> dict[str, str]:
        digest = hashlib.sha256(text.encode()).hexdigest()
        return {"agent": name, "hash": digest, "text": text}

    kept = await run.journal.once("prompt", "prompt", {"agent": name}, body)
    return parse_prompt(kept["text"])


def _read(name: str) -> str:
    known = {path.stem: path for path in sorted(FOLDER.glob("*.md"))}
    if name not in known:
        raise AgentUnknown(f"There is no agent {name!r}.", f"Use one of: {', '.join(known)}.")
    return known[name].read_text(encoding="utf-8")
