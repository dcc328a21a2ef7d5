"""`python -m fbr_plugin`, the same as the console script `fbr-plugin`."""

from fbr_plugin.cli.main import main

if __name__ == "__main__":
    main()
