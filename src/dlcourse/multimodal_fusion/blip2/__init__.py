"""121.2b: BLIP-2: a Q-Former between a frozen image model and a frozen language model.

Source: J. Li, D. Li, S. Savarese and S. Hoi (2023), BLIP-2: Bootstrapping Language-Image
Pre-training with Frozen Image Encoders and Large Language Models, ICML,
https://arxiv.org/abs/2301.12597. "LAVIS" in comments is the authors' code.
"""
