"""`python -m cli` is the `repartee` command."""

from cli.app import main

main()
