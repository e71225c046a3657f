"""Tests of this subject."""
