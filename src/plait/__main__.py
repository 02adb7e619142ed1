"""`python -m plait` is `plait`."""

from .cli import main

main()
