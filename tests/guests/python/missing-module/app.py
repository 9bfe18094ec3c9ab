"""Imports a package that it does not name among its dependencies."""

import requests_that_nobody_has
from covet import CovetPy

app = CovetPy()
