"""The site, built by `make docs`: Sphinx reads the pages as they stand here, and the reference from the code."""

from importlib import import_module
from importlib.metadata import version as installed

from sphinx.application import Sphinx

project = "Curricle"
release = version = installed("curricle")

extensions = ["myst_parser", "sphinx.ext.autodoc"]
source_suffix = {".md": "markdown"}

# Pages that stand elsewhere in the repository are pages of the site too: each has a file here that includes it.
ELSEWHERE = {
    "../CONTRIBUTING.md": "contributing.md",
    "../CHANGELOG.md": "changelog.md",
    "../README.md": "index.md",
    "../docker/README.md": "images.md",
}


def _links_within_the_site(app: Sphinx, page: str, source: list[str]) -> None:
    for path, here in ELSEWHERE.items():
        source[0] = source[0].replace(f"]({path}", f"]({here}")


def _import_all_names() -> None:
    """Our packages import a public name when it is asked for; the reference lists those that are there."""
    for package in ("curricle.curate", "curricle.pipelines", "curricle.train"):
        module = import_module(package)
        for name in getattr(module, "__all__", ()):
            setattr(module, name, getattr(module, name))


def setup(app: Sphinx) -> None:
    _import_all_names()
    app.connect("source-read", _links_within_the_site)


# Links go to headings as they are written on a page, on the site as in the repository.
myst_heading_anchors = 4
myst_enable_extensions = ["strikethrough"]

html_theme = "furo"
html_title = "Curricle"
html_show_sphinx = False
html_show_copyright = False  # LICENSE has it

python_maximum_signature_line_length = 88
python_use_unqualified_type_names = True
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autoclass_content = "both"

# `make links` asks for every address that is named; what sits behind a wall of its own answers no program.
linkcheck_timeout = 20
linkcheck_retries = 2
linkcheck_workers = 4
