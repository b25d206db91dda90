"""``python -m mia_lightning``: the command line, where no script is installed."""

from mia_lightning.cli.main import main

if __name__ == "__main__":
    main()
