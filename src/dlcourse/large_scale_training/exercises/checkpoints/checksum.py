"""119.1b: which files of a checkpoint can be trusted."""

import hashlib

from dlcourse.exercises import Exercise, Mistake


def damaged_files(files, manifest):
    """Return the names of the files that are missing or changed, a sorted list.

    files: dict of name -> bytes, what lies in the folder now.
    manifest: dict of name -> SHA-256, in hex, of what was saved.
    """
    damaged = []
    for name, digest in manifest.items():
        if name not in files or hashlib.sha256(files[name]).hexdigest() != digest:
            damaged.append(name)
    return sorted(damaged)


def _digest(content):
    return hashlib.sha256(content).hexdigest()


def cases(rng):
    """Files of a few ranks, some of them damaged, each in another way."""
    names = ["metadata", *(f"rank-{r}" for r in range(int(rng.integers(4, 7))))]
    saved = {str(n): rng.bytes(int(rng.integers(4, 12))) for n in rng.permutation(names)}
    manifest = {name: _digest(content) for name, content in saved.items()}
    flipped, cut, gone, *others = (str(n) for n in rng.permutation(names))
    files = {**saved, "notes.txt": b"of the user's own", flipped: _flip(rng, saved[flipped])}
    if rng.random() < 0.7:
        files[cut] = saved[cut][: int(rng.integers(len(saved[cut])))]
    if rng.random() < 0.7:
        del files[gone]
    if len(others) > 1 and rng.random() < 0.7:  # two that were swapped
        files[others[0]], files[others[1]] = saved[others[1]], saved[others[0]]
    return {"files": files, "manifest": manifest}


def _flip(rng, content):
    place = int(rng.integers(len(content)))
    changed = bytes([content[place] ^ 1 << int(rng.integers(8))])
    return content[:place] + changed + content[place + 1 :]


def edges():
    """All is well; all is gone; equal files; empty and long files; two that were swapped."""
    long = bytes(200_000)
    saved = {"rank-0": b"weights", "rank-1": b"moments", "rank-2": b"weights", "marker": b""}
    manifest = {name: _digest(content) for name, content in saved.items()}
    swapped = {**saved, "rank-0": saved["rank-1"], "rank-1": saved["rank-0"]}
    return {
        "all is well": {"files": saved, "manifest": manifest},
        "all is gone": {"files": {}, "manifest": manifest},
        "nothing was saved": {"files": {"notes.txt": b"x"}, "manifest": {}},
        "two were swapped": {"files": swapped, "manifest": manifest},
        "a file was emptied": {"files": {**saved, "rank-1": b""}, "manifest": manifest},
        "an empty file has grown": {"files": {**saved, "marker": b"\0"}, "manifest": manifest},
        "long files, and one last byte": {
            "files": {"rank-0": long, "rank-1": long[:-1] + b"\1"},
            "manifest": {"rank-0": _digest(long), "rank-1": _digest(long)},
        },
        "of the same length": {"files": {**saved, "rank-2": b"weightz"}, "manifest": manifest},
    }


def listing(files, manifest):
    """The document's checkpoint has no checksums: what is there is loaded."""
    return []


def missing_alone(files, manifest):
    return sorted(set(manifest) - set(files))


def missing_is_fine(files, manifest):
    there = {name: digest for name, digest in manifest.items() if name in files}
    return damaged_files(files, there)


def of_some_file(files, manifest):
    known = set(manifest.values())
    return sorted(n for n in manifest if n not in files or _digest(files[n]) not in known)


def others_too(files, manifest):
    return sorted({*damaged_files(files, manifest), *(set(files) - set(manifest))})


def first_alone(files, manifest):
    return damaged_files(files, manifest)[:1]


def intact(files, manifest):
    return sorted(set(manifest) - set(damaged_files(files, manifest)))


def not_sorted(files, manifest):
    damaged = set(damaged_files(files, manifest))
    return [name for name in reversed(sorted(manifest)) if name in damaged]


EXERCISE = Exercise(
    key="119.1b.checksum",
    title="Which files can be trusted?",
    difficulty="implement",
    statement=r"""
A flipped bit on a disk changes a weight, and no loader notices: any bytes are numbers. So a
checkpoint is saved with a *manifest*, the SHA-256 of each of its files, and every file is compared
with it before anything is written into the model. Write that comparison. A file of the manifest is
damaged if it is missing, or if its bytes are not those that were saved *under its name*. Files that
the manifest does not list are somebody else's and do not matter. Return the names of the damaged
files, sorted: none if all is well.
""",
    imports="import hashlib",
    reference=damaged_files,
    cases=cases,
    edges=edges,
    discussion=r"""
The comparison costs one reading of the files. It finds accidents, of the disk, the network or a
copy that was cut off. It is no protection from somebody who changes file and manifest together:
that takes a signature.
""",
    hints=[
        "Go through the manifest, not through the folder: what is missing is found there only.",
        "`hashlib.sha256(content).hexdigest()` is what the manifest holds.",
        "Compare each file with the digest of its own name: two files may have been swapped.",
    ],
    mistakes={
        "listing": Mistake(
            answer=listing,
            hint="nothing is ever found damaged. So it is with the document's checkpoint, which "
            "keeps no checksums: whatever lies there is loaded.",
        ),
        "missing_alone": Mistake(
            answer=missing_alone,
            hint="you look which files are there, not what is in them.",
        ),
        "missing_is_fine": Mistake(
            answer=missing_is_fine,
            hint="files that are missing are passed over. A checkpoint without one of its parts "
            "can't be loaded either.",
        ),
        "of_some_file": Mistake(
            answer=of_some_file,
            hint="a file passes if its digest is that of any file. Two that were swapped are then "
            "taken for intact: compare each with the digest of its own name.",
        ),
        "others_too": Mistake(
            answer=others_too,
            hint="files that the manifest does not list are counted as damaged. They are not part "
            "of the checkpoint.",
        ),
        "first_alone": Mistake(
            answer=first_alone,
            hint="the search ends at the first damaged file. Name all of them.",
        ),
        "intact": Mistake(
            answer=intact,
            hint="you return the files that are intact. The others were asked for.",
        ),
        "not_sorted": Mistake(
            answer=not_sorted,
            hint="the names are right, but not sorted.",
        ),
    },
)
