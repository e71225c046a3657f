"""Attacks: from inside a kernel, by what a kernel sends, and by callers."""
