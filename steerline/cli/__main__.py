"""`python -m steerline.cli`."""

from steerline.cli.app import main

main()
