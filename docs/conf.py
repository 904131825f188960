"""Sphinx configuration. ``make docs`` builds with warnings as errors and reaches for no network."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import c2s

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from commands import write_commands  # noqa: E402

GENERATED = HERE / "api" / "generated"
shutil.rmtree(GENERATED, ignore_errors=True)
write_commands(GENERATED / "commands.md")
COPIES = HERE / "notebooks"
shutil.rmtree(COPIES, ignore_errors=True)
COPIES.mkdir()
for notebook in sorted((HERE.parent / "notebooks").glob("[0-9]*.ipynb")):
    shutil.copy(notebook, COPIES)

project = "c2s"
author = "The c2s maintainers"
version = release = c2s.__version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
]
exclude_patterns = ["_build", "jupyter_execute", "**.ipynb_checkpoints"]

myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3
nb_execution_mode = "cache"  # executed where their cells changed since the last build, so that the pages have pictures
nb_execution_raise_on_error = True
nb_execution_in_temp = True
nb_execution_timeout = 900
nb_output_stderr = "remove"
os.environ["MPLBACKEND"] = "module://matplotlib_inline.backend_inline"  # of the notebooks' kernel

autosummary_generate = True
autodoc_typehints = "none"  # the docstrings name types and shapes
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True, "show-inheritance": False, "exclude-members": "model_config, model_fields"}
napoleon_google_docstring = False
napoleon_numpy_docstring = True
napoleon_use_ivar = True
napoleon_use_rtype = False
templates_path = ["_templates"]

html_theme = "pydata_sphinx_theme"
html_static_path = ["_static"]
html_title = f"c2s {release}"
html_sidebars = {"**": []}  # every page stands at the top level
html_theme_options = {
    "show_toc_level": 2,
    "navigation_with_keys": False,
    "show_prev_next": False,
    "header_links_before_dropdown": 7,
}
copybutton_prompt_text = "$ "
