"""`python -m luthier` is the command line."""

from luthier.cli import main

main()
