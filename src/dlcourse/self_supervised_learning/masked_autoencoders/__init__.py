"""The masked autoencoder: hide most of an image, encode the rest, and paint what was hidden.

Chapter: ``120_self_supervised_learning/2_masked_autoencoders``.

Paper:
    He, Chen, Xie, Li, Dollár, Girshick (2022), *Masked Autoencoders Are Scalable Vision Learners*.

Three forms of one loss, equal to each other: ``reference.masked_autoencoder_loss_reference`` loops
over images and patches; ``model.MaskedAutoencoder.forward`` is the algorithm as the paper tells it,
with a prediction for every patch; ``MaskedAutoencoder.training_loss`` computes nothing that the
loss does not need. ``masking`` says which patches are hidden.
"""
