"""Settings of Sphinx for the guide; scripts/docs.sh builds it."""

import sevi_jax

project = "sevi_jax"
author = "the authors of sevi_jax"
release = version = sevi_jax.__version__

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.mathjax"]
exclude_patterns = ["data"]
html_theme = "furo"
html_title = f"sevi_jax {release}"
# -W makes errors of warnings; a link to a page or a section that is not there is one
nitpicky = False

myst_enable_extensions = ["dollarmath", "colon_fence"]
myst_heading_anchors = 3

# Notebooks are executed anew at every build, and what fails in one stops it.
nb_execution_mode = "force"
nb_execution_timeout = 1200
nb_execution_raise_on_error = True
nb_merge_streams = True

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
