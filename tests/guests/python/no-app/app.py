"""Has no application."""

import covet

version = covet.__version__
