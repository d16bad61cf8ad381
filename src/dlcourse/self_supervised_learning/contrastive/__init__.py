"""Contrastive learning: the NT-Xent loss, SimCLR, and two numbers that tell what the loss does.

Chapter: ``120_self_supervised_learning/1a_contrastive``.

Read ``nt_xent.nt_xent_reference`` first: it is the equation, as a double loop. ``nt_xent.nt_xent``
computes the same as one cross-entropy. Then ``simclr``, the model, and ``sphere``, the two numbers.
"""
