"""Run the command line: `python -m embedkit`."""

from embedkit.cli import main

main()
