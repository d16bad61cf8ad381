"""Section 121.1a: sound and picture in one model, fused late, by attention or a bottleneck.

Papers:
    Vaswani et al. (2017), *Attention Is All You Need*.
    Lu et al. (2019), *ViLBERT* (attention from each modality to the other).
    Nagrani et al. (2021), *Attention Bottlenecks for Multimodal Fusion*.
    Neverova et al. (2016), *ModDrop* (training with a modality left out).
"""
