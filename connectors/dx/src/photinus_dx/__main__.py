"""`photinus-dx`: the connector as a process."""

from photinus_sdk import serve

from photinus_dx.connector import DxConnector


def main() -> None:
    """Serve until told to stop."""
    serve(DxConnector)


if __name__ == "__main__":
    main()
