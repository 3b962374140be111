"""What a model could write to make a browser do something, and what HTML it may become."""

from __future__ import annotations

import random
from html.parser import HTMLParser
from urllib.parse import urlsplit

PROBES = (
    # tags and handlers
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "<svg onload=alert(1)>",
    "<svg><script>alert(1)</script></svg>",
    "<svg><animate onbegin=alert(1) attributeName=x dur=1s>",
    "<iframe srcdoc='<script>alert(1)</script>'></iframe>",
    "<object data=javascript:alert(1)></object><embed src=javascript:alert(1)>",
    "<form action=javascript:alert(1)><button>x</button></form>",
    "<base href=https://evil.example/>",
    "<meta http-equiv=refresh content='0;url=https://evil.example'>",
    "<link rel=stylesheet href=https://evil.example/x.css>",
    "<style>@import 'https://evil.example/x.css';</style>",
    "<details open ontoggle=alert(1)>x</details>",
    "<body onload=alert(1)>",
    "<p style='position:fixed;inset:0'>x</p>",
    "<scr<script>ipt>alert(1)</scr</script>ipt>",
    "<!--><script>alert(1)</script>-->",
    "<![CDATA[<script>alert(1)</script>]]>",
    "<noscript><p title='</noscript><img src=x onerror=alert(1)>'>",
    "<math><mtext><table><mglyph><style><!--</style><img title='--&gt;&lt;img src=x onerror=alert(1)&gt;'>",
    "<math href=javascript:alert(1)>x</math>",
    "<math><maction actiontype='statusline#https://evil.example' xlink:href='javascript:alert(1)'>x</maction></math>",
    "<template><script>alert(1)</script></template>",
    "&lt;script&gt;alert(1)&lt;/script&gt;",
    "&#60;script&#62;alert(1)&#60;/script&#62;",
    "\uff1cscript\uff1ealert(1)\uff1c/script\uff1e",
    "<script\x00>alert(1)</script>",
    "<img/src=x/onerror=alert(1)//",
    # htmx
    "<div hx-get=/sign-out/ hx-trigger=load>x</div>",
    "<div data-hx-post=/sessions/ hx-on:click=alert(1)>x</div>",
    '[x](https://a.example "\\" hx-get=/x hx-trigger=load")',
    "`<div hx-get='/x' hx-trigger='load'>`",
    # addresses
    "[x](javascript:alert(1))",
    "[x](JaVaScRiPt:alert(1))",
    "[x](java\tscript:alert(1))",
    "[x](&#106;avascript:alert(1))",
    "[x](javascript&colon;alert(1))",
    "[x](\x01javascript:alert(1))",
    "[x](vbscript:msgbox(1))",
    "[x](data:text/html,<script>alert(1)</script>)",
    "[x](file:///etc/passwd)",
    "[x](blob:https://a.example/1)",
    "[x](//evil.example/)",
    "[x](/sign-out/)",
    "[x][y]\n\n[y]: javascript:alert(1)",
    "<javascript:alert(1)>",
    '<https://a.example/"onmouseover=alert(1)>',
    '[x](https://a.example/"onmouseover="alert(1))',
    "[x](<https://a.example/ onmouseover=alert(1)>)",
    "[<img src=x onerror=alert(1)>](https://a.example)",
    # images
    "![x](https://evil.example/pixel.png)",
    "![x](//evil.example/pixel.png)",
    "![x](data:image/svg+xml,<svg onload=alert(1)>)",
    "![x](javascript:alert(1))",
    '![x" onerror="alert(1)](tt.png)',
    '![x](tt.png "\\" onerror=\\"alert(1)")',
    "![x](../../../../sign-out/)",
    "![x](%2e%2e/%2e%2e/sign-out/)",
    "![x](..\\..\\sign-out)",
    "![x](\\\\evil.example\\pixel.png)",
    "![x](/api/sessions)",
    "![x](https:tt.png)",
    "![![x](javascript:alert(1))](javascript:alert(2))",
    # code
    "```\n</code></pre><script>alert(1)</script>\n```",
    "```html\n</code></pre><script>alert(1)</script>\n```",
    '```"><script>alert(1)</script>\nx\n```',
    "```python onload=alert(1)\n'''</span><script>alert(1)</script>'''\n```",
    "`</code><script>alert(1)</script>`",
    "    </code></pre><script>alert(1)</script>",
    # maths
    "$\\text{</mtext></math><script>alert(1)</script>}$",
    "$</annotation></semantics></math><img src=x onerror=alert(1)>$",
    "$\\href{javascript:alert(1)}{x}$",
    "$\\style{position:fixed;inset:0}{x}$",
    "$\\class{btn}{x}$",
    "$\\unicode{x3c}script\\unicode{x3e}alert(1)$",
    "$\\color{red;background:url(https://evil.example)}x$",
    '$\\color{red"onmouseover="alert(1)}x$',
    "$\\rule{9999em}{9999em}$",
    "$\\operatorname{<img src=x onerror=alert(1)>}$",
    '$$\n\\begin{array}{c" onclick="alert(1)}x\\end{array}\n$$',
    "\\[\\text{<script>alert(1)</script>}\\]",
    "\\(<script>alert(1)</script>\\)",
    "$\\newcommand{\\a}{\\a\\a}\\a$",
    "\\begin{align}\n<script>alert(1)</script>\n\\end{align}",
    "$x$<annotation-xml encoding='text/html'><script>alert(1)</script></annotation-xml>",
    # tables, headings, references
    "| <script>alert(1)</script> |\n|:-|\n| ![x](https://evil.example/p.png) |",
    "# <img src=x onerror=alert(1)>",
    "x\n<script>alert(1)</script>\n===",
    "[^1]\n\n[^1]: <script>alert(1)</script>",
    "[x]: https://a.example '<script>alert(1)</script>'\n\n[x]",
    # characters
    "\u202etpircs<\u202c <script>alert(1)</script>",
    "\u2066<img src=x onerror=alert(1)>\u2069",
    "\ufeff<script>alert(1)</script>",
    "a\u0000<script>alert(1)</script>",
)
# pieces from which a seeded generator makes texts that nobody thought of
PIECES = (
    *PROBES,
    *(
        "*",
        "**",
        "_",
        "`",
        "```",
        "~~~",
        "[",
        "]",
        "(",
        ")",
        "![",
        "<",
        ">",
        "&",
        "\\",
        "$",
        "$$",
        "|",
        "#",
    ),
    *(
        "\n",
        "\n\n",
        "    ",
        "\t",
        "- ",
        "1. ",
        "> ",
        "---\n",
        "| a | b |\n|---|:-:|\n",
        "\\(",
        "\\)",
        "\\[",
        "\\]",
    ),
    *(
        "\\begin{align}\n",
        "\\end{align}\n",
        "{",
        "}",
        "\\frac",
        "^",
        "&lt;",
        "&#x3c;",
        "javascript:",
        "é",
        "\u202e",
    ),
)
TURNING = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"


def random_text(seed: int) -> str:
    chance = random.Random(seed)
    return "".join(chance.choice(PIECES) for _ in range(chance.randint(1, 60)))


class Tags(HTMLParser):
    """Every tag and attribute of some HTML, as a parser sees them."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


HARMLESS = frozenset(
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
        "math",
        "semantics",
        "annotation",
        "mrow",
        "mi",
        "mn",
        "mo",
        "mtext",
        "mspace",
        "mfrac",
        "msqrt",
        "mroot",
        "msub",
        "msup",
        "msubsup",
        "munder",
        "mover",
        "munderover",
        "mmultiscripts",
        "mprescripts",
        "none",
        "mtable",
        "mtr",
        "mtd",
        "mlabeledtr",
        "mstyle",
        "mpadded",
        "mphantom",
        "menclose",
    ]
)
DANGEROUS = ("on", "hx-", "data-", "style", "xlink", "srcset", "action", "formaction", "id", "name")


def dangers(html: str) -> list[str]:
    """What in some HTML could do something."""
    found: list[str] = []
    for tag, attributes in Tags(html).found:
        if tag not in HARMLESS:
            found.append(f"<{tag}>")
        found += [f"{tag} {name}" for name in attributes if name.startswith(DANGEROUS)]
        found += [
            f"{tag} {name}={value}"
            for name, value in attributes.items()
            if _leads(tag, name, value)
        ]
    return found + [f"U+{ord(c):04X}" for c in TURNING if c in html]


def _leads(tag: str, name: str, value: str | None) -> bool:
    """Does it lead where nothing may?"""
    if name == "href":
        return tag != "a" or urlsplit(value or "").scheme not in {"http", "https", "mailto"}
    if name == "src":
        path = value or ""
        return tag != "img" or not path.startswith("/api/runs/") or ".." in path or "//" in path
    return False
