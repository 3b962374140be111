"""The last step of all that is rendered from text: what is not listed here does not get out.

What comes before escapes already. This stands behind it: a fault there is markup less, not a script.
"""

from __future__ import annotations

import nh3

from sessions_app.rendering import code, maths

SCHEMES = frozenset({"http", "https", "mailto"})
_PROSE = frozenset(
    [
        "p",
        "br",
        "hr",
        "h2",
        "h3",
        "h4",
        "h5",
        "h6",
        "ul",
        "ol",
        "li",
        "blockquote",
        "pre",
        "code",
        "em",
        "strong",
        "s",
        "a",
        "img",
        "table",
        "thead",
        "tbody",
        "tr",
        "th",
        "td",
        "div",
        "span",
    ]
)
_CLEANER = nh3.Cleaner(
    tags=set(_PROSE | maths.TAGS),
    clean_content_tags={"script", "style", "title", "textarea", "iframe", "noscript", "template"},
    attributes={
        "a": {"href", "title"},
        "img": {"src", "alt", "title", "loading"},
        "ol": {"start"},
        "pre": {"tabindex", "role", "aria-label"},
        "div": {"tabindex", "role", "aria-label"},
        "th": {"scope"},
        **{tag: set(maths.ATTRIBUTES) for tag in maths.TAGS},
    },
    allowed_classes={
        "pre": {"code", "plain"},
        "code": {"tex"},
        "div": {"scroller", "maths"},
        "span": set(code.CLASSES) | {"vh"},
        "th": {"left", "center", "right"},
        "td": {"left", "center", "right"},
    },
    url_schemes=set(SCHEMES),
    link_rel="noopener noreferrer nofollow",
)


def sanitised(html: str) -> str:
    return _CLEANER.clean(html)
