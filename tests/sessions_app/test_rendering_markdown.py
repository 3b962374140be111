"""Markdown, maths and code as the page shows them."""

from __future__ import annotations

import re

import pytest

from sessions_app.rendering.code import block_html, code_html, language_of
from sessions_app.rendering.markdown import Setting, markdown_html
from sessions_app.rendering.maths import MAX_TEX, mathml
from tests.sessions_app.hostile_texts import Tags


def formulas(html: str) -> list[str]:
    """The TeX of each, as it can be copied."""
    return re.findall(r"<annotation[^>]*>(.*?)</annotation>", html, re.DOTALL)


# -- maths ------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("text", "tex"),
    [
        ("so $H_0 = 67.4$ is", ["H_0 = 67.4"]),
        (r"so \(H_0\) is", ["H_0"]),
        (r"so \[H_0\] is", ["H_0"]),
        ("so $$H_0$$ is", ["H_0"]),
        ("as follows:\n$$\na\n- b\n$$\nand", ["a\n- b"]),
        ("as follows:\n\\[\na\n= b\n\\]\nand", ["a\n= b"]),
        ("- item\n  $$\n  a\n  $$\n- next", ["a"]),
        ("> $$\n> a\n> $$", ["a"]),
        (
            "\\begin{align}\na &= b\n\\end{align}",
            ["\\begin{align}\na &amp;= b\n\\end{align}"],
        ),
        ("`$a$` and `\\(b\\)`", []),
        ("```\n$$\na\n$$\n\\[b\\]\n```", []),
        ("it costs $5 and $6, or US$ 5", []),
        (r"\$a\$", []),
        ("$$\nnever closed", []),
        ("\\[\nnever\n\nclosed \\]", []),
    ],
)
def test_maths_is_found_where_models_write_it(text: str, tex: list[str]) -> None:
    assert formulas(markdown_html(text)) == tex


def test_a_displayed_formula_can_be_scrolled_with_the_keyboard() -> None:
    html = markdown_html("$$\na\n$$")
    assert html.startswith('<div class="maths" tabindex="0"')
    assert '<math display="block">' in html


@pytest.mark.parametrize(
    "tex",
    [
        r"\ce{H2O}",
        r"\SI{3}{m}",
        r"\frac{1}",
        r"\left(",
        r"\newcommand{\a}{\a\a}\a",
        r"\def\a{b}\a",
        r"\href{https://a.example}{x}",
        "x" * (MAX_TEX + 1),
        "{" * 1500 + "}" * 1500,
        r"\frac{1}{" * 300,
        r"\begin{nonsense}x\end{nonsense}",
    ],
)
def test_what_cannot_be_drawn_is_shown_as_its_tex(tex: str) -> None:
    html = mathml(tex, is_block=False)
    assert html.startswith('<code class="tex">')
    assert Tags(html).text == tex


def test_letters_are_bold_without_an_attribute_that_browsers_lack() -> None:
    html = mathml(r"\boldsymbol{\theta} \bm{k} \mathbb{R} \mathcal{L}", is_block=False)
    assert [letter for letter in "𝜽𝒌ℝℒ" if letter not in html] == []


def test_what_is_known_by_another_name_is_drawn() -> None:
    html = mathml(r"\label{a} 1\,\AA \left\{ x \middle| y \right\}", is_block=False)
    assert "Å" in html
    assert html.startswith("<math")


def test_signs_have_space_around_them() -> None:
    assert "<mo>±</mo>" in mathml(r"67.4 \pm 0.5", is_block=False)


# -- text -------------------------------------------------------------------------------------
def test_headings_stand_below_the_pages_own_and_leave_no_level_out() -> None:
    html = markdown_html("# A\n### B\n# C\n###### D\n\n#### E", Setting(first_heading=3))
    assert re.findall(r"<h(\d)>(\w)", html) == [
        ("3", "A"),
        ("4", "B"),
        ("3", "C"),
        ("4", "D"),
        ("4", "E"),
    ]


def test_lines_of_a_model_stay_lines() -> None:
    assert markdown_html("one\ntwo") == "<p>one<br>\ntwo</p>\n"
    assert markdown_html("one\ntwo", Setting(keeps_lines=False)) == "<p>one\ntwo</p>\n"


def test_a_table_is_aligned_by_classes_and_can_be_scrolled() -> None:
    html = markdown_html("| a | b |\n|:-|-:|\n| 1 | $x$ |")
    assert "style" not in html
    assert '<div class="scroller" tabindex="0"' in html
    assert '<th class="right" scope="col">b</th>' in html
    assert '<td class="right"><math' in html


def test_a_head_that_is_a_formula_has_a_name() -> None:
    assert '<span class="vh">H_0&lt;</span><math' in markdown_html("| $H_0<$ |\n|-|")


def test_text_that_turns_around_is_shown_as_it_is_written() -> None:
    assert markdown_html("a\u202eb `c\u2066`") == "<p>a[U+202E]b <code>c[U+2066]</code></p>\n"


# -- code -------------------------------------------------------------------------------------
def test_code_is_coloured_by_classes() -> None:
    assert markdown_html("```python\nx = 1\n```") == (
        '<pre class="code" tabindex="0" role="group" aria-label="Code"><code><span class="n">x</span> '
        '<span class="o">=</span> <span class="mi">1</span></code></pre>\n'
    )


@pytest.mark.parametrize("language", ["", "nonsense", "../x", "é"])
def test_code_of_no_known_language_is_as_it_is(language: str) -> None:
    assert code_html("a < b", language) == "a &lt; b"


def test_code_keeps_every_character() -> None:
    code = "\n  def f(x):\n\n\treturn x < 1 & 2  # é \U0001f600\n"
    assert Tags(code_html(code, "python")).text.strip("\n") == code.strip("\n")
    assert Tags(block_html("  a\n", "c")).text == "  a"


def test_the_language_of_a_file_is_known_by_its_ending() -> None:
    assert [language_of(name) for name in ("a/b.py", "x.F90", "README", ".py", "data.fits")] == [
        "py",
        "f90",
        "",
        "py",
        "",
    ]
