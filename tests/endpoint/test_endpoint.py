"""The stand-in for a provider is worth its name: it refuses what it must, and says what it should.

Asked with the same client that engines use, whole and streamed, in every personality.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import openai
import pytest

from tests.deployment import BASE_DIR
from tests.endpoint import (
    PERSONALITIES,
    Endpoint,
    Personality,
    calls_for,
    sum_of_squares,
    task_of,
)
from tests.endpoint.faults import KINDS

TOOLS: Any = [
    {
        "type": "function",
        "function": {
            "name": "run_python",
            "parameters": {"type": "object", "properties": {"code": {"type": "string"}}},
        },
    }
]
Messages = list[Any]


@pytest.fixture(params=[*PERSONALITIES.values()], ids=[*PERSONALITIES])
def endpoint(request: pytest.FixtureRequest) -> Iterator[Endpoint]:
    style: Personality = request.param
    running = Endpoint(style)
    running.start()
    yield running
    running.stop()


@pytest.fixture
def client(endpoint: Endpoint) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(
        base_url=endpoint.url, api_key=endpoint.key, max_retries=0, timeout=1
    ) as client:
        yield client


def ask(client: openai.OpenAI, endpoint: Endpoint, messages: Messages) -> dict[str, Any]:
    """The message that is answered."""
    made = client.chat.completions.create(
        model=endpoint.style.model,
        messages=messages,
        tools=TOOLS,
    )
    return made.choices[0].message.model_dump(exclude_none=True)


def ask_streamed(client: openai.OpenAI, endpoint: Endpoint, messages: Messages) -> dict[str, Any]:
    with client.chat.completions.stream(
        model=endpoint.style.model,
        messages=messages,
        tools=TOOLS,
    ) as stream:
        for _ in stream:
            pass
        message = stream.get_final_completion().choices[0].message
    return message.model_dump(exclude_none=True, exclude={"parsed"})


Ask = Callable[[openai.OpenAI, Endpoint, Messages], dict[str, Any]]


def executed(call: dict[str, Any]) -> dict[str, Any]:
    code = json.loads(call["function"]["arguments"])["code"]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    return {"role": "tool", "tool_call_id": call["id"], "content": done.stdout + done.stderr}


def begun(client: openai.OpenAI, endpoint: Endpoint) -> Messages:
    """The task, and the first call."""
    messages: Messages = [{"role": "user", "content": task_of(10, parts=3)}]
    return [*messages, ask(client, endpoint, messages)]


@pytest.mark.parametrize("ask", [ask, ask_streamed])
def test_a_whole_conversation(client: openai.OpenAI, endpoint: Endpoint, ask: Ask) -> None:
    messages: Messages = [{"role": "user", "content": task_of(10, parts=3)}]

    while calls := (answer := ask(client, endpoint, messages)).get("tool_calls"):
        messages += [answer, *map(executed, calls)]

    assert f"**{sum_of_squares(10)}**" in answer["content"]
    parallel = endpoint.style.parallel_calls
    assert len(endpoint.requests) == calls_for(3, parallel=parallel)
    assert [r.conversation.number for r in endpoint.requests] == list(
        range(1, len(endpoint.requests) + 1)
    )
    endpoint.check()


def test_it_refuses_a_request_without_the_tasks_words(
    client: openai.OpenAI, endpoint: Endpoint
) -> None:
    with pytest.raises(openai.BadRequestError, match="the task's words"):
        ask(client, endpoint, [{"role": "user", "content": "Hello"}])
    with pytest.raises(AssertionError, match="refused"):
        endpoint.check()


@pytest.mark.parametrize("said", ["", "It failed.", "NameError"])
def test_it_refuses_a_request_without_the_last_error(
    client: openai.OpenAI, endpoint: Endpoint, said: str
) -> None:
    messages = begun(client, endpoint)
    messages.append(executed(messages[-1]["tool_calls"][0]) | {"content": said})

    with pytest.raises(openai.BadRequestError, match="the last error"):
        ask(client, endpoint, messages)


def test_it_refuses_a_request_without_the_tools_output(
    client: openai.OpenAI, endpoint: Endpoint
) -> None:
    messages = begun(client, endpoint)
    messages.append(executed(messages[-1]["tool_calls"][0]))
    messages.append(ask(client, endpoint, messages))

    with pytest.raises(openai.BadRequestError, match="the tool's output is not in the request"):
        ask(client, endpoint, messages)
    messages.append(executed(messages[-1]["tool_calls"][0]) | {"content": "It went well."})
    with pytest.raises(openai.BadRequestError, match="the tool's output is not in the request"):
        ask(client, endpoint, messages)


def test_it_refuses_a_foreign_key_and_model(client: openai.OpenAI, endpoint: Endpoint) -> None:
    stranger = client.with_options(api_key="another")

    with pytest.raises(openai.BadRequestError, match="Authorization"):
        begun(stranger, endpoint)
    assert not endpoint.requests[-1].authorized
    with pytest.raises(openai.BadRequestError, match="no model"):
        client.chat.completions.create(
            model="another", messages=[{"role": "user", "content": task_of(10)}]
        )


def test_usage_is_where_the_personality_puts_it(client: openai.OpenAI, endpoint: Endpoint) -> None:
    with client.chat.completions.create(
        model=endpoint.style.model,
        messages=[{"role": "user", "content": task_of(10)}],
        tools=TOOLS,
        stream=True,
    ) as chunks:
        told = [chunk.usage.prompt_tokens for chunk in chunks if chunk.usage]
    assert told == ([] if endpoint.style.usage == "never" else [100])


@pytest.mark.parametrize("ask", [ask, ask_streamed])
@pytest.mark.parametrize("kind", sorted(set(KINDS) - {"silent", "stalled", "slow"}))
def test_it_misbehaves_once(client: openai.OpenAI, endpoint: Endpoint, kind: str, ask: Ask) -> None:
    """The request after it is answered."""
    messages: Messages = [{"role": "user", "content": task_of(10)}]
    fault = endpoint.misbehave(kind, times=1)

    try:
        spoiled = str(ask(client, endpoint, messages))
    except Exception as error:  # noqa: BLE001  whatever the client makes of it
        spoiled = repr(error)

    assert fault.times == 0
    assert endpoint.requests[0].fault == kind
    sound = "sum_of_sqares" in spoiled and "surrogate" not in spoiled
    assert not sound, "something else than a sound answer is to be seen"
    assert "sum_of_sqares" in str(ask(client, endpoint, messages))


def test_a_digest_is_of_the_messages(client: openai.OpenAI, endpoint: Endpoint) -> None:
    begun(client, endpoint)
    messages = begun(client, endpoint)
    messages.append(executed(messages[-1]["tool_calls"][0]))
    ask(client, endpoint, messages)

    first, again, second = (request.digest for request in endpoint.requests)
    assert first == again != second


def test_as_a_program() -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.endpoint", "0", "--fault", "quota"],
        cwd=BASE_DIR,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    told = json.loads(process.stdout.readline())
    with (
        openai.OpenAI(base_url=told["OPENAI_BASE_URL"], api_key=told["OPENAI_API_KEY"]) as client,
        pytest.raises(openai.RateLimitError, match="quota"),
    ):
        client.with_options(max_retries=0).chat.completions.create(
            model=told["CMBAGENT_MODEL"], messages=[{"role": "user", "content": task_of(10)}]
        )
    process.terminate()
    rest, _ = process.communicate(timeout=20)
    assert json.loads(rest) == {"requests": 1, "refusals": []}
    assert process.returncode == 0
