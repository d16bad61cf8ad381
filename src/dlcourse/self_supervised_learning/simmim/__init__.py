"""SimMIM: hide blocks of an image, replace them by a mask token, regress their pixels.

Chapter: ``120_self_supervised_learning/1c_simmim``.

Paper: Xie et al. (2022), *SimMIM: A Simple Framework for Masked Image Modeling*.

Read ``masks`` (what is hidden), then ``model`` (loss and model). ``nearest`` says what can be
guessed without learning.
"""
