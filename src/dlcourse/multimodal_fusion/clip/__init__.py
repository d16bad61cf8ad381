"""CLIP and its relatives: two towers, one space, and the losses that bring them together."""
