"""Answers to 121.1a.predict-pairs."""

WRONG = {
    "shared tokens to everybody": 1968**2 / (400**2 + 1568**2 + 4 * 1968) * 1.3,
    "cross-attention both ways": 1968**2 / (2 * 400 * 1568),
    "upside down": (404**2 + 1572**2) / 1968**2,
    "one attention for both": 1968**2 / 1972**2,
}
RIGHT = {"rounded": 1.47, "from the squares": 1968**2 / (404**2 + 1572**2)}
