"""Section 122.1c: on-policy learning in thousands of environments at once.

Papers:
    Schulman et al. (2016), *High-Dimensional Continuous Control Using Generalized Advantage
    Estimation*.
    Schulman et al. (2017), *Proximal Policy Optimization Algorithms*.
    Andrychowicz et al. (2021), *What Matters for On-Policy Deep Actor-Critic Methods?*
    Huang et al. (2022), *The 37 Implementation Details of Proximal Policy Optimization*.
    Rudin et al. (2021), *Learning to Walk in Minutes Using Massively Parallel Deep Reinforcement
    Learning*.
"""
