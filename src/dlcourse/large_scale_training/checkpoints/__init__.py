"""Crash-safe distributed checkpoints (section 119.1b).

Chapter: ``119_large_scale_training/1b_checkpoints``.

A checkpoint is a folder::

    checkpoint/
        latest                        the name of the version that counts, replaced atomically
        step-00000100-1f6c0d42/       one complete torch.distributed.checkpoint
            __0_0.distcp, …           the shards, one file a rank
            .metadata                 which tensor lies where in them
            checksums                 size and checksum of each file, written last

A new version is written beside the old one; only when every rank's data are on the disk does
``latest`` change, in one ``os.replace``, and only then is the old version removed. A process may
therefore die at any moment: ``latest`` names a complete version, the old or the new. Before
anything is loaded, every file is compared with its checksum.

The data are written by torch's distributed checkpoint (DCP): each rank writes its own shards, and
whoever loads reads what *its* sharding needs, on any number of ranks.

Read ``saving``, then ``loading`` and ``checksums``; ``asynchronous`` is a save during which
training goes on, ``random_state`` what else a resumed run needs, ``interval`` how often to save.
"""
