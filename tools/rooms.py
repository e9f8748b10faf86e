"""The rooms of the house in the order of the imports, and the table of them in CONTRIBUTING.md."""

FACADE = "lossjax"
"""``lossjax/__init__.py``: the flat public API."""

ROOMS = (
    "_core", "numerics", "_softmax", "_rules", "losses", "geometry", "families", FACADE, "optax", "verify", "plot",
    "bench", "cli",
)  # fmt: skip
"""Top to bottom is the way of the data: a room imports only from itself and from the public face of rooms before it."""
