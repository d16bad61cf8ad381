"""Lion and Schedule-Free AdamW, each as the paper's equations and as a fast optimizer (119.2).

Chapter: ``119_large_scale_training/2_optimizers``.

Read ``lion.lion_step_reference`` and ``schedule_free.ScheduleFreeReference`` first: they are the
equations, one line each. The classes ``Lion`` and ``AdamWScheduleFree`` compute the same in place.
How, is the argument ``implementation``:

=============  ====================================================================
``"loop"``     tensor by tensor; a large tensor piece by piece, so that the pieces
               stay in the cache from one operation to the next
``"foreach"``  one operation for all tensors at once: few kernel launches
``"compiled"`` the equations through ``torch.compile``: memory is read and written
               once; needs a compiler, and seconds to minutes at the first step
``"triton"``   ``Lion`` only, on a GPU: one kernel for all tensors, which finds them in a
               table of addresses (``_lion_triton``)
``"auto"``     ``"foreach"`` on an accelerator, ``"loop"`` on a CPU (the default)
=============  ====================================================================
"""
