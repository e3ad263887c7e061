"""The program: configuration, composition, command line, metrics."""
