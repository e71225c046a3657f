"""Metrics, traces, logs, and the record of executions."""
