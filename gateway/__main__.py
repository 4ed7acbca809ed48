"""The program: `gateway`, or `python -m gateway`."""

from gateway.interrupts import loading_modules


def main() -> None:
    """Run the command line."""
    with loading_modules():
        from gateway import cli
    cli.main()


if __name__ == "__main__":
    main()
