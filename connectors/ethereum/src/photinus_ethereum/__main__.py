"""`photinus-ethereum`: runs the connector until SIGTERM or SIGINT."""

from photinus_sdk import serve

from photinus_ethereum.service import EthereumConnector


def main() -> None:
    """Entry point of the console script."""
    serve(EthereumConnector)


if __name__ == "__main__":
    main()
