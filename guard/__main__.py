"""`python -m guard`: the command line."""

from guard.cli import main

main()
