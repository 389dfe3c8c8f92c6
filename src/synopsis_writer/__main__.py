"""`python -m synopsis_writer` is the command `synopsis`."""

from synopsis_writer.cli import main

if __name__ == "__main__":
    main()
