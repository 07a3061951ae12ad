"""Sphinx's settings for the documentation site; `tox -e docs` builds the site without the network."""

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

# Single backticks in docstrings are references; with -W the build fails if one has no target.
default_role = "any"
autodoc_default_options = {"members": True, "member-order": "bysource"}
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
add_module_names = False
python_maximum_signature_line_length = 110
toc_object_entries_show_parents = "hide"

# Replacements for private names in signatures.
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
    """Replace links to a page in the repository, which the README needs, by links to this site's page."""
    for link in doctree.findall(nodes.reference):
        uri = link.get("refuri", "")
        page, _, anchor = uri.removeprefix(FILES).partition("#")
        # A file beside the README, CONTRIBUTING.md for example, is a page with its name in lower case.
        target = posixpath.splitext(page.removeprefix("docs/") if "/" in page else page.lower())[0]
        if uri.startswith(FILES) and target in app.env.found_docs:
            link["refuri"] = app.builder.get_relative_uri(docname, target) + (anchor and f"#{anchor}")


def _spell_out(*arguments: Any) -> tuple[str | None, ...]:
    """Replace the names in MEANINGS in a signature and its return annotation."""
    names = re.compile(rf"\b({'|'.join(MEANINGS)})\b")
    return tuple(text and names.sub(lambda match: MEANINGS[match[1]], text) for text in arguments[-2:])


def setup(app: Sphinx) -> dict[str, bool]:
    """Connect the two handlers; Sphinx calls this function."""
    app.connect("autodoc-process-signature", _spell_out)
    app.connect("doctree-resolved", _stay_on_the_site)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
