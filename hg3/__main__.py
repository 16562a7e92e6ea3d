"""python -m hg3: the command hg3, for those that start modules, as torchrun does."""

from hg3.cli.app import main

main()
