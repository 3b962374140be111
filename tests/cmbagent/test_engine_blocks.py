"""Which text of a task is code to be run."""

from __future__ import annotations

import pytest

from cmbagent.blocks import has_fence, python_blocks
from cmbagent.errors import FenceUnterminated


@pytest.mark.parametrize("language", ["python", "py", "Python", "python3", " python", "python x=1"])
@pytest.mark.parametrize("fence", ["```", "~~~", "`````"])
def test_a_python_fence_is_code(fence: str, language: str) -> None:
    text = f"Run this:\n\n{fence}{language}\nx = 1\n\nprint(x)\n{fence}\nThanks."
    assert python_blocks(text) == ["x = 1\n\nprint(x)\n"]


@pytest.mark.parametrize("info", ["", "text", "bash", "pycon", "pythonic"])
def test_other_fences_are_not_run(info: str) -> None:
    text = f"```{info}\nprint(1)\n```"
    assert python_blocks(text) == []
    assert has_fence(text)


def test_blocks_come_in_order() -> None:
    text = "```python\n1\n```\nand\n~~~py\n2\n~~~\n```sh\n3\n```\n```py\n4\n```"
    assert python_blocks(text) == ["1\n", "2\n", "4\n"]


def test_a_longer_fence_holds_shorter_ones() -> None:
    text = '````python\ntext = """\n```python\nx\n```\n"""\n````'
    assert python_blocks(text) == ['text = """\n```python\nx\n```\n"""\n']


def test_a_fence_inside_another_language_is_text() -> None:
    assert python_blocks("~~~md\n```python\nx\n```\n~~~") == []


def test_indentation_of_a_list_is_taken_off() -> None:
    text = "1. Run\n\n   ```python\n   if 1:\n       print(2)\n\n   ```\n"
    assert python_blocks(text) == ["if 1:\n    print(2)\n\n"]


def test_a_fence_deep_in_a_docstring_does_not_close() -> None:
    text = "```python\ndef f():\n    '''\n    ```\n    '''\n```"
    assert python_blocks(text) == ["def f():\n    '''\n    ```\n    '''\n"]


def test_line_ends_of_windows_and_rare_separators() -> None:
    text = "```python\r\nx = '\x0c\u2028'\r\n```\r\n"
    assert python_blocks(text) == ["x = '\x0c\u2028'\n"]


def test_inline_code_is_no_fence() -> None:
    assert python_blocks("```print(1)``` is inline\nand `x`") == []
    assert not has_fence("```print(1)``` is inline")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("```python\nprint(1)", "line 1"),
        ("a\nb\n```py\nx\n``", "line 3"),
        ("````python\nx\n```", "line 1"),
        ("~~~python\nx\n```", "line 1"),
        ("```sh\nls\n```python\nx\n", "line 1"),
        ("```python\n1\n```\n```python\n2", "line 4"),
    ],
)
def test_a_fence_that_is_never_closed_is_named(text: str, line: str) -> None:
    with pytest.raises(FenceUnterminated, match=f"{line} of the task"):
        python_blocks(text)
