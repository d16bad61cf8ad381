"""Answers to 119.1b.checksum."""

import hashlib


def sha(content):
    return hashlib.sha256(content).hexdigest()


def wrong_stops_at_a_missing_file(files, manifest):
    damaged = []
    for name in sorted(manifest):
        if name not in files:
            break
        if sha(files[name]) != manifest[name]:
            damaged.append(name)
    return damaged


def wrong_goes_through_the_folder(files, manifest):
    return sorted(n for n in files if n in manifest and sha(files[n]) != manifest[n])


def wrong_foreign_files_too(files, manifest):
    names = set(files) | set(manifest)
    return sorted(n for n in names if sha(files.get(n, b"")) != manifest.get(n))


def wrong_missing_as_empty(files, manifest):
    """A file that was empty when it was saved, and is gone, passes."""
    return sorted(n for n in manifest if sha(files.get(n, b"")) != manifest[n])


def wrong_digests_as_a_set(files, manifest):
    return sorted(n for n in manifest if n not in files or sha(files[n]) not in manifest.values())


def wrong_empty_files_pass(files, manifest):
    return sorted(
        n for n in manifest if n not in files or files[n] and sha(files[n]) != manifest[n]
    )


def wrong_first_block(files, manifest):
    return sorted(n for n in manifest if n not in files or sha(files[n][:65536]) != manifest[n])


def wrong_marks_what_is_missing(files, manifest):
    for name in manifest:
        files.setdefault(name, None)
    return sorted(n for n in manifest if files[n] is None or sha(files[n]) != manifest[n])


def wrong_another_digest(files, manifest):
    return sorted(
        n for n in manifest
        if n not in files or hashlib.sha1(files[n]).hexdigest() != manifest[n]
    )  # fmt: skip


def wrong_as_a_set(files, manifest):
    return set(right_as_differences(files, manifest))


def wrong_lazily(files, manifest):
    return (name for name in right_as_differences(files, manifest))


def wrong_forgets_the_manifest(files, manifest):
    damaged = right_as_differences(files, manifest)
    for name in damaged:
        del manifest[name]
    return damaged


def right_as_differences(files, manifest):
    found = {(name, sha(content)) for name, content in files.items()}
    return sorted(name for name, _ in set(manifest.items()) - found)


def right_block_by_block(files, manifest):
    damaged = set(manifest)
    for name, content in files.items():
        digest = hashlib.new("sha256")
        for begin in range(0, len(content), 1000):
            digest.update(content[begin : begin + 1000])
        if manifest.get(name) == digest.hexdigest():
            damaged.discard(name)
    return sorted(damaged)


def right_with_bytes_of_the_digest(files, manifest):
    damaged = []
    for name in sorted(manifest):
        content = files.get(name)
        if content is None or hashlib.sha256(content).digest() != bytes.fromhex(manifest[name]):
            damaged += [name]
    return damaged
