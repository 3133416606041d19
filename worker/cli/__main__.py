"""`python -m worker.cli` runs the command without an installed script."""

from worker.cli import main

if __name__ == "__main__":
    main()
