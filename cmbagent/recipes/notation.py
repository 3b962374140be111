"""How people write names, numbers and units, brought to one plain form."""

# ruff: noqa: RUF001, RUF003 - characters that look alike are what this module is about

from __future__ import annotations

import re
import unicodedata

_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺", "0123456789-+")
_NAMED = "≤ <=|≥ >=|Ω Omega|ω omega|τ tau|ν nu|σ sigma|Λ Lambda|μ mu|ℓ l|π pi|θ theta|α alpha|β beta|γ gamma|δ delta|ζ zeta|φ phi"
_SYMBOLS = str.maketrans(
    {
        **dict.fromkeys("×·⋅∙", "*"),
        **dict.fromkeys("−–—‐‑", "-"),
        **dict.fromkeys("≈≃∼~≅", "="),
        **dict.fromkeys("\"'`“”‘’„$\x00", " "),
        **dict.fromkeys("{}", ""),
        **dict.fromkeys("Σ∑", "Sum "),
        **dict(pair.split() for pair in _NAMED.split("|")),
    }
)
_LATEX = {
    r"\\(?:mathrm|mathit|rm|text|left|right|,|;|!|quad)": " ",
    r"\\times\b|\\cdot\b": "*",
    r"\\leq?\b": "<=",
    r"\\approx\b|\\simeq\b|\\sim\b": "=",
    r"\\pm\b": "±",
    r"\\": "",
    r"\*\*": " ",  # bold
    r"={3,}|~{3,}": " ",  # rules and fences
}


def plain(text: str) -> str:
    """Unicode, LaTeX and Markdown brought to ASCII notation: Ω_b h² and \\Omega_b h^{2} both
    become Omega_b h^2, 10⁻⁹ and 10^{-9} become 10^-9, ₀ becomes 0."""
    text = re.sub("[⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺]+", lambda run: f"^{run[0].translate(_SUPERSCRIPTS)}", text)
    for pattern, replacement in _LATEX.items():
        text = re.sub(pattern, replacement, text)
    text = re.sub(r"[^\S\n]+", " ", re.sub(r"\s*\n\s*", "\n", text))  # keeps patterns linear
    # before NFKC for what it would change (ℓ, quotes), after it for what it makes (Ω, µ)
    return unicodedata.normalize("NFKC", text.translate(_SYMBOLS)).translate(_SYMBOLS)


def key(name: str) -> str:
    """What is left of a name for comparing: H_0, h0 and "H 0" are one."""
    return re.sub(r"[^a-z0-9<=]", "", plain(name).lower())


_MARKS = {"(": r"\s*[(\[]?\s*", ")": r"\s*[)\]]?\s*", "^": r"(?:\s*\^\s*)?", "<=": r"\s*<=?\s*"}
_PIECE = re.compile(r"[A-Za-z]+|\d+|\s+|_|<=|.")


def name_pattern(name: str) -> re.Pattern[str]:
    """Finds a name as people vary it: case, underscores, spaces, brackets, carets."""
    pieces = _PIECE.findall(plain(name))
    is_short = sum(len(piece) for piece in pieces if piece.isalpha()) < 3
    parts = [
        _piece_pattern(piece, before, is_short=is_short)
        for piece, before in zip(pieces, ["", *pieces], strict=False)
    ]
    end = _end_pattern(pieces[-1], is_short=is_short)
    return re.compile(rf"(?<![A-Za-z0-9_.^]){''.join(parts)}{end}", re.IGNORECASE)


def _piece_pattern(piece: str, before: str, *, is_short: bool) -> str:
    if piece.isalnum():
        return ("[_^]?" if before.isalnum() else "") + re.escape(piece)
    if piece.isspace():
        return r"[\s_*-]*"
    if piece != "_":
        return _MARKS.get(piece, rf"\s*{re.escape(piece)}\s*")
    return "_?" if is_short else r"[\s_-]?"  # short: "a s…" is no A_s


def _end_pattern(piece: str, *, is_short: bool) -> str:
    """Where the name must end: lmax2500 is understood, but h2 is not h."""
    if piece.isdigit():
        return r"(?!\d|\.\d|[A-Za-z_^])"
    if piece.isalpha():
        return r"(?![A-Za-z0-9_^])" if is_short else r"(?![A-Za-z_^])"
    return ""


NUMBER = re.compile(
    r"(?P<number>10\s*\^\s*[+-]?\d+|[+-]?\s?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)"
    r"(?P<power>\s*[*x]\s*10\s*\^\s*\(?[+-]?\d+\)?)?"
)


def number_of(found: re.Match[str]) -> float:
    """The value of a match of NUMBER."""
    text = re.sub(r"\s", "", found["number"])
    value = _power_of_ten(text) if text.startswith("10^") else float(text)
    return value * _power_of_ten(found["power"]) if found["power"] else value


def _power_of_ten(text: str) -> float:
    exponent = int(text.rpartition("^")[2].strip(" ()"))
    return float(f"1e{exponent}")
