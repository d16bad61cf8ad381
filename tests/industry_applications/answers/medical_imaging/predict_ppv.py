"""Answers to 124.1a.predict-ppv."""

#: half; the specificity's complement; the prevalence; per cent; found of all sick and called
WRONG = [0.5, 0.1, 0.02, 15.5, 0.0196]
RIGHT = [0.155, 18 / 116, 0.1552]
