"""How Sphinx builds the pages of this folder: `make docs`."""

project = "gate"
copyright = "the authors of gate"  # noqa: A001 - Sphinx's name
extensions = ["myst_parser", "sphinx.ext.autodoc"]
exclude_patterns = ["*.py"]
html_theme = "furo"
html_copy_source = False

myst_heading_anchors = 3  # GitHub's anchors, so that a link works here and there

default_role = "code"  # the docstrings write `name`, as Markdown does
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
autodoc_type_aliases = {
    name: name for name in ("Application", "Environ", "Receive", "Scope", "Send", "Source", "StartResponse")
}
python_use_unqualified_type_names = True
