"""`python -m cli` runs the `repartee` command."""

from cli.app import main

main()
