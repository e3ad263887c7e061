"""`python -m photinus_sanity`: the console command."""

from photinus_sanity.cli import main

if __name__ == "__main__":
    main()
