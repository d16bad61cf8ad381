"""Answers to 119.2.predict-beta."""

from decimal import Decimal

import torch

WRONG = [550, 630, 600.0 - 600, 58.9, 5890, 1 / 3, torch.tensor([589]), {589}, complex(589)]
RIGHT = [589, 587.8, 600, 575, Decimal("590"), torch.tensor(590.0)]
