"""`photinus-ipfs`: the connector as a process."""

from photinus_sdk import serve

from photinus_ipfs.connector import IpfsConnector


def main() -> None:
    """Serve until told to stop."""
    serve(IpfsConnector)


if __name__ == "__main__":
    main()
