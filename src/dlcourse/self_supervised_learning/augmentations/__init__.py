"""Random views of an image: several crops of one image, and one view each of a whole batch.

Chapter: ``120_self_supervised_learning`` (sections 1a and 1b).

``multi_crop`` takes one image and is made of torchvision's ``transforms.v2``: this is what the
workers of a data loader run. Given a batch, a transform of torchvision draws once and does the same
to every image; a contrastive loss would then see the same crop everywhere. ``batch_views`` draws
for each image, and computes the whole batch at once, on its device.

All give values in [0, 1]; a model that wants them normalised does so itself.
"""
