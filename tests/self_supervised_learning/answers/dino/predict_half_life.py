"""Answers to 120.1b.predict-half-life."""

import math

WRONG = [173, 1000, 2000, 1450, 1340, 692, 139, "1386", math.nan, (1386,)]
RIGHT = [1386, 1387, 1400, math.log(2) / 0.0005, 1386.0]
