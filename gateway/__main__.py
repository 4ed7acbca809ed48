"""The program: `gateway`, or `python -m gateway`."""

from gateway.cli import loading_modules


def main() -> None:
    """Run the command line."""
    with loading_modules():
        from gateway.cli import main as command_line
    command_line.main()


if __name__ == "__main__":
    main()
