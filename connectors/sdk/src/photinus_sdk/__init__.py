"""The author kit: what every connector of Photinus needs, so that its author writes one class."""
