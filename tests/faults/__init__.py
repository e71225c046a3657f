"""Tests of faults around the service: processes, disks, databases, clocks, the engine."""
