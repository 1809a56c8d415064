"""Designs of users' own: a file is chosen by its path, kept as it was read, loaded, and asked for its form.

    for design in choose(("davydov", "path/to/mine.py")):
        ...                 # design.name is for people, design.module for `kernel.bind_design` and `native.run`

What a file does when it runs is tried in `executions/admission.py`. A file is read once: every process of a
command runs the text that was read then, whatever becomes of the file meanwhile (docs/decisions/0011).
"""

from shmreclaim.plugins.choice import Design, choose, design_files, is_plugin

__all__ = ["Design", "choose", "design_files", "is_plugin"]
