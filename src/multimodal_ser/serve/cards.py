"""A model card in Markdown → HTML for the page, without raw HTML, images or scripts."""

from __future__ import annotations

import re

from markdown_it import MarkdownIt


def card_html(card: str) -> str:
    """Renders a card; HTML in it is shown as text.

    >>> card_html("# Hi <b>you</b>").strip()
    '<h1>Hi &lt;b&gt;you&lt;/b&gt;</h1>'
    """
    text = re.sub(r"\A---\n.*?\n---\n", "", card, flags=re.DOTALL)  # the hub's own header
    renderer = MarkdownIt("commonmark", {"html": False}).enable("table").disable("image")
    html: str = renderer.render(text)
    return html
