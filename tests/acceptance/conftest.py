"""Deployments in both shapes; their servers are tests/conftest.py's."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.deployment import Deployment, Shape
from tests.servers import PostgreSQL, Redis

# what they find must be readable in a failure
pytest.register_assert_rewrite("tests.acceptance.kills", "tests.acceptance.thinking")

SHAPES: tuple[Shape, ...] = ("embedded", "production")


@pytest.fixture(scope="module", params=SHAPES)
def shape(request: pytest.FixtureRequest) -> Shape:
    chosen: Shape = request.param
    return chosen


@pytest.fixture(scope="module")
def servers(shape: Shape, request: pytest.FixtureRequest) -> dict[str, PostgreSQL | Redis]:
    """What this shape needs beside itself; started at the first use only."""
    if shape == "embedded":
        return {}
    return {name: request.getfixturevalue(name) for name in ("postgres", "redis")}


@pytest.fixture(scope="module")
def house(shape: Shape, servers: dict[str, PostgreSQL | Redis]) -> Iterator[Deployment]:
    """A running deployment of this shape, shared by the tests of a module."""
    with Deployment.running(shape, **servers) as deployment:
        yield deployment


@pytest.fixture
def database(shape: Shape, servers: dict[str, PostgreSQL | Redis]) -> Iterator[Deployment]:
    """Only a migrated database of this shape: no process runs."""
    deployment = Deployment(shape, **servers)  # type: ignore[arg-type]  # by name
    deployment.prepare(token=False)
    yield deployment
    deployment.remove()
