"""Sphinx's settings for the documentation site: `tox -e docs` builds it, without the network."""

from __future__ import annotations

import posixpath
import re
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx

import pglisten
from pglisten.listener import CLOSE_GRACE

REPOSITORY = "https://github.com/pglisten/pglisten"
FILES = f"{REPOSITORY}/blob/main/"

project = "pglisten"
author = "pglisten maintainers"
copyright = author  # noqa: A001 - Sphinx's name for it
release = version = pglisten.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc"]
source_suffix = {".md": "markdown"}
myst_heading_anchors = 3

# Single backticks in docstrings are references, and what they name has to be on a page: -W checks it.
default_role = "any"
autodoc_default_options = {"members": True, "member-order": "bysource"}
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
add_module_names = False
python_maximum_signature_line_length = 110
toc_object_entries_show_parents = "hide"

# What private names in signatures stand for.
MEANINGS = {
    "CLOSE_GRACE": repr(CLOSE_GRACE),
    "Made": "Self",
    "Encode": "Callable[[Notification], str]",
    "EventName": "str | Callable[[Notification], str]",
    "Authorize": "Callable[[WSGIEnvironment, str], bool]",
}

html_theme = "furo"
pygments_dark_style = "github-dark"  # furo's own underlines every module's name
html_title = f"pglisten {release}"
html_static_path = ["_static"]
html_css_files = ["pglisten.css"]
html_theme_options = {
    "source_repository": REPOSITORY,
    "source_branch": "main",
    "source_directory": "docs/",
}


def _stay_on_the_site(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """Turn links to a page in the repository, which the README has, into links to that page here."""
    for link in doctree.findall(nodes.reference):
        uri = link.get("refuri", "")
        page, _, anchor = uri.removeprefix(FILES).partition("#")
        # Files beside the README, CONTRIBUTING.md for one, are pages under their names in small letters.
        target = posixpath.splitext(page.removeprefix("docs/") if "/" in page else page.lower())[0]
        if uri.startswith(FILES) and target in app.env.found_docs:
            link["refuri"] = app.builder.get_relative_uri(docname, target) + (anchor and f"#{anchor}")


def _spell_out(*arguments: Any) -> tuple[str | None, ...]:
    """Replace the names in MEANINGS by what they mean, in a signature and in what it returns."""
    names = re.compile(rf"\b({'|'.join(MEANINGS)})\b")
    return tuple(text and names.sub(lambda match: MEANINGS[match[1]], text) for text in arguments[-2:])


def setup(app: Sphinx) -> dict[str, bool]:
    """Connect the two above; Sphinx calls this."""
    app.connect("autodoc-process-signature", _spell_out)
    app.connect("doctree-resolved", _stay_on_the_site)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
