"""What a representation is worth: nearest neighbours, linear probes, and fine-tuning.

Chapter: ``120_self_supervised_learning`` (every section).

``frozen_features`` computes the features of a frozen encoder once; ``nearest_neighbours`` and
``probes`` read a class off them in seconds; ``fine_tuning`` trains encoder and head together, from
any start, with one budget for all. Everything is fitted on ``train`` and chosen on ``validation``;
``test`` is touched once, for the number that is reported.

**Labels are counted.** What is chosen on ``validation`` (a decay, a rate, a number of steps) uses
its labels too. A result "with 40 labels" whose decay was chosen on 1,000 more has used 1,040; cut
both splits, or say both numbers.
"""
