"""`python -m cytolora`: the command where its script is not on the path."""

from cytolora.cli.app import main

if __name__ == "__main__":
    main()
