"""Structures over shared words that allocate nothing and lock nothing: lists, bitmaps, ids. Callers serialise."""
