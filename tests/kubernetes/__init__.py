"""Kernels as pods of a real cluster of one node, which `make test-kubernetes` starts.

The acceptance suite runs against pods as well, see the Makefile; here is what Docker has no counterpart of.
"""
