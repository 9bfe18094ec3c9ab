"""What the application imports."""


def load():
    raise ValueError("DATABASE_URL is not set")
