"""DINO and DINOv2: a student learns to predict its own moving average on other views of an image.

Chapter: ``120_self_supervised_learning/1b_dino``.

Read in this order: ``head`` (features to K scores), ``dino_loss`` (teacher against student),
``teacher`` (the moving average), ``model`` (the three together, on several crops). DINOv2 adds
``sinkhorn_knopp``, ``ibot_loss`` with its ``masks``, and ``koleo``.
"""
