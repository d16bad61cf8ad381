"""Many processes: the group, data parallelism, sharding, and what they cost (section 119.1a).

Chapter: ``119_large_scale_training/1a_distributed``. Read ``world`` (who and how many we are), then
``sharding`` (DDP, FSDP2); ``launch`` starts the processes; ``memory``, ``communication`` and
``planner`` are the formulas of cost.
"""
